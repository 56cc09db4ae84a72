/**
 * Power and state of charge back in time: a coarse picture first, then a finer one; a selected range is loaded
 * at the resolution that it deserves.
 */

import { openChart } from "../components/chart.js";
import { choice, panel } from "../components/page.js";
import { ApiError, get } from "../core/api.js";
import { h, scaled, setText } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { plural } from "../core/format.js";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

const RANGES = { "1h": ["1 h", HOUR_MS], "6h": ["6 h", 6 * HOUR_MS], "24h": ["24 h", DAY_MS], "7d": ["7 d", 7 * DAY_MS], "30d": ["30 d", 30 * DAY_MS] };
const LENGTH_MS = {
  "1m": MINUTE_MS, "5m": 5 * MINUTE_MS, "15m": 15 * MINUTE_MS, "30m": 30 * MINUTE_MS, "1h": HOUR_MS, "2h": 2 * HOUR_MS, "6h": 6 * HOUR_MS, "1d": DAY_MS,
};
const BUCKET_TEXT = Object.fromEntries(Object.keys(LENGTH_MS).map((name) => [name, name.replace(/(\d+)(\w)/, (_, n, unit) => `${n} ${unit === "m" ? "min" : unit}`)]));
/** More points than a screen has columns show nothing more. */
const MOST_POINTS = 3000;
/** What is drawn first: read in a moment, whatever the range. */
const COARSE_POINTS = 400;

/**
 * The resolutions of a range: the coarse one that is loaded first, and the finest that is worth drawing.
 * @param {number} spanMs @param {string[]} resolutions  those that the path has, finest first
 * @returns {string[]} one or two
 */
function resolutionsFor(spanMs, resolutions) {
  const finest = resolutions.find((name) => spanMs / LENGTH_MS[name] <= MOST_POINTS) ?? resolutions.at(-1);
  const coarse = resolutions.find((name) => spanMs / LENGTH_MS[name] <= COARSE_POINTS) ?? resolutions.at(-1);
  return coarse === finest ? [finest] : [coarse, finest];
}

/**
 * @param {HTMLElement} parent  in the document
 * @param {{path: string, resolutions: string[], read: (bucket: any) => {power: number | null, low?: number | null, high?: number | null, setpoint: number | null, soc: number | null},
 *   range: string, onRange: (name: string) => void, signal: AbortSignal}} options
 *   read: what a bucket of the path says; onRange: another range was chosen
 */
export function openHistory(parent, { path, resolutions, read, range, onRange, signal }) {
  const status = h("span", { class: "muted", role: "status" });
  const container = h("div", { class: "history-charts" });
  let name = range in RANGES ? range : "24h";
  const ranges = choice({
    label: "Range", signal, value: name, options: Object.entries(RANGES).map(([key, [text]]) => [key, text]),
    onChange: (value) => { name = value; onRange(value); void show(lastRange()); },
  });
  parent.append(panel({ title: "History", class: "history-panel", actions: [status, ranges.element] }, container));
  const onSelect = (start, end) => void show(start === null ? lastRange() : { start, end });
  const power = openChart(container, {
    signal, label: "Power history", height: scaled(220), yUnit: "MW", sync: "history", onRange: onSelect, now: () => fleet.now(),
    series: [
      { id: "setpoint", label: "setpoint", kind: "step", axis: "left", color: "--ink-muted", dash: true, unit: "MW", digits: 2 },
      { id: "power", label: "power", kind: "line", axis: "left", color: "--series-1", unit: "MW", digits: 2 },
    ],
  });
  const soc = openChart(container, {
    signal, label: "State of charge history", height: scaled(130), yUnit: "%", sync: "history", now: () => fleet.now(), axes: { left: { min: 0, max: 100 } },
    series: [{ id: "soc", label: "state of charge", kind: "line", axis: "left", color: "--series-3", unit: "%", digits: 1 }],
  });
  const lastRange = () => ({ start: fleet.now() - RANGES[name][1], end: fleet.now() });
  let current = new AbortController();

  const show = async ({ start, end }) => {
    current.abort();
    current = new AbortController();
    const own = AbortSignal.any([signal, current.signal]);
    for (const chart of [power, soc]) {
      chart.setRange(start, end);
      chart.note(null);
    }
    const steps = resolutionsFor(end - start, resolutions);
    for (const [index, resolution] of steps.entries()) {
      setText(status, index === 0 ? "loading …" : "loading finer values …");
      try {
        const buckets = await get(path, { signal: own, query: { resolution, start: new Date(start).toISOString(), end: new Date(end).toISOString(), limit: 10_000 } });
        draw(buckets.reverse(), LENGTH_MS[resolution]);
        setText(status, `${plural(buckets.length, "value")} of ${BUCKET_TEXT[resolution]}`);
        if (buckets.length === 0) power.note("Nothing is recorded in this range.");
      } catch (error) {
        if (error.name === "AbortError") return;
        if (!(error instanceof ApiError)) throw error;
        setText(status, index === 0 ? "" : "the finer values were not loaded");
        if (index === 0) power.note(error.status === 0 || error.status === 502 ? "The headend cannot be reached." : error.message.slice(0, 200));
        return;
      }
    }
  };
  const draw = (buckets, lengthMs) => {
    const values = buckets.map(read);
    const times = buckets.map(({ timestamp }) => Date.parse(timestamp) + lengthMs / 2);
    const gapMs = 1.5 * lengthMs;
    const column = (key) => values.map((value) => value[key] ?? null);
    power.setData("power", times, column("power"), { low: column("low"), high: column("high"), gapMs });
    power.setData("setpoint", times, column("setpoint"), { gapMs });
    soc.setData("soc", times, column("soc"), { gapMs });
  };
  void show(lastRange());
}
