/** The frame of a page: heading, actions, panels, figures. */

import { h, setText } from "../core/dom.js";

/**
 * The heading of a page.
 * @param {{title: Node | string, detail?: Node | string | null, actions?: (Node | null)[], back?: {href: string, text: string} | null}} options
 */
export function pageHeader({ title, detail = null, actions = [], back = null }) {
  return h("header", { class: "page-header" },
    h("div", { class: "page-heading" },
      back ? h("a", { class: "page-back", href: back.href }, `‹ ${back.text}`) : null,
      h("h1", null, title),
      detail === null ? null : h("p", { class: "page-detail" }, detail)),
    h("div", { class: "page-actions" }, actions));
}

/**
 * A titled part of a page.
 * @param {{title: Node | string, class?: string, actions?: (Node | null)[], live?: boolean}} options  live: its
 *   content greys when the feed is lost
 * @param {...any} children
 */
export function panel({ title, class: className = "", actions = [], live = false }, ...children) {
  return h("section", { class: ["panel", className] },
    h("header", { class: "panel-header" }, h("h2", null, title), h("div", { class: "panel-actions" }, actions)),
    h("div", { class: ["panel-body", live && "live"] }, children));
}

/**
 * A figure with its unit and label, to be updated.
 * @param {{label: string, unit?: string, size?: "m" | "l" | "xl", title?: string}} options
 * @returns {{element: HTMLElement, set: (value: string, note?: string, tone?: string) => void}}
 */
export function figure({ label, unit = "", size = "m", title = "" }) {
  const value = h("span", { class: "figure-value number" }, "–");
  const note = h("span", { class: "figure-note live" });
  const element = h("div", { class: `figure figure-${size}`, title: title || null },
    h("span", { class: "figure-label" }, label),
    h("span", { class: "figure-line live" }, value, unit ? h("span", { class: "unit" }, ` ${unit}`) : null),
    note);
  return {
    element,
    set(text, noteText = "", tone = "") {
      setText(value, text);
      setText(note, noteText);
      element.dataset.tone = tone;
    },
  };
}

/**
 * Names and values in two columns.
 * @param {[string, any][]} pairs  a value of null leaves the pair out
 */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined)
    .map(([label, value]) => h("div", { class: "fact" }, h("dt", null, label), h("dd", null, value))));
}

/**
 * A row of choices of which one is pressed.
 * @param {{label: string, options: [string, string][], value: string, onChange: (value: string) => void, signal: AbortSignal}} options
 * @returns {{element: HTMLElement, set: (value: string) => void, setText: (value: string, text: string) => void}}
 */
export function choice({ label, options, value, onChange, signal }) {
  const buttons = options.map(([key, text]) =>
    h("button", { type: "button", class: "choice-option", "aria-pressed": String(key === value), dataset: { key }, signal,
      on: { click: () => { set(key); onChange(key); } } }, text));
  const set = (key) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.key === key));
  };
  return { element: h("div", { class: "choice", role: "group", "aria-label": label }, buttons), set, setText: (key, text) => setText(buttons.find(({ dataset }) => dataset.key === key), text) };
}
