/**
 * The callout beside a symbol: name, power, state of charge, quality and what else an operator must know, as text.
 *
 * @typedef {import("./sites.js").Item} Item
 */

import { directionOf } from "./symbols.js";

/**
 * @param {HTMLElement} parent
 * @returns {{show: (item: Item, size: {width: number, height: number}) => void, hide: () => void}}
 */
export function openCallout(parent) {
  const element = document.createElement("div");
  element.className = "map-callout";
  element.hidden = true;
  // What it shows is announced once, by the live region of the map.
  element.setAttribute("aria-hidden", "true");
  parent.append(element);
  let shown = "";

  return {
    show(item, { width, height }) {
      const lines = describe(item);
      const text = lines.join("\n");
      if (text !== shown) {
        shown = text;
        element.replaceChildren(...lines.map((line, place) => makeLine(line, place === 0)));
      }
      element.hidden = false;
      const gap = item.r + 12;
      const box = element.getBoundingClientRect();
      const left = item.x + gap + box.width <= width ? item.x + gap : item.x - gap - box.width;
      const top = item.y - box.height / 2;
      element.style.left = `${Math.round(Math.max(4, Math.min(width - box.width - 4, left)))}px`;
      element.style.top = `${Math.round(Math.max(4, Math.min(height - box.height - 4, top)))}px`;
    },
    hide() {
      element.hidden = true;
    },
  };
}

function makeLine(text, isName) {
  const line = document.createElement("div");
  line.className = isName ? "map-callout-name" : "map-callout-line";
  // Names may be written from right to left; what follows stays as it is.
  line.dir = isName ? "auto" : "ltr";
  line.textContent = text;
  return line;
}

/**
 * Says what an item stands for, the name first.
 * @param {Item} item
 * @returns {string[]}
 */
export function describe(item) {
  return item.kind === "cluster" ? describeCluster(item) : describeSite(item);
}

function describeSite({ site, state, ratingMw }) {
  const lines = [site.name, `Rated ${megawatts(ratingMw)}`];
  const isLive = state.quality === "good" || state.quality === "suspect";
  const last = isLive ? "" : "Last: ";
  if (state.quality === "none") {
    lines.push("No values received");
  } else {
    lines.push(`${last}${powerText(state.powerMw, ratingMw)}, SOC ${percent(state.socPct)}`);
    lines.push(`Quality: ${state.quality}${ageText(state.ageS)}`);
  }
  return [...lines, ...warnings(state.alarms, state.stopped ? "Stopped" : "")];
}

function describeCluster({ members, ratingMw, powerMw, socPct, notGood, alarms, stopped }) {
  const lines = [`${members.length} sites`, `Rated ${megawatts(ratingMw)}`];
  if (powerMw === null) lines.push("No good values");
  else lines.push(`${powerText(powerMw, ratingMw)}, SOC ${percent(socPct)}`);
  lines.push(notGood === 0 ? "Quality: all good" : `Quality: ${notGood} of ${members.length} not good`);
  return [...lines, ...warnings(alarms, stopped ? `${stopped} stopped` : "")];
}

function warnings(alarms, stop) {
  const lines = [];
  if (alarms > 0) lines.push(alarms === 1 ? "1 open alarm" : `${alarms} open alarms`);
  if (stop) lines.push(stop);
  return lines;
}

function powerText(powerMw, ratingMw) {
  const direction = directionOf(powerMw, ratingMw);
  if (direction === "unknown") return "power unknown";
  return `${megawatts(powerMw, true)} ${direction}`;
}

/** @param {number} value @param {boolean} [isSigned] @returns {string} with three digits or so */
function megawatts(value, isSigned = false) {
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  const text = new Intl.NumberFormat("en-US", { maximumFractionDigits: digits }).format(size);
  const sign = !isSigned || Number(text.replaceAll(",", "")) === 0 ? "" : value > 0 ? "+" : "\u2212";
  return `${sign}${text}\u00a0MW`;
}

function percent(value) {
  return value === null || !Number.isFinite(value) ? "unknown" : `${Math.round(value)}\u00a0%`;
}

function ageText(seconds) {
  if (seconds === undefined || seconds === null || !Number.isFinite(seconds)) return "";
  if (seconds < 90) return `, ${Math.round(seconds)}\u00a0s old`;
  if (seconds < 5400) return `, ${Math.round(seconds / 60)}\u00a0min old`;
  return `, ${Math.round(seconds / 3600)}\u00a0h old`;
}
