/** Occurrences of all active schedules on one time line. */

import { choice, panel } from "../../components/page.js";
import { empty, failure } from "../../components/states.js";
import { ApiError, get } from "../../core/api.js";
import { every, h, nameOf, replace, throttle } from "../../core/dom.js";
import { fleet } from "../../core/fleet-state.js";
import { dateMinute, day, minute, words, zoneName } from "../../core/format.js";
import { occurrenceSign } from "./occurrences.js";

const HOUR_MS = 3_600_000;
const SPANS = { "24h": ["24 h", 24 * HOUR_MS, 3 * HOUR_MS], "7d": ["7 d", 168 * HOUR_MS, 24 * HOUR_MS], "31d": ["31 d", 744 * HOUR_MS, 168 * HOUR_MS] };
/** How much of the time line is past. */
const PAST = 1 / 8;
const MOST_ROWS = 40;
const MOST_OCCURRENCES = 200;

/**
 * @param {HTMLElement} parent
 * @param {{span: string, onSpan: (name: string) => void, signal: AbortSignal}} options
 * @returns {{reload: () => void}}
 */
export function openTimeline(parent, { span, onSpan, signal }) {
  let name = span in SPANS ? span : "24h";
  let rows = [];
  const body = h("div", { class: "timeline" });
  const spans = choice({
    label: "Time line", signal, value: name, options: Object.entries(SPANS).map(([key, [text]]) => [key, text]),
    onChange: (value) => { name = value; onSpan(value); void load(); },
  });
  parent.append(panel({ title: h("span", null, "Time line", h("span", { class: "muted" }, ` · ${zoneName()}`)), class: "panel-flush", actions: [spans.element] }, body));

  const range = () => {
    const [, length] = SPANS[name];
    const start = fleet.now() - PAST * length;
    return { start, end: start + length };
  };
  const draw = () => replace(body, rows.length ? timeline(rows, range(), SPANS[name][2]) : empty("No active schedule.", "A schedule dispatches by the clock, once or by a recurrence rule."));
  const load = async () => {
    const { start, end } = range();
    const query = { start: new Date(start).toISOString(), end: new Date(end).toISOString(), limit: MOST_OCCURRENCES };
    try {
      const schedules = (await get("/schedules", { query: { active: true, limit: MOST_ROWS }, signal }));
      const found = await Promise.all(schedules.map((schedule) => get(`/schedules/${schedule.schedule_id}/occurrences`, { query, signal })));
      rows = schedules.map((schedule, index) => ({ schedule, occurrences: found[index] }));
      draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      if (rows.length === 0) replace(body, failure(error, () => void load()));
    }
  };
  fleet.on(["schedules", "snapshot"], throttle(() => void load(), 1000, signal), signal);
  fleet.on("assets", draw, signal);
  every(30_000, draw, signal);
  void load();
  return { reload: () => void load() };
}

function timeline(rows, { start, end }, tickMs) {
  const place = (at) => `${(100 * (Math.min(end, Math.max(start, at)) - start)) / (end - start)}%`;
  const ticks = [];
  for (let at = firstTick(start, tickMs); at < end; at += tickMs) ticks.push(at);
  const tickText = (at) => (tickMs < 24 * HOUR_MS && new Date(at).getHours() !== 0 ? minute(at) : day(at));
  return h("div", { class: "timeline-grid" },
    h("div", { class: "timeline-corner" }),
    h("div", { class: "timeline-axis", "aria-hidden": "true" }, ticks.map((at) => h("span", { class: "timeline-tick", style: { left: place(at) } }, tickText(at)))),
    rows.map(({ schedule, occurrences }) => [
      h("a", { class: "timeline-name", href: `/schedules/${schedule.schedule_id}` }, nameOf(fleet.targetOf(schedule.target, schedule.assets).text)),
      h("div", { class: "timeline-track" },
        ticks.map((at) => h("span", { class: "timeline-line", style: { left: place(at) }, "aria-hidden": "true" })),
        h("span", { class: "timeline-now", style: { left: place(fleet.now()) }, "aria-hidden": "true" }),
        occurrences.map((occurrence) => bar(schedule, occurrence, place, start, end))),
    ]));
}

/** The first local midnight, or multiple of the step after it, from `start` on. */
function firstTick(start, tickMs) {
  const midnight = new Date(start).setHours(0, 0, 0, 0);
  return midnight + Math.ceil((start - midnight) / tickMs) * tickMs;
}

function bar(schedule, occurrence, place, start, end) {
  const from = Date.parse(occurrence.start);
  const to = Date.parse(occurrence.end);
  if (to < start || from > end) return null;
  const [symbol] = occurrenceSign(occurrence.state);
  const text = `${words(occurrence.state)}: ${dateMinute(from)} to ${dateMinute(to)}`;
  return h("a", {
    class: `timeline-bar timeline-bar-${occurrence.state}`, href: `/schedules/${schedule.schedule_id}`, title: text, "aria-label": text,
    style: { left: place(from), width: `max(6px, ${(100 * (Math.min(to, end) - Math.max(from, start))) / (end - start)}%)` },
  }, h("span", { "aria-hidden": "true" }, symbol));
}
