/** Events: what agents reported, and the transitions of alarms. */

import { severityBadge } from "../components/badges.js";
import { choice, pageHeader } from "../components/page.js";
import { h, nameOf, throttle } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { dateTime, shortIds, words, zoneName } from "../core/format.js";
import { openPagedTable } from "./paged-table.js";
import { agentLink, assetLink } from "./sources.js";

const COLUMNS = [
  { id: "time", label: "Time", width: 124, sortable: false, text: (event) => dateTime(event.time) },
  { id: "severity", label: "Severity", width: 100, sortable: false, render: (event, cell) => cell.replaceChildren(severityBadge(event.severity)) },
  { id: "type", label: "Type", width: 196, sortable: false, render: (event, cell) => cell.replaceChildren(nameOf(event.event_type)) },
  { id: "source", label: "Source", width: "1fr", sortable: false, render: (event, cell) => cell.replaceChildren(source(event)) },
  { id: "message", label: "Message", width: "2fr", sortable: false, render: (event, cell) => cell.replaceChildren(h("bdi", { class: "name", title: event.message.slice(0, 500) }, shortIds(event.message || "–").slice(0, 500))) },
  { id: "alarm", label: "Alarm", width: 90, sortable: false, render: (event, cell) => cell.replaceChildren(event.alarm_id ? h("a", { href: `/alarms/${event.alarm_id}` }, "alarm") : "") },
];

function source(event) {
  if (event.asset_id) return assetLink(event.asset_id);
  return event.agent_id ? h("span", null, "agent ", agentLink(event.agent_id)) : h("span", null, words(event.origin));
}

export const page = {
  title: "Events",
  open(view, { query, signal, setQuery }) {
    const filters = { origin: query.get("origin") ?? "", asset_id: query.get("asset_id"), agent_id: query.get("agent_id"), event_type: query.get("event_type") };
    const events = openPagedTable({
      signal, label: "Events", columns: COLUMNS, rowKey: (event) => String(event.number), path: "/events", query: () => filters,
      cursor: (event) => event.number, empty: "No event is recorded. Without a database none is kept.",
    });
    const origins = choice({
      label: "Origin", signal, value: filters.origin, options: [["", "All"], ["agent", "Agents"], ["headend", "Headend"]],
      onChange: (value) => { filters.origin = value; setQuery({ origin: value || null }); void events.reload(); },
    });
    const only = filters.asset_id ?? filters.agent_id ?? filters.event_type;
    view.append(
      pageHeader({
        title: "Events",
        detail: h("span", null, `Times are local, ${zoneName()}; newest first. `, only ? ["Only of ", nameOf(filters.asset_id ? fleet.assetName(only) : only), " · ", h("a", { href: "/events" }, "show all")] : null),
      }),
      h("div", { class: "toolbar" }, origins.element), events.element);
    void events.reload();
    // The names of assets may come later than the records.
    fleet.on("assets", () => events.update(), signal);
    // An alarm's transition is an event, too; those of agents alone come with the next one, or by reloading.
    const follow = throttle(() => { if (window.scrollY < 200) void events.reload(); }, 5000, signal);
    fleet.on(["alarms", "sessions"], follow, signal);
  },
};
