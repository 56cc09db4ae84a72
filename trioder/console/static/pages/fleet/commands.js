/** The last dispatches, and what became of them. */

import { stateBadge } from "../../components/badges.js";
import { panel } from "../../components/page.js";
import { empty } from "../../components/states.js";
import { ApiError, get } from "../../core/api.js";
import { h, nameOf, replace, throttle } from "../../core/dom.js";
import { fleet } from "../../core/fleet-state.js";
import { count, dateMinute, mw, wholeTime } from "../../core/format.js";
import { isOpen } from "../../core/lifecycle.js";
import { session } from "../../core/session.js";

const MOST = 6;

/** @param {AbortSignal} signal @returns {HTMLElement} */
export function openLastCommands(signal) {
  const body = h("div", { class: "commands" });
  /** Those from before this tab was opened. */
  let earlier = [];
  const show = throttle(() => replace(body, content(earlier)), 250, signal);
  const load = async () => {
    try {
      earlier = await get("/dispatch", { query: { limit: MOST }, signal });
      show();
    } catch (error) {
      // The live ones are shown; the rest follows when the feed returns.
      if (!(error instanceof ApiError) && error.name !== "AbortError") throw error;
    }
  };
  fleet.on("dispatch", show, signal);
  fleet.on("snapshot", () => { show(); void load(); }, signal);
  void load();
  show();
  return panel({ title: "Last commands", class: "panel-flush commands-panel", live: true, actions: [h("a", { href: "/dispatch" }, "All")] }, body);
}

function content(earlier) {
  const byId = new Map(earlier.map((dispatch) => [dispatch.dispatch_id, dispatch]));
  for (const [id, dispatch] of fleet.dispatches) byId.set(id, dispatch);
  const last = [...byId.values()].sort((a, b) => (a.dispatched_at < b.dispatched_at ? 1 : -1)).slice(0, MOST);
  if (last.length === 0) return empty("No commands yet.", "", session.may("operator") ? h("a", { href: "/dispatch" }, "Dispatch") : null);
  return h("ul", null, last.map(item));
}

/** The state of a group is that of its least advanced asset: how many are where they should be says more. */
function progress(dispatch) {
  return isOpen(dispatch) ? `${count(dispatch.by_state.tracking ?? 0)} of ${count(dispatch.members)} tracking` : `${count(dispatch.members)} assets`;
}

function item(dispatch) {
  const target = fleet.targetOf(dispatch.target, dispatch.members);
  const stop = dispatch.priority === "emergency";
  return h("li", null,
    h("a", { class: "command-item", href: `/dispatch/${dispatch.dispatch_id}` },
      h("span", { class: "command-name" }, nameOf(target.text)),
      h("span", { class: "command-mw number" }, stop ? "stop" : mw(dispatch.mw)),
      h("span", { class: "command-state" }, stateBadge(dispatch.state)),
      h("span", { class: "command-detail muted" },
        h("time", { class: "number", datetime: dispatch.dispatched_at, title: wholeTime(dispatch.dispatched_at) }, dateMinute(dispatch.dispatched_at)),
        dispatch.members > 1 ? h("span", null, progress(dispatch)) : null,
        dispatch.shortfall_mw > 0 ? h("span", { class: "tone-warning" }, `▲ ${mw(dispatch.shortfall_mw)} short`) : null)));
}
