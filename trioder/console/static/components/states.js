/** What a page shows when it has no content: designed once. */

import { ApiError } from "../core/api.js";
import { h } from "../core/dom.js";

const SYMBOLS = { loading: "◌", empty: "○", error: "!", forbidden: "⊘", missing: "?" };

/**
 * A block with a symbol, a sentence, and perhaps what can be done.
 *
 * @param {{kind: "loading" | "empty" | "error" | "forbidden" | "missing", title: string, detail?: string,
 *          action?: Node | null, heading?: boolean}} options  heading: it is all that the page has
 * @returns {HTMLElement}
 */
export function stateBlock({ kind, title, detail = "", action = null, heading = false }) {
  return h("div", { class: `state state-${kind}`, role: kind === "error" ? "alert" : "status" },
    h("span", { class: "state-symbol", "aria-hidden": "true" }, SYMBOLS[kind]),
    h(heading ? "h1" : "p", { class: "state-title" }, title),
    detail ? h("p", { class: "state-detail" }, h("bdi", null, detail.slice(0, 1000))) : null,
    action);
}

/** @param {string} what  such as "assets" */
export const loading = (what) => stateBlock({ kind: "loading", title: `Loading ${what} …` });

/** @param {string} title @param {string} [detail] @param {Node} [action] */
export const empty = (title, detail = "", action = null) => stateBlock({ kind: "empty", title, detail, action });

/**
 * Why a request failed, with a button to try again.
 * @param {Error} error @param {(() => void) | null} [retry]
 */
export function failure(error, retry = null) {
  const action = retry ? h("button", { type: "button", class: "button", on: { click: retry } }, "Try again") : null;
  if (error instanceof ApiError && error.status === 403) {
    return stateBlock({ kind: "forbidden", title: "This role may not see this.", detail: error.message });
  }
  if (error instanceof ApiError && error.status === 404) {
    return stateBlock({ kind: "missing", title: "Not found.", detail: error.message });
  }
  if (error instanceof ApiError && (error.status === 0 || error.status === 502)) {
    return stateBlock({ kind: "error", title: "The headend cannot be reached.", detail: error.message, action });
  }
  const title = error instanceof ApiError ? "The request failed." : "This cannot be shown.";
  return stateBlock({ kind: "error", title, detail: error.message, action });
}

/**
 * Runs a request and shows its progress in `element`: loading, then what `show` returns, or why it failed.
 *
 * @template T
 * @param {HTMLElement} element
 * @param {{what: string, load: () => Promise<T>, show: (value: T) => Node | Node[], signal: AbortSignal}} options
 * @returns {Promise<void>}
 */
export async function showLoaded(element, options) {
  const { what, load, show, signal } = options;
  // What is shown stays until there is something newer.
  if (!("loaded" in element.dataset)) element.replaceChildren(loading(what));
  try {
    const value = await load();
    if (signal.aborted) return;
    element.replaceChildren(...[show(value)].flat());
    element.dataset.loaded = "";
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    delete element.dataset.loaded;
    element.replaceChildren(failure(error, () => void showLoaded(element, options)));
    // A fault of this page, not of the request.
    if (!(error instanceof ApiError)) throw error;
  }
}
