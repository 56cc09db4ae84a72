// The line above a chart: its legend, with the values at the crosshair, or the newest while the chart is live.

import { formatNumber, formatTime } from "./axis.js";

/**
 * @param {{spec: object}[]} series
 * @returns {{element: HTMLElement, show(time: string, values: number[]|null): void}} null: nothing is asked for
 */
export function createReadout(series) {
  const element = document.createElement("div");
  element.className = "chart-readout";
  const cells = series.map(({ spec }) => {
    const item = element.appendChild(document.createElement("span"));
    item.className = "chart-legend";
    const swatch = item.appendChild(document.createElement("span"));
    swatch.className = `chart-swatch chart-swatch-${spec.dash ? "dash" : spec.kind}`;
    swatch.style.setProperty("--swatch", `var(${spec.color})`);
    const label = item.appendChild(document.createElement("span"));
    label.className = "chart-label";
    label.textContent = spec.label;
    const value = item.appendChild(document.createElement("span"));
    value.className = "chart-value";
    return value;
  });
  // At the far end: its length changes, and the legend must not move.
  const time = element.appendChild(document.createElement("span"));
  time.className = "chart-time";
  const setText = (node, text) => {
    if (node.textContent !== text) node.textContent = text;
  };
  return {
    element,
    show(timeText, values) {
      setText(time, timeText);
      cells.forEach((cell, n) => setText(cell, values ? withUnit(values[n], series[n].spec) : ""));
    },
  };
}

function withUnit(value, { digits = 1, unit = "" }) {
  return Number.isNaN(value) ? formatNumber(value, digits) : `${formatNumber(value, digits)} ${unit}`.trimEnd();
}

/** @returns {string} the values at a time as a sentence, for a screen reader */
export function spokenValues(series, values, time, span) {
  const parts = series.map(({ spec }, n) => {
    const value = values[n];
    return `${spec.label} ${Number.isNaN(value) ? "no value" : withUnit(value, spec)}`;
  });
  return `${formatTime(time, span)}: ${parts.join(", ")}`;
}
