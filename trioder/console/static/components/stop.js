/** The emergency stop: its button, its confirmation, and how far it has come. */

import { ApiError, post } from "../core/api.js";
import { acknowledged } from "../core/dispatch-progress.js";
import { h, replace, setText } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { count, plural } from "../core/format.js";
import { decodeAll } from "../core/router.js";
import { openDialog } from "./dialog.js";
import { stateBar } from "./state-bar.js";
import { targetField } from "./target-field.js";

/**
 * @typedef {{kind: "fleet" | "site" | "asset", id: string | null}} StopTarget
 */

/**
 * A button that opens the emergency stop. Only for who may command: `session.may("operator")`.
 *
 * @param {{target?: StopTarget | (() => StopTarget), signal: AbortSignal, label?: string}} options  target: what is
 *   chosen when the dialog opens; the fleet by default
 * @returns {HTMLButtonElement}
 */
export function stopButton({ target = { kind: "fleet", id: null }, signal, label = "Stop …" }) {
  const open = () => void runStop({ target: typeof target === "function" ? target() : target, signal });
  return h("button", { type: "button", class: "button button-danger stop-button", title: "Emergency stop: 0 MW at once", signal, on: { click: open } },
    h("span", { "aria-hidden": "true" }, "■ "), label);
}

/** What a page is about, for a button that is on all pages. @returns {StopTarget} */
export function targetOfPage() {
  const found = /^\/(site|asset)s\/([^/]+)\/?$/.exec(location.pathname);
  const id = found && decodeAll({ id: found[2] })?.id;
  return id ? { kind: found[1], id } : { kind: "fleet", id: null };
}

/** The body of `/stop` and `/resume` for a target. @param {StopTarget} target */
export function stopBody({ kind, id }) {
  if (kind === "fleet") return { fleet: true };
  return kind === "site" ? { site_id: id } : { asset_id: id };
}

async function runStop({ target, signal }) {
  const chosen = await confirmStop(target, signal);
  if (chosen !== null) await sendStop(chosen, signal);
}

/** Asks for the target and the second action; null when it is not wanted. */
async function confirmStop(target, signal) {
  const fields = new AbortController();
  let chosen = { kind: target.kind, ids: target.id ? [target.id] : [] };
  const effect = h("div", { class: "stop-effect" });
  const show = () => {
    replace(effect, effectOf(chosen));
    if (dialog) dialog.buttons[1].disabled = !isComplete(chosen);
  };
  const field = targetField({ ...chosen, several: false, signal: fields.signal, onChange: (next) => { chosen = next; show(); } });
  let dialog = null;
  show();
  dialog = openDialog({
    title: "Emergency stop", danger: true, signal,
    body: h("div", { class: "stop-form" }, field.element, effect),
    actions: [{ label: "Cancel", value: false, autofocus: true }, { label: "Stop now", value: true, kind: "danger" }],
  });
  show();
  fleet.on(["assets", "snapshot"], show, fields.signal);
  const confirmed = (await dialog.closed) === true;
  fields.abort();
  return confirmed ? { kind: chosen.kind, id: chosen.ids[0] ?? null } : null;
}

const isComplete = ({ kind, ids }) => kind === "fleet" || ids.length > 0;

function effectOf(target) {
  if (!isComplete(target)) return h("p", { class: "muted" }, `Choose the ${target.kind} that is to be stopped.`);
  const ids = assetsOf(target);
  const away = ids.filter((id) => fleet.rows.has(id) && !fleet.rows.get(id).connected).length;
  return [
    h("p", { class: "stop-count" }, ids.length > 0 ? `${plural(ids.length, "asset")} to 0 MW, at once.` : "All of it to 0 MW, at once."),
    h("p", null, "Held there until the stop is resumed, also across restarts. Dispatches and schedules wait meanwhile."),
    away > 0 ? h("p", { class: "tone-warning" }, `▲ ${plural(away, "asset")} ${away === 1 ? "is" : "are"} not connected: stopped when connected again; until then the last setpoint may continue.`) : null,
    fleet.live ? null : h("p", { class: "tone-warning" }, "▲ The feed is lost: these numbers are old. The stop is sent all the same."),
  ];
}

function assetsOf({ kind, ids }) {
  if (kind === "fleet") return [...fleet.assets.keys()];
  return kind === "site" ? (fleet.sites.get(ids[0])?.assetIds ?? []) : ids;
}

/** Sends the stop, and shows how far it has come until the dialog is closed. */
async function sendStop(target, signal) {
  const name = fleet.targetOf(target).text.slice(0, 80);
  for (;;) {
    const shown = new AbortController();
    const body = h("div", { class: "stop-progress", role: "status" }, h("p", null, "Sending the stop …"));
    const dialog = openDialog({ title: `Emergency stop: ${name}`, danger: true, signal, body, actions: [{ label: "Close", value: "close", autofocus: true }, { label: "Try again", value: "again", kind: "danger" }] });
    const again = dialog.buttons[1];
    again.hidden = true;
    try {
      // Not ended with the dialog: a stop that was confirmed is sent.
      const { stops } = await post("/stop", stopBody(target));
      showProgress(body, stops, () => dialog.close(), shown.signal);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      replace(body, h("p", { class: "form-error", role: "alert" }, `The stop failed: ${error.message}`), h("p", null, "Stopping again does no harm."));
      again.hidden = false;
      again.focus();
    }
    const chosen = await dialog.closed;
    shown.abort();
    if (chosen !== "again") return;
  }
}

function showProgress(body, stops, close, signal) {
  const text = h("p", { class: "stop-count" });
  const bar = stateBar({ signal });
  const waiting = h("p", { class: "tone-warning" });
  const links = stops.map(({ dispatch_id: id, target }) => h("li", null, h("a", { href: `/dispatch/${id}`, signal, on: { click: close } }, "Record of the stop: ", h("bdi", { class: "name" }, fleet.targetOf(target).text.slice(0, 200)))));
  replace(body, text, h("div", { class: "live" }, bar.element), waiting, h("ul", { class: "stop-links" }, links.slice(0, 10)));
  const show = () => {
    const present = stops.map((stop) => fleet.dispatches.get(stop.dispatch_id) ?? { ...stop, members: stop.assets, left_out: 0 });
    const sum = { by_state: {}, members: 0, left_out: 0 };
    for (const { by_state: byState, members } of present) {
      sum.members += members;
      for (const [state, n] of Object.entries(byState)) sum.by_state[state] = (sum.by_state[state] ?? 0) + n;
    }
    const answered = acknowledged(sum);
    setText(text, `Acknowledged by ${count(answered)} of ${count(sum.members)}.`);
    const queued = sum.by_state.queued ?? 0;
    setText(waiting, `▲ ${plural(queued, "asset")} not stopped yet: not connected, or the agent refused. The stop is sent again by itself.`);
    waiting.hidden = queued === 0;
    bar.show(sum);
  };
  show();
  fleet.on(["dispatch", "snapshot"], show, signal);
}
