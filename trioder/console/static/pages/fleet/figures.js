/** The figures over the map: power now against what was asked, energy, what is available, quality. */

import { directionOf } from "../../components/badges.js";
import { figure } from "../../components/page.js";
import { h, replace, setText } from "../../core/dom.js";
import { fleet } from "../../core/fleet-state.js";
import { count, mw, mwh, number, percent, power } from "../../core/format.js";

/** @param {AbortSignal} signal @returns {HTMLElement} */
export function openFleetFigures(signal) {
  const now = figure({ label: "Power now", unit: "MW", size: "xl", title: "The sum over assets with good values. + discharges to the grid, − charges." });
  const asked = figure({ label: "Asked", unit: "MW", size: "l", title: "The sum of the setpoints of open dispatches." });
  const energy = figure({ label: "State of charge", unit: "%", size: "l" });
  const available = availableTable();
  const quality = h("ul", { class: "quality-counts live", "aria-label": "Assets by quality" });
  const element = h("section", { class: "panel fleet-figures", "aria-label": "Sums over the fleet" },
    now.element, asked.element, energy.element, available.element,
    h("div", { class: "figure fleet-quality" }, h("span", { class: "figure-label" }, "Quality of values"), quality));

  const show = () => {
    const sums = fleet.fleet;
    if (!sums) return;
    const known = sums.live_assets > 0;
    const direction = directionOf(known ? sums.current_mw : null);
    now.set(known ? power(sums.current_mw) : "–", known ? `${direction.symbol} ${direction.label}, ${count(sums.live_assets)} of ${count(sums.assets)} assets` : "no asset has good values");
    const requested = sums.requested_mw ?? null;
    const off = requested === null ? null : sums.current_mw - requested;
    asked.set(requested === null ? "–" : power(requested), requested === null ? "no open dispatch" : differenceText(off, requested));
    energy.set(known ? number((100 * sums.soc_mwhr) / sums.capacity_mwhr, 1) : "–", known ? `${mwh(sums.soc_mwhr)} of ${mwh(sums.capacity_mwhr)}` : "");
    available.set(sums.available);
    showQuality(quality, sums);
  };
  fleet.on(["fleet", "snapshot"], show, signal);
  show();
  return element;
}

/** How far the power is from what was asked, at the precision of what was asked. */
function differenceText(off, requested) {
  const text = mw(Math.abs(off), requested);
  return /[1-9]/.test(text) ? `difference ${off > 0 ? "+" : "−"}${text}` : "as asked";
}

function availableTable() {
  const cells = new Map();
  const cell = (key) => {
    const element = h("td", { class: "number live" }, "–");
    cells.set(key, element);
    return element;
  };
  const row = (direction, label, symbol) => h("tr", null,
    h("th", { scope: "row" }, h("span", { class: `tone-${direction}`, "aria-hidden": "true" }, symbol), ` ${label}`),
    ["now", "15_min", "60_min"].map((span) => cell(`${span}.${direction}`)));
  const element = h("table", { class: "available", title: "What the connected assets with good values can hold together for that long." },
    h("caption", { class: "figure-label" }, "Available power, MW"),
    h("thead", null, h("tr", null, h("td"), ["now", "15 min", "60 min"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", null, row("discharge", "discharge", "▲"), row("charge", "charge", "▼")));
  return {
    element,
    set(available) {
      for (const [key, element] of cells) {
        const [span, direction] = key.split(".");
        setText(element, power(available[span][`${direction}_mw`], available.now[`${direction}_mw`]));
      }
    },
  };
}

function showQuality(element, { assets, by_quality: byQuality, connected_assets: connected }) {
  const known = Object.values(byQuality).reduce((sum, n) => sum + n, 0);
  const counts = [
    ["good", "●", "ok", byQuality.good ?? 0],
    ["stale", "◔", "warning", byQuality.stale ?? 0],
    ["suspect", "▲", "warning", byQuality.suspect ?? 0],
    ["bad", "✕", "critical", byQuality.bad ?? 0],
    ["synthesized", "◇", "muted", byQuality.synthesized ?? 0],
    ["no sample", "○", "warning", assets - known],
    ["not connected", "⊘", "warning", assets - connected],
  ].filter(([name, , , n]) => n > 0 || name === "good");
  replace(element, counts.map(([name, symbol, tone, n]) =>
    h("li", { class: n > 0 ? `tone-${tone}` : "tone-muted" },
      h("span", { class: "badge-symbol", "aria-hidden": "true" }, symbol), " ", h("b", { class: "number" }, count(n)), ` ${name}`)));
}
