// Draws the plot of a chart on its canvas: grid, axes, series; and on a second one the crosshair and the selection.

import { niceScale, formatNumber, timeTicks, zoneName } from "./axis.js";
import { PointList, projectBand, projectLine } from "./project.js";

/** What is above and below the plot, in heights of the labels' text. */
const TOP = 20 / 11;
const BOTTOM = 24 / 11;
/** Buffers shared by all charts: drawing is synchronous. */
const [LINE, LOWER, UPPER] = [new PointList(), new PointList(), new PointList()];

/**
 * @typedef {{min: number, max: number, step: number, digits: number, ticks: number[]}} Scale
 * @typedef {{width: number, height: number, pixelRatio: number, start: number, end: number,
 *   margins: {left: number, right: number}, scales: {left: Scale|null, right: Scale|null},
 *   units: {left: string, right: string}, gapMs: number, text: number}} Picture  text: as `textSize`
 */

/** @returns {number} the height of the labels' text in CSS pixels */
export const textSize = (canvas) => Number.parseFloat(getComputedStyle(canvas).fontSize) || 11;

/** @returns {{left: number, top: number, right: number, bottom: number}} the plot's edges in CSS pixels */
export function plotEdges({ width, height, margins, text }) {
  return { left: margins.left, top: TOP * text, right: Math.max(margins.left + 1, width - margins.right), bottom: height - BOTTOM * text };
}

/**
 * The scale of the values that are visible. Keeps `previous` while it fits, so that a live axis does not jump.
 * @param {[number, number]|null} extent
 * @param {{min?: number, max?: number, includeZero?: boolean}} options `min` and `max` fix the axis
 * @param {number} height of the plot in CSS pixels
 * @param {Scale|null} previous
 * @returns {Scale}
 */
export function fitScale(extent, { min, max, includeZero = true }, height, previous) {
  let [low, high] = extent ?? [min ?? 0, max ?? 1];
  if (includeZero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  if (min !== undefined) low = min;
  if (max !== undefined) high = max;
  const scale = niceScale(low, high, Math.max(2, Math.floor(height / 30)));
  const fits = previous && previous.min <= low && previous.max >= high;
  return fits && scale.max - scale.min > 0.6 * (previous.max - previous.min) ? previous : scale;
}

/** @returns {number} the room that the labels of an axis need, in CSS pixels */
export function axisMargin(context, scale, least) {
  if (!scale) return least;
  setFont(context);
  const widths = scale.ticks.map((tick) => context.measureText(formatNumber(tick, scale.digits)).width);
  return Math.max(least, Math.ceil(Math.max(...widths)) + 14);
}

/**
 * Draws grid, axes and series.
 * @param {CanvasRenderingContext2D} context
 * @param {Picture} picture
 * @param {{spec: object, data: import("./series.js").SeriesData}[]} series
 * @param {(property: string) => string} color
 */
export function paintPlot(context, picture, series, color) {
  const { width, height, pixelRatio, scales } = picture;
  const plot = plotEdges(picture);
  context.setTransform(pixelRatio, 0, 0, pixelRatio, 0, 0);
  context.clearRect(0, 0, width, height);
  setFont(context);
  paintValueAxes(context, picture, plot, color);
  paintTimeAxis(context, picture, plot, color);
  context.save();
  context.beginPath();
  context.rect(plot.left, plot.top - 1, plot.right - plot.left, plot.bottom - plot.top + 2);
  context.clip();
  // Filled ones below, lines above; the first named is the most important, and drawn last.
  const filled = (spec) => spec.kind === "area" || spec.kind === "band";
  for (const entry of [...series].reverse().sort((a, b) => filled(b.spec) - filled(a.spec))) {
    const scale = scales[entry.spec.axis] ?? scales.left;
    if (entry.data.length > 0 && scale) paintSeries(context, picture, plot, entry, scale, color);
  }
  context.restore();
}

function paintValueAxes(context, picture, plot, color) {
  const { scales, units, pixelRatio } = picture;
  context.textBaseline = "middle";
  context.lineWidth = 1;
  for (const side of ["left", "right"]) {
    const scale = scales[side];
    if (!scale) continue;
    const edge = side === "left" ? plot.left : plot.right;
    context.textAlign = side === "left" ? "right" : "left";
    const outside = side === "left" ? -8 : 8;
    for (const tick of scale.ticks) {
      const y = sharp(toY(tick, scale, plot), pixelRatio);
      const zero = side === "left" && Math.abs(tick) < scale.step / 1e6;
      context.strokeStyle = color(zero ? "--line-strong" : "--line");
      if (side === "left") line(context, plot.left, y, plot.right, y);
      else line(context, plot.right, y, plot.right + 4, y);
      context.fillStyle = color(zero ? "--ink" : "--ink-muted");
      context.fillText(formatNumber(tick, scale.digits), edge + outside, y);
    }
    context.fillStyle = color("--ink-muted");
    // A unit with an explanation ("MW, + is discharging") begins at the edge of the chart.
    const wide = side === "left" && context.measureText(units.left).width > plot.left - 8;
    if (wide) context.textAlign = "left";
    context.fillText(units[side], wide ? 0 : edge + outside, 0.64 * picture.text);
  }
}

function paintTimeAxis(context, picture, plot, color) {
  const { start, end, pixelRatio, height } = picture;
  const middle = height - (BOTTOM * picture.text) / 2 + 1;
  context.textBaseline = "middle";
  context.textAlign = "left";
  const zone = zoneName(end);
  context.fillStyle = color("--ink-muted");
  context.fillText(zone, 0, middle);
  let free = context.measureText(zone).width + 10;
  context.textAlign = "center";
  const perMs = (plot.right - plot.left) / (end - start);
  for (const { time, label, major } of timeTicks(start, end, plot.right - plot.left)) {
    const x = sharp(plot.left + (time - start) * perMs, pixelRatio);
    context.strokeStyle = color(major ? "--line-strong" : "--line");
    line(context, x, major ? plot.top : plot.bottom, x, plot.bottom + 4);
    const half = context.measureText(label).width / 2;
    if (x - half < free || x + half > picture.width) continue;
    context.fillStyle = color(major ? "--ink" : "--ink-muted");
    context.fillText(label, x, middle);
    free = x + half + 10;
  }
}

function paintSeries(context, picture, plot, { spec, data, gapMs }, scale, color) {
  const yScale = (plot.bottom - plot.top) / (scale.max - scale.min);
  const at = {
    start: picture.start,
    end: picture.end,
    left: plot.left,
    width: plot.right - plot.left,
    pixelRatio: picture.pixelRatio,
    zeroY: plot.bottom + scale.min * yScale,
    yScale,
  };
  const options = { gapMs, stepped: spec.kind === "step" };
  context.strokeStyle = context.fillStyle = color(spec.color);
  context.lineJoin = context.lineCap = "round";
  if (data.low) {
    projectBand(data, at, options, LOWER, UPPER);
    context.globalAlpha = spec.kind === "band" ? 0.28 : 0.2;
    fillBand(context);
    context.globalAlpha = 1;
  }
  if (spec.kind === "band") return;
  projectLine(data, at, options, LINE);
  if (!spec.negativeColor || scale.min >= 0) {
    paintLine(context, plot, at, spec);
    return;
  }
  const zeroY = Math.min(plot.bottom, Math.max(plot.top, at.zeroY));
  const parts = [
    [spec.color, plot.top - 1, zeroY],
    [spec.negativeColor, zeroY, plot.bottom + 1],
  ];
  for (const [property, top, bottom] of parts) {
    context.save();
    context.beginPath();
    context.rect(plot.left, top, plot.right - plot.left, bottom - top);
    context.clip();
    context.strokeStyle = context.fillStyle = color(property);
    paintLine(context, plot, at, spec);
    context.restore();
  }
}

/** Draws the points of `LINE`, with the area to zero if it is one. */
function paintLine(context, plot, at, spec) {
  if (spec.kind === "area") {
    context.globalAlpha = 0.22;
    fillArea(context, Math.min(plot.bottom, Math.max(plot.top, at.zeroY)));
    context.globalAlpha = 1;
  }
  context.lineWidth = spec.dash ? 1.5 : 1.75;
  if (spec.dash) {
    context.lineCap = "butt";
    context.setLineDash([5, 3]);
  }
  strokeLine(context);
  context.setLineDash([]);
  fillSinglePoints(context);
}

function strokeLine(context) {
  context.beginPath();
  for (let run = 0; run < LINE.runs.length; run += 1) {
    const end = LINE.runEnd(run);
    context.moveTo(LINE.xs[LINE.runs[run]], LINE.ys[LINE.runs[run]]);
    for (let i = LINE.runs[run] + 1; i < end; i += 1) context.lineTo(LINE.xs[i], LINE.ys[i]);
  }
  context.stroke();
}

/** A point between two gaps has no line: a dot shows it. */
function fillSinglePoints(context) {
  context.beginPath();
  for (let run = 0; run < LINE.runs.length; run += 1) {
    if (LINE.runEnd(run) !== LINE.runs[run] + 1) continue;
    const i = LINE.runs[run];
    context.moveTo(LINE.xs[i] + 1.5, LINE.ys[i]);
    context.arc(LINE.xs[i], LINE.ys[i], 1.5, 0, 2 * Math.PI);
  }
  context.fill();
}

function fillArea(context, baseY) {
  context.beginPath();
  for (let run = 0; run < LINE.runs.length; run += 1) {
    const end = LINE.runEnd(run);
    context.moveTo(LINE.xs[LINE.runs[run]], baseY);
    for (let i = LINE.runs[run]; i < end; i += 1) context.lineTo(LINE.xs[i], LINE.ys[i]);
    context.lineTo(LINE.xs[end - 1], baseY);
  }
  context.fill();
}

function fillBand(context) {
  context.beginPath();
  for (let run = 0; run < UPPER.runs.length; run += 1) {
    const [begin, end] = [UPPER.runs[run], UPPER.runEnd(run)];
    // A band of one point is as wide as a line, not invisible.
    const extra = end === begin + 1 ? 0.75 : 0;
    context.moveTo(UPPER.xs[begin] - extra, UPPER.ys[begin]);
    for (let i = begin; i < end; i += 1) context.lineTo(UPPER.xs[i] + extra, UPPER.ys[i]);
    for (let i = end - 1; i >= begin; i -= 1) context.lineTo(LOWER.xs[i] + extra, LOWER.ys[i]);
    context.lineTo(LOWER.xs[begin] - extra, LOWER.ys[begin]);
  }
  context.fill();
}

/**
 * Draws the crosshair with a dot on each series, and the range that is being selected.
 * @param {CanvasRenderingContext2D} context
 * @param {Picture} picture
 * @param {{cursor: number|null, dots: {value: number, side: "left"|"right", color: string}[],
 *   selection: [number, number]|null}} marks times in epoch milliseconds
 * @param {(property: string) => string} color
 */
export function paintMarks(context, picture, { cursor, dots, selection }, color) {
  const { width, height, pixelRatio, start, end, scales } = picture;
  const plot = plotEdges(picture);
  const toX = (time) =>
    Math.min(plot.right, Math.max(plot.left, plot.left + ((time - start) * (plot.right - plot.left)) / (end - start)));
  context.setTransform(pixelRatio, 0, 0, pixelRatio, 0, 0);
  context.clearRect(0, 0, width, height);
  if (selection) {
    const [from, to] = [toX(Math.min(...selection)), toX(Math.max(...selection))];
    context.fillStyle = color("--accent");
    context.globalAlpha = 0.16;
    context.fillRect(from, plot.top, to - from, plot.bottom - plot.top);
    context.globalAlpha = 1;
    context.strokeStyle = color("--accent");
    for (const x of [from, to]) line(context, sharp(x, pixelRatio), plot.top, sharp(x, pixelRatio), plot.bottom);
  }
  if (cursor === null || cursor < start || cursor > end) return;
  context.strokeStyle = color("--ink-muted");
  const x = toX(cursor);
  line(context, sharp(x, pixelRatio), plot.top, sharp(x, pixelRatio), plot.bottom);
  for (const dot of dots) {
    const scale = scales[dot.side] ?? scales.left;
    if (!scale) continue;
    context.beginPath();
    context.arc(x, toY(dot.value, scale, plot), 3.5, 0, 2 * Math.PI);
    context.fillStyle = color(dot.color);
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = color("--surface-raised");
    context.stroke();
    context.lineWidth = 1;
  }
}

function toY(value, scale, plot) {
  return plot.bottom - ((value - scale.min) * (plot.bottom - plot.top)) / (scale.max - scale.min);
}

/** The middle of the device pixel at `x`: a line of one pixel there is not blurred. */
function sharp(x, pixelRatio) {
  return (Math.floor(x * pixelRatio) + 0.5) / pixelRatio;
}

function line(context, x1, y1, x2, y2) {
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}

function setFont(context) {
  const { fontSize, fontFamily } = getComputedStyle(context.canvas);
  context.font = `${fontSize} ${fontFamily}`;
}
