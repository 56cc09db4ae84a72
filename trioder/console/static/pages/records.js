/** The last dispatches, alarms and sessions of an asset or a site, beside each other. */

import { severityBadge, stateBadge } from "../components/badges.js";
import { panel } from "../components/page.js";
import { empty, showLoaded } from "../components/states.js";
import { get, withQuery } from "../core/api.js";
import { h, nameOf, throttle } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { dateTime, duration, mw, words } from "../core/format.js";
import { agentLink } from "./sources.js";

const MOST = 8;

/**
 * @param {HTMLElement} parent
 * @param {{signal: AbortSignal, filter: {asset_id?: string, site_id?: string}}} options
 */
export function openRecords(parent, { signal, filter }) {
  const show = (title, path, query, topics, item, none) => {
    const body = h("div");
    const load = () => get(path, { query: { ...query, ...filter, limit: MOST }, signal });
    parent.append(panel({ title, class: "span-4 panel-flush", actions: [h("a", { href: withQuery(path === "/agents/sessions" ? "/agents" : path, path === "/alarms" ? { ...filter, state: "all" } : filter) }, "All")] }, body));
    const first = () => showLoaded(body, { what: title.toLowerCase(), signal, load, show: (rows) => list(rows, item, none) });
    const again = throttle(() => void load().then((rows) => body.replaceChildren(list(rows, item, none)), () => {}), 2000, signal);
    fleet.on(topics, again, signal);
    void first();
  };
  show("Dispatches", "/dispatch", {}, "dispatch", dispatchItem, "It was never dispatched.");
  show("Alarms", "/alarms", { state: "all" }, "alarms", alarmItem, "No alarm is recorded.");
  show("Sessions", "/agents/sessions", {}, "sessions", sessionItem, "No session is recorded.");
}

const list = (rows, item, none) => (rows.length === 0 ? empty(none) : h("ul", { class: "records" }, rows.map((row) => h("li", null, item(row)))));

function dispatchItem(dispatch) {
  return h("a", { class: "record", href: `/dispatch/${dispatch.dispatch_id}` },
    h("span", { class: "number muted" }, dateTime(dispatch.dispatched_at)),
    h("span", null, nameOf(fleet.targetOf(dispatch.target, dispatch.members).text), " ", h("b", { class: "number" }, dispatch.priority === "emergency" ? "stop" : mw(dispatch.mw))),
    stateBadge(dispatch.state));
}

function alarmItem(alarm) {
  return h("a", { class: "record", href: `/alarms/${alarm.alarm_id}`, title: alarm.reason.slice(0, 500) },
    h("span", { class: "number muted" }, dateTime(alarm.raised_at)),
    h("span", null, words(alarm.kind), h("span", { class: "muted" }, alarm.state === "open" ? " · open" : "")),
    severityBadge(alarm.severity));
}

function sessionItem(session) {
  const ended = session.disconnected_at;
  return h("div", { class: "record" },
    h("span", { class: "number muted" }, dateTime(session.connected_at)),
    h("span", null, agentLink(session.agent_id)),
    h("span", { class: "muted" }, ended ? `for ${duration(Math.round((Date.parse(ended) - Date.parse(session.connected_at)) / 1000))}` : "connected"));
}
