/** States of occurrences, and what a schedule commands, in words. */

import { h } from "../../core/dom.js";
import { duration, mw, words } from "../../core/format.js";

const STATES = {
  pending: ["◌", "muted"], running: ["●", "ok"], completed: ["✓", "ok"], failed: ["✕", "critical"],
  missed: ["✕", "critical"], skipped: ["⊘", "muted"], cancelled: ["◻", "muted"],
};

/** @param {string} state @returns {[string, string]} symbol and tone */
export const occurrenceSign = (state) => STATES[state] ?? ["?", "warning"];

/** @param {string} state */
export function occurrenceBadge(state) {
  const [symbol, tone] = occurrenceSign(state);
  return h("span", { class: `badge tone-${tone}` }, h("span", { class: "badge-symbol", "aria-hidden": "true" }, symbol), words(state));
}

/** What the steps command: "12.0 MW for 1 h", or "4 steps, −10.0 to 25.0 MW, 2 h". @param {{duration_s: number, mw: number}[]} steps */
export function stepsText(steps) {
  const length = steps.reduce((sum, step) => sum + step.duration_s, 0);
  if (steps.length === 1) return `${mw(steps[0].mw)} for ${duration(length)}`;
  const powers = steps.map((step) => step.mw);
  return `${steps.length} steps, ${mw(Math.min(...powers))} to ${mw(Math.max(...powers))}, ${duration(length)}`;
}
