/** What lies over the map as elements: buttons, legend, and the note of sites without a position. */

import { openPen } from "./symbols.js";

/** From this size of the map on, the legend is open at first. */
const OPEN_LEGEND_WIDTH = 900;
const OPEN_LEGEND_HEIGHT = 400;

/** As in map.css. */
const SYMBOL_WIDTH = 34;
const SYMBOL_HEIGHT = 27;

/** @type {[string, import("./sites.js").SiteState][]} */
const LEGEND = [
  ["Discharging", { powerMw: 1, socPct: 60, quality: "good", alarms: 0, stopped: false }],
  ["Charging", { powerMw: -1, socPct: 60, quality: "good", alarms: 0, stopped: false }],
  ["Idle", { powerMw: 0, socPct: 60, quality: "good", alarms: 0, stopped: false }],
  ["Not good", { powerMw: null, socPct: 60, quality: "stale", alarms: 0, stopped: false }],
  ["Open alarm", { powerMw: 0, socPct: 60, quality: "good", alarms: 1, stopped: false }],
  ["Stopped", { powerMw: 0, socPct: 60, quality: "good", alarms: 0, stopped: true }],
];

/**
 * @param {HTMLElement} parent
 * @param {{zoomIn: () => void, zoomOut: () => void, fit: () => void}} actions
 * @param {AbortSignal} signal
 */
export function addButtons(parent, actions, signal) {
  const bar = document.createElement("div");
  bar.className = "map-buttons";
  const buttons = [
    ["+", "Zoom in", actions.zoomIn],
    ["\u2212", "Zoom out", actions.zoomOut],
    ["Fit", "Show the whole fleet", actions.fit],
  ];
  for (const [text, label, action] of buttons) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "map-button";
    button.textContent = text;
    button.title = label;
    button.setAttribute("aria-label", label);
    button.addEventListener("click", action, { signal });
    bar.append(button);
  }
  parent.append(bar);
}

/**
 * @param {HTMLElement} parent
 * @returns {{draw: (palette: import("./palette.js").Palette, fontFamily: string, ratio: number) => void}}
 */
export function addLegend(parent) {
  const legend = document.createElement("details");
  legend.className = "map-legend";
  legend.open = parent.clientWidth >= OPEN_LEGEND_WIDTH && parent.clientHeight >= OPEN_LEGEND_HEIGHT;
  const title = document.createElement("summary");
  title.textContent = "Legend";
  const list = document.createElement("ul");
  const canvases = LEGEND.map(([text]) => {
    const entry = document.createElement("li");
    const canvas = document.createElement("canvas");
    canvas.className = "map-legend-symbol";
    canvas.setAttribute("aria-hidden", "true");
    entry.append(canvas, text);
    list.append(entry);
    return canvas;
  });
  const note = document.createElement("p");
  note.textContent = "Area: rating. Filled: state of charge. Number: several sites.";
  legend.append(title, list, note);
  parent.append(legend);
  return {
    draw(palette, fontFamily, ratio) {
      canvases.forEach((canvas, place) => {
        canvas.width = Math.round(SYMBOL_WIDTH * ratio);
        canvas.height = Math.round(SYMBOL_HEIGHT * ratio);
        const context = canvas.getContext("2d");
        context.setTransform(ratio, 0, 0, ratio, 0, 0);
        const state = LEGEND[place][1];
        openPen(context, palette, fontFamily).draw({ kind: "site", state, ratingMw: 1, x: 14, y: 15, r: 8.5, unit: 1 });
      });
    },
  };
}

/**
 * @param {HTMLElement} parent
 * @returns {{count: (sites: number) => void, fault: (text: string) => void}}
 */
export function addNote(parent) {
  const note = document.createElement("div");
  note.className = "map-note";
  note.setAttribute("role", "status");
  const counted = document.createElement("div");
  const failed = document.createElement("div");
  note.append(counted, failed);
  parent.append(note);
  return {
    count(sites) {
      if (sites === 0) counted.textContent = "";
      else counted.textContent = sites === 1 ? "1 site has no position" : `${sites} sites have no position`;
    },
    fault(text) {
      failed.textContent = text;
    },
  };
}
