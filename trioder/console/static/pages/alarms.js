/** Alarms: the open ones live, the cleared ones as records; acknowledged here. */

import { severityBadge } from "../components/badges.js";
import { choice, pageHeader } from "../components/page.js";
import { openTable } from "../components/table.js";
import { h, nameOf, throttle } from "../core/dom.js";
import { fleet, SEVERITIES } from "../core/fleet-state.js";
import { dateMinute, dateTime, duration, shortIds, wholeTime, words, zoneName } from "../core/format.js";
import { acknowledgeButton } from "./acknowledge.js";
import { openPagedTable } from "./paged-table.js";
import { alarmSource, alarmSourceText } from "./sources.js";

export const page = {
  title: "Alarms",
  open(view, { query, signal, setQuery }) {
    const state = query.get("state") ?? "open";
    const filters = { severity: query.get("severity") ?? "", site_id: query.get("site_id"), asset_id: query.get("asset_id"), agent_id: query.get("agent_id") };
    const body = h("div", { class: "page-body" });
    const open = (kind) => {
      inner.abort();
      inner = new AbortController();
      const part = AbortSignal.any([signal, inner.signal]);
      body.replaceChildren(kind === "open" ? openAlarms(filters, part) : recordedAlarms(kind, filters, part));
    };
    let inner = new AbortController();
    const states = choice({
      label: "State", signal, value: state, options: [["open", "Open"], ["cleared", "Cleared"], ["all", "All"]],
      onChange: (value) => { setQuery({ state: value === "open" ? null : value }); states.value = value; open(value); },
    });
    states.value = state;
    const severities = choice({
      label: "Severity", signal, value: filters.severity, options: [["", "Any severity"], ...[...SEVERITIES].reverse().map((name) => [name, words(name)])],
      onChange: (value) => { setQuery({ severity: value || null }); filters.severity = value; open(states.value); },
    });
    view.append(
      pageHeader({ title: "Alarms", detail: h("span", null, `Times are local, ${zoneName()}. `, narrowed(filters)) }),
      h("div", { class: "toolbar" }, states.element, severities.element), body);
    open(state);
  },
};

function narrowed({ site_id: site, asset_id: asset, agent_id: agent }) {
  if (!site && !asset && !agent) return null;
  const text = asset ? fleet.assetName(asset) : site ? fleet.siteName(site) : `agent ${agent}`;
  return h("span", null, "Only of ", nameOf(text), " · ", h("a", { href: "/alarms" }, "show all"));
}

const columns = (acknowledge) => [
  { id: "severity", label: "Severity", width: 104, value: (alarm) => SEVERITIES.indexOf(alarm.severity), render: (alarm, cell) => cell.replaceChildren(severityBadge(alarm.severity)) },
  { id: "kind", label: "Kind", width: 168, value: (alarm) => alarm.kind, text: (alarm) => words(alarm.kind) },
  { id: "source", label: "Source", width: "1.3fr", value: alarmSourceText, render: (alarm, cell) => cell.replaceChildren(alarmSource(alarm)) },
  { id: "reason", label: "Reason", width: "2fr", value: (alarm) => alarm.reason, render: (alarm, cell) => cell.replaceChildren(h("bdi", { class: "name", title: alarm.reason.slice(0, 500) }, shortIds(alarm.reason).slice(0, 500))) },
  { id: "raised", label: "Raised", width: 124, align: "end", value: (alarm) => alarm.raised_at, text: (alarm) => dateTime(alarm.raised_at) },
  { id: "lasted", label: "Open for", width: 112, align: "end", value: (alarm) => lasted(alarm), text: (alarm) => duration(Math.round(lasted(alarm))) },
  { id: "acknowledged", label: "Acknowledged", width: 150, value: (alarm) => alarm.acknowledged_at ?? "", render: (alarm, cell) => cell.replaceChildren(acknowledge(alarm)) },
];

/** How long an alarm has been open, or was, in s. */
function lasted(alarm) {
  return ((alarm.cleared_at ? Date.parse(alarm.cleared_at) : fleet.now()) - Date.parse(alarm.raised_at)) / 1000;
}

const matches = (alarm, { severity, site_id: site, asset_id: asset, agent_id: agent }) =>
  (!severity || alarm.severity === severity) && (!site || alarm.site_id === site) && (!asset || alarm.asset_id === asset) && (!agent || alarm.agent_id === agent);

/** From the live feed: what is open now. */
function openAlarms(filters, signal) {
  const container = h("div", { class: "full-table live" });
  const table = openTable(container, {
    signal, label: "Open alarms", columns: columns((alarm) => acknowledged(alarm, signal)), rowKey: (alarm) => alarm.alarm_id, href: (alarm) => `/alarms/${alarm.alarm_id}`,
  });
  table.setSort("severity", true);
  const show = throttle(() => {
    const rows = [...fleet.alarms.values()].filter((alarm) => matches(alarm, filters)).sort((a, b) => (a.raised_at < b.raised_at ? 1 : -1));
    table.setRows(rows);
    if (!fleet.complete) table.setState({ kind: "loading", message: "Loading alarms …" });
    else table.setState(rows.length ? { kind: "ready" } : { kind: "empty", message: fleet.alarms.size ? "No open alarm matches." : "No alarm is open." });
  }, 250, signal);
  fleet.on(["alarms", "snapshot", "assets"], show, signal);
  const timer = setInterval(show, 5000);
  signal.addEventListener("abort", () => clearInterval(timer));
  show();
  return container;
}

function recordedAlarms(state, filters, signal) {
  const records = openPagedTable({
    signal, label: "Alarms", columns: columns((alarm) => acknowledged(alarm, signal, () => void records.reload())), rowKey: (alarm) => alarm.alarm_id,
    path: "/alarms", query: () => ({ state, ...filters }), cursor: (alarm) => alarm.alarm_id, empty: "No alarm matches.",
    href: (alarm) => `/alarms/${alarm.alarm_id}`,
  });
  void records.reload();
  return records.element;
}

function acknowledged(alarm, signal, done = () => {}) {
  if (!alarm.acknowledged_at) return acknowledgeButton(alarm, { signal, done }) ?? h("span", { class: "muted" }, "no");
  return h("span", { class: "name", title: wholeTime(alarm.acknowledged_at) }, `✓ ${dateMinute(alarm.acknowledged_at)} `, nameOf(alarm.acknowledged_by ?? ""));
}
