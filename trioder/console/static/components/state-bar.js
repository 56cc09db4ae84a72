/** How many batteries of a dispatch are in which state: a bar, and a list that says the same and filters. */

import { h, replace } from "../core/dom.js";
import { STATES_IN_ORDER, stateMeaning } from "../core/dispatch-texts.js";
import { count, words } from "../core/format.js";
import { stateBadge } from "./badges.js";

/**
 * @param {{onChoose?: ((state: string | null) => void) | null, signal: AbortSignal}} options  onChoose: with it, each
 *   state can be pressed, and again to show all
 * @returns {{element: HTMLElement, show: (dispatch: {by_state: Record<string, number>, left_out: number}, chosen?: string | null) => void}}
 */
export function stateBar({ onChoose = null, signal }) {
  const track = h("div", { class: "state-track", "aria-hidden": "true" });
  const list = h("ul", { class: "state-list", "aria-label": "Assets by state" });
  let shown = "";
  return {
    element: h("div", { class: "state-bar" }, track, list),
    show({ by_state: byState, left_out: leftOut }, chosen = null) {
      const parts = STATES_IN_ORDER.filter((state) => byState[state] > 0).map((state) => [state, byState[state]]).reverse();
      if (leftOut > 0 && onChoose) parts.push(["left_out", leftOut]);
      const key = JSON.stringify([parts, chosen]);
      // Unchanged elements keep the focus.
      if (key === shown) return;
      shown = key;
      const focused = list.contains(document.activeElement) ? document.activeElement.dataset.state : null;
      replace(track, parts.filter(([state]) => state !== "left_out").map(([state, n]) =>
        h("div", { class: "state-part", dataset: { state }, style: { "flex-grow": n } })));
      replace(list, parts.map(([state, n]) => h("li", null, item(state, n, chosen))));
      if (focused) list.querySelector(`[data-state="${focused}"]`)?.focus();
    },
  };

  function item(state, n, chosen) {
    const text = state === "left_out" ? h("span", { class: "badge" }, h("span", { class: "badge-symbol", "aria-hidden": "true" }, "–"), "left out") : stateBadge(state);
    const content = [h("span", { class: "state-swatch", "aria-hidden": "true", dataset: { state } }), text, h("span", { class: "number state-count" }, count(n))];
    const title = state === "left_out" ? "Allocated nothing; the reason is in the list." : stateMeaning(state);
    if (!onChoose) return h("span", { class: "state-item", title }, content);
    return h("button", { type: "button", class: "state-item state-button", title, "aria-pressed": String(chosen === state), dataset: { state }, signal,
      "aria-label": `${words(state)}: ${count(n)}`, on: { click: () => onChoose(chosen === state ? null : state) } }, content);
  }
}
