/** Small signs of a state: always a shape and a text, never a colour alone. */

import { h } from "../core/dom.js";
import { words } from "../core/format.js";
import { TERMINAL, UNWANTED } from "../core/lifecycle.js";

const QUALITY = {
  good: ["●", "ok"],
  synthesized: ["◇", "muted"],
  stale: ["◔", "warning"],
  suspect: ["▲", "warning"],
  wrong_time: ["▲", "warning"],
  bad: ["✕", "critical"],
  none: ["○", "warning"],
};
const SEVERITY = { critical: ["■", "critical"], major: ["▲", "critical"], minor: ["▲", "warning"], error: ["▲", "critical"], warning: ["●", "warning"], info: ["○", "muted"] };

function badge(symbol, tone, text) {
  return h("span", { class: `badge tone-${tone}` }, h("span", { class: "badge-symbol", "aria-hidden": "true" }, symbol), text);
}

/** @param {string} quality  good, stale, suspect, bad, synthesized; "none" without a sample */
export function qualityBadge(quality) {
  const [symbol, tone] = QUALITY[quality] ?? ["?", "warning"];
  return badge(symbol, tone, quality === "none" ? "no sample" : words(quality));
}

/** The sign of a quality alone, for table cells: [symbol, tone]. */
export const qualitySign = (quality) => QUALITY[quality] ?? ["?", "warning"];

/** @param {"critical" | "major" | "minor" | "warning" | "error" | "info"} severity  of an alarm or an event */
export function severityBadge(severity) {
  const [symbol, tone] = SEVERITY[severity] ?? ["●", "warning"];
  return badge(symbol, tone, words(severity));
}

/** The state of a dispatch or of a setpoint. @param {string} state */
export function stateBadge(state) {
  if (UNWANTED.has(state)) return badge(TERMINAL.has(state) ? "✕" : "▲", TERMINAL.has(state) ? "critical" : "warning", words(state));
  if (state === "tracking") return badge("●", "ok", "tracking");
  if (state === "completed") return badge("✓", "ok", "completed");
  return badge(TERMINAL.has(state) ? "◻" : "◌", "muted", words(state));
}

/** The direction of power: discharging to the grid ▲, charging ▼, idle ■ (within 0.1 MW of 0). */
export function directionOf(mw) {
  if (mw === null || mw === undefined) return { symbol: "–", label: "unknown", tone: "muted" };
  if (mw > 0.1) return { symbol: "▲", label: "discharging", tone: "discharge" };
  if (mw < -0.1) return { symbol: "▼", label: "charging", tone: "charge" };
  return { symbol: "■", label: "idle", tone: "idle" };
}
