// A chart of values over time on a canvas: live or historical, with a crosshair, a selection and a table beside it.
// It draws what it is given; loading finer values for a selected range is the caller's.

import { formatTime } from "./chart/axis.js";
import { createAlternative, summarize } from "./chart/alternative.js";
import { openColors } from "./chart/colors.js";
import { newestValues, snap, stepFrom, valuesAt } from "./chart/cursor.js";
import { joinGroup } from "./chart/group.js";
import { openInput } from "./chart/input.js";
import { axisMargin, fitScale, paintMarks, paintPlot, plotEdges, textSize } from "./chart/paint.js";
import { createReadout, spokenValues } from "./chart/readout.js";
import { openRedraw } from "./chart/redraw.js";
import { SeriesData } from "./chart/series.js";

export { sparkline } from "./chart/sparkline.js";

const SUMMARY_INTERVAL_MS = 10_000;
const MAX_STEP_MS = 2000;

/**
 * `color` is the name of a custom property ("--series-1"). "band" shows only `low` to `high`; the other kinds show
 * them behind the line, where they are given. `negativeColor` is for values below zero. `gapMs`: a longer step of time
 * is a gap (by default the chart's); a newest value older than that (15 s without one) is not shown as the present one.
 * @typedef {{id: string, label: string, kind: "line"|"step"|"band"|"area", axis: "left"|"right", color: string,
 *   negativeColor?: string, dash?: boolean, unit: string, digits: number, gapMs?: number}} SeriesSpec
 */

/**
 * @typedef {{
 *   setData(seriesId: string, times: ArrayLike<number>, values: ArrayLike<number|null>,
 *     options?: {low?: ArrayLike<number|null>, high?: ArrayLike<number|null>, gapMs?: number}): void,
 *   append(seriesId: string, time: number, value: number|null): void,
 *   setRange(startMs: number, endMs: number): void,
 *   setFollowing(windowMs: number): void,
 *   clear(): void,
 *   note(text: string|null): void,
 * }} Chart
 */

/**
 * Opens a chart at the end of `container`, until `signal` is aborted.
 * @param {HTMLElement} container
 * @param {{
 *   signal: AbortSignal,
 *   series: SeriesSpec[],
 *   label?: string,
 *   height?: number,
 *   yUnit?: string|{left: string, right: string},
 *   axes?: {left?: {min?: number, max?: number, includeZero?: boolean},
 *     right?: {min?: number, max?: number, includeZero?: boolean}},
 *   sync?: string,
 *   gapMs?: number,
 *   now?: () => number,
 *   onRange?: (start: number|null, end: number|null) => void,
 * }} options `height` in CSS pixels; `yUnit` by default that of the axis' first series; charts with the same `sync`
 *   share crosshair and zoom; `onRange` gets what the user selected, in epoch milliseconds, or nulls when it is reset
 * @returns {Chart}
 */
export function openChart(container, options) {
  const { signal, label = "Chart", height = 220, axes = {}, gapMs = Infinity, now = Date.now, onRange } = options;
  const series = options.series.map((spec) => ({ spec, data: new SeriesData(), gapMs: spec.gapMs ?? gapMs }));
  const byId = new Map(series.map((entry) => [entry.spec.id, entry]));
  const unitOf = (side) => series.find(({ spec }) => spec.axis === side)?.spec.unit ?? "";
  const units =
    typeof options.yUnit === "object" ? options.yUnit : { left: options.yUnit ?? unitOf("left"), right: unitOf("right") };
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  /** What the caller set: a fixed range, or a window that ends now. */
  let base = { start: now() - 3_600_000, end: now(), windowMs: 0 };
  /** @type {[number, number]|null} what the user selected */
  let zoom = null;
  let cursor = null;
  let selection = null;
  let noteText = null;
  let size = { width: 0, pixelRatio: 1 };
  let picture = null;
  let summarizedAt = -Infinity;

  const view = createView(series, { label, height, period, signal, onReset: () => resetZoom() });
  container.append(view.root);
  const color = openColors(view.root, () => redraw.soon(), signal);
  const redraw = openRedraw(view.root, draw, { signal, minIntervalMs: 100 });
  let marksFrame = 0;

  const member = {
    margins: { left: 0, right: 0 },
    marginsChanged: () => redraw.soon(),
    showCursor(time) {
      cursor = time;
      marksFrame ||= requestAnimationFrame(drawMarks);
    },
    showRange(range) {
      zoom = range;
      redraw.soon();
    },
  };
  const group = joinGroup(options.sync, member, signal);

  /** @returns {[number, number]} what is shown; a moving end is a whole device pixel, so that columns do not flicker */
  function period() {
    if (zoom) return zoom;
    if (!base.windowMs) return [base.start, base.end];
    const step = base.windowMs / Math.max(1, plotWidth() * size.pixelRatio);
    const end = Math.ceil(now() / step) * step;
    return [end - base.windowMs, end];
  }

  function plotWidth() {
    const margins = group.margins();
    return Math.max(1, size.width - margins.left - margins.right);
  }

  function msPerPx() {
    const [start, end] = period();
    return (end - start) / plotWidth();
  }

  function draw() {
    if (size.width < 1) return;
    const [start, end] = period();
    const scales = { left: scaleOf("left", start, end), right: scaleOf("right", start, end) };
    const context = view.plot.getContext("2d");
    const margins = {
      left: axisMargin(context, scales.left, 40),
      right: scales.right ? axisMargin(context, scales.right, 32) : 16,
    };
    if (margins.left !== member.margins.left || margins.right !== member.margins.right) {
      const before = group.margins();
      member.margins = margins;
      const after = group.margins();
      if (before.left !== after.left || before.right !== after.right) {
        for (const other of group.others()) other.marginsChanged();
      }
    }
    picture = { ...size, height, start, end, margins: group.margins(), scales, units, text: textSize(view.plot) };
    paintPlot(context, picture, series, color);
    const empty = series.every(({ data }) => !data.extent(start, end));
    view.showNote(noteText ?? (empty ? "No values in this period" : null));
    drawMarks();
    if (performance.now() - summarizedAt > SUMMARY_INTERVAL_MS) {
      summarizedAt = performance.now();
      view.surface.setAttribute("aria-label", summarize(label, series, [start, end]));
    }
    if (base.windowMs && !zoom) {
      const stepMs = (end - start) / (plotWidth() * size.pixelRatio);
      // Also when nothing moves: a value that is too old leaves the readout.
      redraw.paced(Math.min(MAX_STEP_MS, calm.matches ? Math.max(1000, stepMs) : stepMs));
    }
  }

  function scaleOf(side, start, end) {
    const its = series.filter(({ spec }) => (spec.axis === "right" ? "right" : "left") === side);
    if (its.length === 0) return null;
    let extent = null;
    for (const { data } of its) {
      const one = data.extent(start, end);
      if (one) extent = extent ? [Math.min(extent[0], one[0]), Math.max(extent[1], one[1])] : one;
    }
    return fitScale(extent, axes[side] ?? {}, height - 4 * textSize(view.plot), picture?.scales[side] ?? null);
  }

  function drawMarks() {
    cancelAnimationFrame(marksFrame);
    marksFrame = 0;
    if (!picture) return;
    const { start, end } = picture;
    if (cursor !== null && (cursor < start || cursor > end)) cursor = null;
    const shown = cursor === null ? null : valuesAt(series, cursor, (end - start) / plotWidth());
    const dots = [];
    series.forEach(({ spec }, n) => {
      if (shown && spec.kind !== "band" && !Number.isNaN(shown.values[n])) {
        const value = shown.values[n];
        dots.push({ value, side: spec.axis, color: value < 0 ? (spec.negativeColor ?? spec.color) : spec.color });
      }
    });
    paintMarks(view.marks.getContext("2d"), picture, { cursor, dots, selection }, color);
    const live = base.windowMs > 0 && !zoom;
    const values = shown?.values ?? (live ? newestValues(series, now()) : null);
    view.readout.show(cursor === null ? describePeriod(start, end, live) : formatTime(cursor, end - start), values);
    view.showZoomed(zoom !== null);
    view.surface.setAttribute("aria-valuemin", String(Math.round(start)));
    view.surface.setAttribute("aria-valuemax", String(Math.round(end)));
    view.surface.setAttribute("aria-valuenow", String(Math.round(cursor ?? end)));
    view.surface.setAttribute(
      "aria-valuetext",
      cursor === null ? describePeriod(start, end, live) : spokenValues(series, values, cursor, end - start),
    );
  }

  function moveCursor(time) {
    const [start, end] = period();
    const inside = time === null ? null : Math.min(end, Math.max(start, time));
    member.showCursor(inside === null ? null : snap(series, inside, msPerPx()));
    for (const other of group.others()) other.showCursor(cursor);
  }

  function setZoom(selected) {
    const range = selected && selected.map(Math.round);
    member.showRange(range);
    for (const other of group.others()) other.showRange(range);
    onRange?.(range ? range[0] : null, range ? range[1] : null);
  }

  function resetZoom() {
    if (!zoom) return false;
    setZoom(null);
    return true;
  }

  openInput(
    view.surface,
    {
      timeAt(clientX) {
        const [start, end] = period();
        const plot = plotEdges({ width: size.width, height, margins: group.margins(), text: textSize(view.plot) });
        const x = clientX - view.surface.getBoundingClientRect().left;
        const part = (x - plot.left) / (plot.right - plot.left);
        return start + Math.min(1, Math.max(0, part)) * (end - start);
      },
      cursor: () => cursor,
      moveCursor,
      stepCursor(count) {
        const time = stepFrom(series, cursor, count, period(), msPerPx());
        if (time !== null) moveCursor(time);
      },
      cursorTo: (edge) => moveCursor(period()[edge === "start" ? 0 : 1]),
      select(range) {
        selection = range;
        marksFrame ||= requestAnimationFrame(drawMarks);
      },
      apply: setZoom,
      reset: resetZoom,
    },
    signal,
  );

  const resize = new ResizeObserver((entries) => {
    const width = entries[entries.length - 1].contentRect.width;
    const pixelRatio = window.devicePixelRatio || 1;
    if (width === size.width && pixelRatio === size.pixelRatio) return;
    size = { width, pixelRatio };
    for (const canvas of [view.plot, view.marks]) {
      canvas.width = Math.round(width * pixelRatio);
      canvas.height = Math.round(height * pixelRatio);
    }
    // A canvas that has a new size is empty: waiting for the next frame would show that.
    draw();
  });
  resize.observe(view.surface);
  signal.addEventListener("abort", () => {
    resize.disconnect();
    cancelAnimationFrame(marksFrame);
    view.root.remove();
  });

  const find = (seriesId) => {
    const entry = byId.get(seriesId);
    if (!entry) throw new RangeError(`${seriesId} is no series of this chart: ${[...byId.keys()].join(", ")}`);
    return entry;
  };
  return {
    setData(seriesId, times, values, { low, high, gapMs: itsGapMs } = {}) {
      const entry = find(seriesId);
      entry.data.replace(times, values, { low, high });
      entry.gapMs = itsGapMs ?? entry.spec.gapMs ?? gapMs;
      summarizedAt = -Infinity;
      redraw.soon();
    },
    append(seriesId, time, value) {
      const { data } = find(seriesId);
      data.append(time, value);
      const oldest = now() - 2 * base.windowMs;
      if (base.windowMs && !zoom && data.times[0] < oldest) data.trimBefore(now() - 1.1 * base.windowMs);
      redraw.paced();
    },
    setRange(startMs, endMs) {
      if (!(endMs > startMs)) throw new RangeError(`the range ends at ${endMs}, not after its start, ${startMs}`);
      // The values of what the user selected: the way back is still to what was shown before.
      if (zoom && Math.abs(zoom[0] - startMs) < 1000 && Math.abs(zoom[1] - endMs) < 1000) return;
      [base, zoom, summarizedAt] = [{ start: startMs, end: endMs, windowMs: 0 }, null, -Infinity];
      redraw.soon();
    },
    setFollowing(windowMs) {
      if (!(windowMs > 0)) throw new RangeError(`the window is ${windowMs} ms: it must be positive`);
      [base, zoom, summarizedAt] = [{ start: 0, end: 0, windowMs }, null, -Infinity];
      redraw.soon();
    },
    clear() {
      for (const { data } of series) data.replace([], []);
      [picture, noteText, summarizedAt] = [null, null, -Infinity];
      redraw.soon();
    },
    note(text) {
      noteText = text;
      redraw.soon();
    },
  };
}

/** The elements of a chart. */
function createView(series, { label, height, period, signal, onReset }) {
  const create = (tag, className, parent) => {
    const element = document.createElement(tag);
    element.className = className;
    parent?.append(element);
    return element;
  };
  const root = create("div", "chart");
  const readout = createReadout(series);
  root.append(readout.element);
  const reset = create("button", "chart-reset", readout.element);
  reset.type = "button";
  reset.textContent = "Reset zoom";
  reset.hidden = true;
  reset.addEventListener("click", onReset, { signal });
  const frame = create("div", "chart-frame", root);
  const surface = create("div", "chart-surface", frame);
  surface.style.height = `${height}px`;
  surface.tabIndex = 0;
  // A slider over time: its text is what the series are at the crosshair.
  surface.setAttribute("role", "slider");
  surface.setAttribute("aria-label", label);
  surface.setAttribute("aria-valuenow", "0");
  const plot = create("canvas", "chart-canvas", surface);
  const marks = create("canvas", "chart-canvas", surface);
  // Beside the slider, as a screen reader does not say what is within one.
  const note = create("div", "chart-note", frame);
  note.setAttribute("role", "status");
  const noteText = create("span", "chart-note-text", note);
  note.hidden = true;
  root.append(createAlternative({ label, series, period, signal }).element);
  return {
    root,
    surface,
    plot,
    marks,
    readout,
    showZoomed(zoomed) {
      reset.hidden = !zoomed;
    },
    showNote(text) {
      note.hidden = text === null;
      if (noteText.textContent !== (text ?? "")) noteText.textContent = text ?? "";
    },
  };
}

/** "Last 15 min" or "27 Nov 14:00:00 – 27 Nov 15:00:00". */
function describePeriod(start, end, live) {
  const span = Math.round(end - start);
  if (!live) return `${formatTime(start, span)} \u2013 ${formatTime(end, span)}`;
  const units = [["d", 86_400_000], ["h", 3_600_000], ["min", 60_000], ["s", 1000]];
  const [unit, ms] = units.find(([, each]) => span >= each && span % each === 0) ?? units[3];
  return `Last ${Math.round(span / ms)} ${unit}`;
}
