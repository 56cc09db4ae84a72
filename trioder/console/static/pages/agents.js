/** Agents: a row for each process, with its clock, its backlog and when it was last seen; one agent's sessions. */

import { facts, pageHeader, panel } from "../components/page.js";
import { showLoaded } from "../components/states.js";
import { openTable } from "../components/table.js";
import { ApiError, get } from "../core/api.js";
import { every, h, nameOf, throttle } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { count, dateMinute, dateTime, day, duration, NONE, number, plural, wholeTime, zoneName } from "../core/format.js";
import { openPagedTable } from "./paged-table.js";

/** Beyond these a value is emphasised; the headend's alarms have their own limits. */
const SKEW_S = 1;
const BACKLOG_S = 30;
const EXPIRES_S = 30 * 86400;

const age = (at) => (at ? Math.max(0, (fleet.now() - Date.parse(at)) / 1000) : null);
const emphasised = (text, abnormal) => (abnormal ? h("span", { class: "tone-warning" }, `▲ ${text}`) : text);
const fill = (cell, value) => cell.replaceChildren(value);

const COLUMNS = [
  { id: "agent", label: "Agent", width: "1.5fr", value: (agent) => agent.agent_id, render: (agent, cell) => fill(cell, h("a", { href: `/agents?agent_id=${encodeURIComponent(agent.agent_id)}` }, nameOf(agent.agent_id))) },
  { id: "state", label: "State", width: 114, value: (agent) => Number(agent.connected), render: (agent, cell) => fill(cell, connection(agent)) },
  { id: "assets", label: "Assets", width: 72, align: "end", value: (agent) => agent.assets, text: (agent) => count(agent.assets) },
  { id: "since", label: "Since", width: 112, align: "end", value: (agent) => since(agent) ?? "", text: (agent) => dateMinute(since(agent)) },
  { id: "seen", label: "Last seen", unit: "ago", width: 120, align: "end", value: (agent) => age(agent.last_seen_at) ?? Infinity, text: (agent) => duration(age(agent.last_seen_at)) },
  { id: "skew", label: "Clock skew", unit: "s", width: 112, align: "end", value: (agent) => agent.clock_skew_s ?? 0, render: (agent, cell) => fill(cell, emphasised(number(agent.clock_skew_s, 3), Math.abs(agent.clock_skew_s ?? 0) > SKEW_S)) },
  { id: "backlog", label: "Backlog", width: 88, align: "end", value: (agent) => agent.backlog_s ?? 0, render: (agent, cell) => fill(cell, backlog(agent)) },
  { id: "version", label: "Version", width: 78, value: (agent) => agent.version ?? "", text: (agent) => agent.version ?? NONE },
  { id: "peer", label: "Peer", width: 138, value: (agent) => agent.peer ?? "", render: (agent, cell) => fill(cell, nameOf(agent.peer, NONE)) },
  { id: "certificate", label: "Certificate", unit: "until", width: 128, align: "end", value: (agent) => agent.certificate_expires_at ?? "", render: (agent, cell) => fill(cell, certificate(agent)) },
];

const since = (agent) => (agent.connected ? agent.connected_at : agent.disconnected_at);

function connection({ connected }) {
  return connected
    ? h("span", { class: "badge tone-ok" }, h("span", { class: "badge-symbol", "aria-hidden": "true" }, "●"), "connected")
    : h("span", { class: "badge tone-critical" }, h("span", { class: "badge-symbol", "aria-hidden": "true" }, "✕"), "away");
}

function backlog({ backlog_batches: batches, backlog_s: seconds }) {
  if (batches === null || batches === undefined) return NONE;
  return batches === 0 ? "none" : emphasised(`${plural(batches, "batch", "batches")}, ${duration(seconds)}`, seconds > BACKLOG_S);
}

function certificate({ certificate_expires_at: at }) {
  if (!at) return NONE;
  return emphasised(day(at), (Date.parse(at) - fleet.now()) / 1000 < EXPIRES_S);
}

const SESSION_COLUMNS = [
  { id: "connected", label: "Connected", width: 150, sortable: false, text: (session) => dateTime(session.connected_at) },
  { id: "ended", label: "Disconnected", width: 150, sortable: false, text: (session) => (session.disconnected_at ? dateTime(session.disconnected_at) : "still connected") },
  { id: "lasted", label: "Lasted", width: 120, align: "end", sortable: false, text: (session) => duration(Math.round(((session.disconnected_at ? Date.parse(session.disconnected_at) : fleet.now()) - Date.parse(session.connected_at)) / 1000)) },
  { id: "assets", label: "Assets", width: 80, align: "end", sortable: false, text: (session) => count(session.assets) },
  { id: "peer", label: "Peer", width: 170, sortable: false, render: (session, cell) => fill(cell, nameOf(session.peer, NONE)) },
  { id: "reason", label: "Reason", width: "1fr", sortable: false, render: (session, cell) => fill(cell, nameOf(session.reason ?? "", NONE)) },
];

export const page = {
  title: "Agents",
  open(view, { query, signal, setTitle }) {
    const id = query.get("agent_id");
    if (id) {
      setTitle(`Agent ${id.slice(0, 60)}`);
      openAgent(view, id, signal);
    } else {
      openAgents(view, signal);
    }
  },
};

function openAgents(view, signal) {
  const container = h("div", { class: "full-table live" });
  const note = h("span", { class: "page-detail" });
  view.append(pageHeader({ title: "Agents", detail: h("span", null, `Times are local, ${zoneName()}. `, note) }), container);
  const table = openTable(container, { signal, label: "Agents", columns: COLUMNS, rowKey: (agent) => agent.agent_id });
  table.setSort("state", false);
  table.setState({ kind: "loading", message: "Loading agents …" });
  let agents = [];
  const load = async () => {
    try {
      agents = await get("/agents/processes", { signal });
      table.setRows(agents);
      table.setState(agents.length ? { kind: "ready" } : { kind: "empty", message: "No agent has connected since the headend started." });
      const away = agents.filter(({ connected }) => !connected).length;
      note.textContent = `${plural(agents.length, "agent")}, ${away ? `${count(away)} away` : "all connected"}.`;
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      if (agents.length === 0) table.setState({ kind: "error", message: error.message });
    }
  };
  follow(load, signal);
}

/** Reads again when a session opens or closes, and every 10 s: skew and backlog are not in the live feed. */
function follow(load, signal) {
  fleet.on(["sessions", "snapshot"], throttle(() => void load(), 1000, signal), signal);
  every(10_000, () => void load(), signal);
  void load();
}

function openAgent(view, id, signal) {
  const body = h("div");
  const records = openPagedTable({
    signal, label: "Sessions", columns: SESSION_COLUMNS, rowKey: (session) => session.session_id, path: "/agents/sessions", pageRows: 100,
    query: () => ({ agent_id: id }), cursor: (session) => session.session_id, empty: "No session is recorded. Without a database none is kept.",
  });
  view.append(
    pageHeader({
      title: nameOf(id), back: { href: "/agents", text: "Agents" },
      actions: [h("a", { class: "button", href: `/events?agent_id=${encodeURIComponent(id)}` }, "Events"), h("a", { class: "button", href: `/alarms?state=all&agent_id=${encodeURIComponent(id)}` }, "Alarms")],
    }),
    h("div", { class: "panels" }, panel({ title: "Now", live: true }, body), panel({ title: "Sessions", class: "agent-sessions" }, records.element)));
  const load = async () => {
    const agents = await get("/agents/processes", { signal });
    return agents.find(({ agent_id: other }) => other === id) ?? null;
  };
  void showLoaded(body, { what: "the agent", signal, load, show: (agent) => (agent ? agentFacts(agent) : h("p", { class: "muted" }, "It has not connected since the headend started.")) });
  const again = async () => {
    try {
      const agent = await load();
      if (agent) body.replaceChildren(agentFacts(agent));
    } catch (error) {
      // The last values stay, greyed with the lost feed.
      if (!(error instanceof ApiError) && error.name !== "AbortError") throw error;
    }
  };
  fleet.on("sessions", ({ agent_id: other }) => { if (other === id) { void again(); void records.reload(); } }, signal);
  every(10_000, () => void again(), signal);
  void records.reload();
}

function agentFacts(agent) {
  const at = (value) => (value ? h("time", { datetime: value, title: wholeTime(value) }, dateTime(value)) : NONE);
  return facts([
    ["State", connection(agent)],
    [agent.connected ? "Connected since" : "Away since", at(since(agent))],
    ["Reason", agent.reason ? nameOf(agent.reason) : null],
    ["Last seen", `${duration(age(agent.last_seen_at))} ago`],
    ["Assets", count(agent.assets)],
    ["Sites", agent.site_ids ? count(agent.site_ids.length) : "more than 256"],
    ["Clock skew", agent.clock_skew_s === null ? NONE : `${number(agent.clock_skew_s, 3)} s ± ${number(agent.clock_error_s, 3)} s`],
    ["Backlog", backlog(agent)],
    ["Version", agent.version ?? NONE],
    ["Peer", nameOf(agent.peer, NONE)],
    ["Identity", agent.identity ? nameOf(agent.identity) : null],
    ["Certificate until", agent.certificate_expires_at ? at(agent.certificate_expires_at) : null],
  ]);
}
