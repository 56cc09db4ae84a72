/** The banner of emergency stops in force, on every page: what, since when, by whom, and how they are resumed. */

import { ApiError, get, post } from "../core/api.js";
import { acknowledged } from "../core/dispatch-progress.js";
import { h, nameOf, replace, throttle } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { count, dateTime, plural, wholeTime } from "../core/format.js";
import { session } from "../core/session.js";
import { confirmDialog, openDialog } from "./dialog.js";
import { stopBody } from "./stop.js";

const SHOWN = 3;

/**
 * @typedef {object} Stop
 * @property {string} id @property {{kind: string, id: string | null}} target @property {number} assets
 * @property {number} acknowledged @property {string} since @property {string | null} by @property {boolean} canResume
 */

/**
 * @param {{signal: AbortSignal}} options
 * @returns {HTMLElement}
 */
export function stopBanner({ signal }) {
  const element = h("section", { class: "banner banner-stop", "aria-label": "Emergency stops in force", role: "status", hidden: true });
  /** Of `GET /stops`: who may resume, and stops whose assets are not all the caller's, which the feed does not show. */
  let listed = new Map();
  let stoppedAssets = null;
  let shown = "";

  const show = () => {
    const stops = stopsInForce(listed);
    const key = JSON.stringify([stops, stops.map(({ target }) => fleet.targetOf(target).text), session.may("operator")]);
    if (key === shown) return;
    shown = key;
    element.hidden = stops.length === 0;
    const focused = element.contains(document.activeElement) ? document.activeElement.dataset.stop : null;
    replace(element, stops.slice(0, SHOWN).map((stop) => row(stop, signal)),
      stops.length > SHOWN ? h("a", { href: "/dispatch?state=open" }, `and ${plural(stops.length - SHOWN, "more stop")}`) : null);
    if (focused) element.querySelector(`[data-stop="${focused}"]`)?.focus();
  };
  const load = throttle(async () => {
    try {
      const stops = await get("/stops", { signal });
      listed = new Map(stops.map((stop) => [stop.dispatch_id, stop]));
      show();
    } catch (error) {
      // Without the list the feed's stops are shown, and the headend decides who may resume.
      if (!(error instanceof ApiError) && error.name !== "AbortError") throw error;
    }
  }, 2000, signal);

  fleet.on("dispatch", ({ dispatch }) => {
    if (dispatch.priority !== "emergency") return;
    show();
    if (!listed.has(dispatch.dispatch_id) || !fleet.stops().includes(dispatch)) load();
  }, signal);
  fleet.on("assets", show, signal);
  fleet.on("snapshot", () => {
    listed = new Map();
    show();
    if (fleet.complete) load();
  }, signal);
  fleet.on("fleet", (sums) => {
    show();
    if ((sums.stopped_assets ?? null) === stoppedAssets) return;
    stoppedAssets = sums.stopped_assets ?? null;
    load();
  }, signal);
  show();
  return element;
}

/** @returns {Stop[]} */
function stopsInForce(listed) {
  const stops = new Map();
  for (const [id, stop] of listed) {
    // One that has ended since.
    if (fleet.dispatches.has(id) && !fleet.stops().includes(fleet.dispatches.get(id))) continue;
    stops.set(id, {
      id, target: stop.target, assets: stop.assets, acknowledged: acknowledged({ by_state: stop.by_state, members: stop.assets }),
      since: stop.stopped_at, by: stop.requested_by, canResume: stop.can_resume,
    });
  }
  for (const dispatch of fleet.stops()) {
    stops.set(dispatch.dispatch_id, {
      id: dispatch.dispatch_id, target: dispatch.target, assets: dispatch.members, acknowledged: acknowledged(dispatch),
      since: dispatch.dispatched_at, by: dispatch.requested_by, canResume: listed.get(dispatch.dispatch_id)?.can_resume ?? true,
    });
  }
  return [...stops.values()].sort((a, b) => (a.since < b.since ? 1 : -1));
}

function row(stop, signal) {
  const { text } = fleet.targetOf(stop.target);
  return h("div", { class: "stop-row" },
    h("span", { class: "stop-what" }, h("span", { "aria-hidden": "true" }, "■ "), "Emergency stop: ", h("a", { href: `/dispatch/${stop.id}` }, nameOf(text))),
    h("span", { class: "stop-details live" },
      stop.acknowledged < stop.assets
        ? h("strong", null, `acknowledged by ${count(stop.acknowledged)} of ${plural(stop.assets, "asset")}, `)
        : `${plural(stop.assets, "asset")} held at 0 MW, `,
      "since ", h("span", { class: "number", title: wholeTime(stop.since) }, dateTime(stop.since)), stop.by ? [" by ", nameOf(stop.by)] : null),
    session.may("operator") && stop.canResume
      ? h("button", { type: "button", class: "button", dataset: { stop: stop.id }, signal, on: { click: () => void resume(stop.target, stop.assets, signal) } }, "Resume …")
      : null);
}

/**
 * A button that ends the stop of exactly a target; hidden while there is none.
 * @param {{target: {kind: string, id: string | null}, signal: AbortSignal}} options
 * @returns {HTMLButtonElement}
 */
export function resumeButton({ target, signal }) {
  const inForce = () => fleet.stops().find((stop) => stop.target.kind === target.kind && stop.target.id === target.id);
  const button = h("button", { type: "button", class: "button", signal, on: { click: () => void resume(target, inForce()?.members ?? 0, signal) } }, "Resume …");
  const show = () => (button.hidden = !inForce());
  fleet.on(["dispatch", "snapshot"], show, signal);
  show();
  return button;
}

/**
 * Asks whether a stop is to be ended, ends it, and shows the result.
 * @param {{kind: string, id: string | null}} target @param {number} assets @param {AbortSignal} signal
 */
export async function resume(target, assets, signal) {
  const name = fleet.targetOf(target).text.slice(0, 80);
  const confirmed = await confirmDialog({
    title: `Resume: ${name}`, confirmLabel: "Resume", signal,
    body: h("div", { class: "stop-form" },
      h("p", null, `${plural(assets, "asset")} ${assets === 1 ? "is" : "are"} released from this stop.`),
      h("p", null, "Dispatches that have waited take over at once, for the time that they have left. The other assets stay at 0 MW until the next dispatch.")),
  });
  if (!confirmed) return;
  try {
    const result = await post("/resume", stopBody(target));
    await openDialog({ title: `Resumed: ${name}`, body: resultOf(result), actions: [{ label: "Close", autofocus: true }], signal }).closed;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const body = h("div", { class: "stop-form" }, h("p", { class: "form-error", role: "alert" }, `The stop was not resumed: ${error.message}`));
    await openDialog({ title: `Resume: ${name}`, body, actions: [{ label: "Close", autofocus: true }], signal }).closed;
  }
}

function resultOf({ resumed, assets, still_stopped: stillStopped, dispatched }) {
  if (resumed.length === 0) return h("p", null, "No stop of exactly this target is in force.");
  const idle = assets - stillStopped - dispatched;
  return h("div", { class: "stop-form" },
    stillStopped > 0 ? h("p", { class: "tone-warning" }, `▲ ${plural(stillStopped, "asset")} ${stillStopped === 1 ? "is" : "are"} still stopped, by another stop.`) : null,
    h("p", null, `${plural(dispatched, "asset")} ${dispatched === 1 ? "follows" : "follow"} a dispatch again.`),
    idle > 0 ? h("p", null, `${plural(idle, "asset")} ${idle === 1 ? "stays" : "stay"} at 0 MW until the next dispatch.`) : null);
}
