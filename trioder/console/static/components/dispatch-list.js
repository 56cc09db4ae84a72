/** The last dispatches: those of REST, page by page, kept up to date by the live feed; the open ones first. */

import { ApiError, get } from "../core/api.js";
import { acknowledged } from "../core/dispatch-progress.js";
import { every, h, nameOf, replace, setText, throttle } from "../core/dom.js";
import { priorityText, stateMeaning, STATES_IN_ORDER } from "../core/dispatch-texts.js";
import { fleet } from "../core/fleet-state.js";
import { count, countdown, dateTime, mw, NONE, plural, wholeTime, words } from "../core/format.js";
import { isOpen, UNWANTED } from "../core/lifecycle.js";
import { directionOf, stateBadge } from "./badges.js";
import { empty, failure, loading } from "./states.js";

const PAGE = 50;

/**
 * @param {{assetId?: string | null, siteId?: string | null, state?: string | null, limit?: number, paged?: boolean,
 *   emptyText?: string, signal: AbortSignal}} options  state: "open", one of the states, or null for all
 * @returns {HTMLElement}
 */
export function dispatchList({ assetId = null, siteId = null, state = null, limit = PAGE, paged = true, emptyText = "", signal }) {
  /** @type {Map<string, object>} of REST, by id */
  const loaded = new Map();
  let oldest = null;
  let complete = false;
  let status = "loading";
  let problem = null;
  const filtered = Boolean(assetId || siteId);

  const body = h("tbody");
  const table = h("table", { class: "list-table" },
    h("caption", { class: "visually-hidden" }, "Dispatches"),
    h("thead", null, h("tr", null, COLUMNS.map(([label, align]) => h("th", { scope: "col", class: align ?? null }, label)))),
    body);
  const place = h("div", { class: "dispatch-list" });
  const older = h("button", { type: "button", class: "button", hidden: true, signal, on: { click: () => void load(oldest) } }, "Older");
  const element = h("div", null, place, h("div", { class: "list-more" }, older));

  async function load(before) {
    older.disabled = true;
    try {
      const rows = await get("/dispatch", { signal, query: { asset_id: assetId, site_id: siteId, state: state === "open" ? null : state, limit, before } });
      for (const row of rows) loaded.set(row.dispatch_id, row);
      if (before !== null || oldest === null) {
        oldest = rows.at(-1)?.dispatch_id ?? oldest;
        complete = rows.length < limit;
      }
      status = "ready";
      problem = null;
    } catch (error) {
      if (error.name === "AbortError" || signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      problem = error;
      status = loaded.size > 0 ? "ready" : "error";
    }
    older.disabled = false;
    show();
  }

  /** Which of the feed's dispatches belong here: with a filter by asset or site only those that REST has listed, or that name it. */
  const belongs = (dispatch) => {
    if (loaded.has(dispatch.dispatch_id) || !filtered) return true;
    const { kind, id } = dispatch.target;
    return (kind === "asset" && id === assetId) || (kind === "site" && id === siteId);
  };
  const rows = () => {
    const all = new Map(loaded);
    for (const [id, dispatch] of fleet.dispatches) if (belongs(dispatch)) all.set(id, dispatch);
    const wanted = [...all.values()].filter((dispatch) => state === null || (state === "open" ? isOpen(dispatch) : dispatch.state === state));
    return wanted.sort((a, b) => isOpen(b) - isOpen(a) || (a.dispatched_at < b.dispatched_at ? 1 : -1)).slice(0, paged ? undefined : limit);
  };

  function show() {
    const shown = rows();
    older.hidden = !paged || complete || status !== "ready" || state === "open";
    if (shown.length > 0) {
      keepRows(body, shown);
      if (!table.isConnected || place.firstChild !== table) replace(place, table, problem ? failure(problem, () => void load(oldest)) : null);
    } else if (status === "loading") replace(place, loading("dispatches"));
    else if (status === "error") replace(place, failure(problem, () => { status = "loading"; show(); void load(null); }));
    else replace(place, empty(state === null && !filtered ? "Nothing has been dispatched yet." : "No dispatch is like this.", emptyText));
  }
  const reload = throttle(() => void load(null), 1000, signal);
  const showSoon = throttle(show, 200, signal);

  show();
  if (state === "open" && !filtered) status = fleet.complete ? "ready" : "loading";
  else void load(null);
  fleet.on("dispatch", ({ dispatch }) => {
    // Whether a group has a part for an asset or at a site, REST knows.
    if (filtered && !loaded.has(dispatch.dispatch_id)) reload();
    showSoon();
  }, signal);
  fleet.on(["snapshot", "assets"], () => {
    if (state === "open" && fleet.complete) status = "ready";
    if (fleet.complete && status === "ready" && state !== "open") reload();
    showSoon();
  }, signal);
  every(1000, () => showRemaining(body), signal);
  show();
  return element;
}

const COLUMNS = [["Requested"], ["Target"], ["Power", "end"], ["Allocated", "end"], ["State"], ["Assets"], ["By"], ["Ends in", "end"]];

/** Replaces only rows that have changed: a link that has the focus, or is being pressed, stays. */
function keepRows(body, dispatches) {
  const present = new Map([...body.children].map((element) => [element.dataset.id, element]));
  const wanted = dispatches.map((dispatch) => {
    const key = JSON.stringify([dispatch.state, dispatch.by_state, dispatch.allocated_mw, dispatch.shortfall_mw, dispatch.ends_at, fleet.targetOf(dispatch.target, dispatch.members).text]);
    const element = present.get(dispatch.dispatch_id);
    return element?.dataset.key === key ? element : listRow(dispatch, key);
  });
  if (wanted.length === body.children.length && wanted.every((element, index) => body.children[index] === element)) return;
  const focused = body.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  body.replaceChildren(...wanted);
  if (focused) [...body.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus();
}

function listRow(dispatch, key) {
  const { dispatch_id: id, mw: asked, allocated_mw: allocated, shortfall_mw: shortfall, dispatched_at: at } = dispatch;
  const { symbol, tone, label } = directionOf(asked);
  const stop = dispatch.priority === "emergency";
  const target = fleet.targetOf(dispatch.target, dispatch.members);
  const row = h("tr", { dataset: { id, key, ends: isOpen(dispatch) ? dispatch.ends_at ?? "" : "" } },
    h("td", { class: "number" }, h("a", { href: `/dispatch/${id}`, title: wholeTime(at) }, dateTime(at))),
    h("td", { class: "list-name" }, h("a", { href: `/dispatch/${id}` }, nameOf(target.text))),
    h("td", { class: "end number" }, stop
      ? h("span", { class: "badge tone-warning" }, "■ stop")
      : [h("span", { class: `tone-${tone}`, role: "img", "aria-label": label, title: label }, `${symbol} `), mw(asked)]),
    h("td", { class: "end number" }, stop ? NONE : mw(allocated, asked), shortfall ? h("div", { class: "tone-warning list-note" }, `▲ ${mw(shortfall, asked)} short`) : null),
    h("td", { title: stateMeaning(dispatch.state) }, stateBadge(dispatch.state)),
    h("td", { class: "list-note" }, countsText(dispatch)),
    h("td", { class: "list-name" }, nameOf(dispatch.requested_by, "not known"), h("div", { class: "muted list-note" }, priorityText(dispatch.priority))),
    h("td", { class: "end number", dataset: { remaining: "" } }, !isOpen(dispatch) ? NONE : stop ? "until resumed" : "no end"));
  remaining(row);
  return row;
}

/** "8,412 of 10,000 acknowledged", and the states that somebody has to understand. */
function countsText(dispatch) {
  const { by_state: byState, members, left_out: leftOut } = dispatch;
  const parts = [];
  if (isOpen(dispatch)) parts.push(`${count(acknowledged(dispatch))} of ${count(members)} acknowledged`);
  else parts.push(plural(members, "asset"));
  for (const state of STATES_IN_ORDER) {
    if (byState[state] > 0 && (UNWANTED.has(state) || state === "deferred") && members > 1) parts.push(`${count(byState[state])} ${words(state)}`);
  }
  if (leftOut > 0) parts.push(`${count(leftOut)} left out`);
  return parts.join(" · ");
}

function showRemaining(body) {
  for (const row of body.children) remaining(row);
}

function remaining(row) {
  if (!row.dataset.ends) return;
  const left = (Date.parse(row.dataset.ends) - fleet.now()) / 1000;
  setText(row.querySelector("[data-remaining]"), left > 0 ? countdown(left) : "ending");
}
