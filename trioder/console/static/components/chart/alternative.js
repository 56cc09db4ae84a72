// The values of a chart as a table, for people who do not see the canvas.

import { formatNumber, formatTime, zoneName } from "./axis.js";

const ROWS = 48;

/**
 * A button that is visible when it has the focus, and the table of 48 equal parts of the period that it opens below.
 * @param {{label: string, series: {spec: object, data: import("./series.js").SeriesData}[],
 *   period: () => [number, number], signal: AbortSignal}} options
 * @returns {{element: HTMLElement}}
 */
export function createAlternative({ label, series, period, signal }) {
  const element = document.createElement("div");
  element.className = "chart-alternative";
  const button = element.appendChild(document.createElement("button"));
  button.type = "button";
  button.className = "chart-table-button";
  button.textContent = "Values as a table";
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-label", `Values as a table: ${label}`);
  let box = null;
  button.addEventListener(
    "click",
    () => {
      if (box) {
        box.remove();
        box = null;
      } else {
        box = element.appendChild(document.createElement("div"));
        box.className = "chart-table";
        box.tabIndex = 0;
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", label);
        box.append(createTable(series, period(), label));
      }
      button.setAttribute("aria-expanded", String(box !== null));
      button.textContent = box ? "Close the table" : "Values as a table";
    },
    { signal },
  );
  return { element };
}

function createTable(series, [start, end], label) {
  const table = document.createElement("table");
  table.createCaption().textContent =
    `${label}, ${formatTime(start, end - start)} to ${formatTime(end, end - start)} ${zoneName(end)}`;
  const head = table.createTHead().insertRow();
  for (const text of ["Time", ...series.map(({ spec }) => `${spec.label}${spec.unit ? `, ${spec.unit}` : ""}`)]) {
    const cell = head.appendChild(document.createElement("th"));
    cell.scope = "col";
    cell.textContent = text;
  }
  const body = table.createTBody();
  const step = (end - start) / ROWS;
  for (let n = 0; n < ROWS; n += 1) {
    const [from, to] = [start + n * step, start + (n + 1) * step];
    const row = body.insertRow();
    const cell = row.appendChild(document.createElement("th"));
    cell.scope = "row";
    cell.textContent = formatTime(from, end - start);
    for (const { spec, data } of series) {
      row.insertCell().textContent = describeBucket(data, from, to, spec.digits ?? 1);
    }
  }
  return table;
}

/** "1.0", "1.0 to 2.5", or an en dash: the values within a part of the period. */
function describeBucket(data, from, to, digits) {
  const [first, last] = [data.indexAtOrBefore(from) + 1, data.indexAtOrBefore(to)];
  let [min, max] = [Infinity, -Infinity];
  for (let i = first; i <= last; i += 1) {
    const [low, high] = [data.low?.[i] ?? data.values[i], data.high?.[i] ?? data.values[i]];
    if (low < min) min = low;
    if (high > max) max = high;
  }
  if (min > max) return "\u2013";
  const [low, high] = [formatNumber(min, digits), formatNumber(max, digits)];
  return low === high ? low : `${low} to ${high}`;
}

/**
 * One sentence about what a chart shows.
 * @param {string} label
 * @param {{spec: object, data: import("./series.js").SeriesData}[]} series
 * @param {[number, number]} period
 * @returns {string}
 */
export function summarize(label, series, [start, end]) {
  const parts = series.map(({ spec, data }) => {
    const extent = data.extent(start, end);
    if (!extent) return `${spec.label} has no values`;
    const [low, high] = extent.map((value) => formatNumber(value, spec.digits ?? 1));
    return `${spec.label} ${low === high ? low : `${low} to ${high}`} ${spec.unit ?? ""}`.trimEnd();
  });
  const span = end - start;
  return `${label}, ${formatTime(start, span)} to ${formatTime(end, span)} ${zoneName(end)}. ${parts.join("; ")}.`;
}
