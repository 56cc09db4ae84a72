// The crosshair of a chart: where it stands, what the series are there, and how it moves from sample to sample.

/** How near a sample at the edge of a gap must be for the crosshair to show it, in CSS pixels. */
const REACH_PX = 4;
const NEWEST_AGE_MS = 15_000;

/** @typedef {{spec: object, data: import("./series.js").SeriesData, gapMs: number}} Entry */

/**
 * @param {Entry[]} series
 * @param {number} time epoch milliseconds
 * @param {number} msPerPx milliseconds to a CSS pixel
 * @returns {{values: number[], times: number[]}} NaN where a series has a gap
 */
export function valuesAt(series, time, msPerPx) {
  const indexes = series.map(({ spec, data, gapMs }) =>
    data.indexFor(time, gapMs, REACH_PX * msPerPx, spec.kind === "step"),
  );
  return {
    values: indexes.map((index, n) => (index < 0 ? NaN : series[n].data.values[index])),
    times: indexes.map((index, n) => (index < 0 ? NaN : series[n].data.times[index])),
  };
}

/** @returns {number[]} the last value of each series; NaN for one that is older than its gap, or than 15 s without one */
export function newestValues(series, now) {
  return series.map(({ data, gapMs }) => {
    const last = data.length - 1;
    const ageMs = Number.isFinite(gapMs) ? gapMs : NEWEST_AGE_MS;
    return last >= 0 && now - data.times[last] <= ageMs ? data.values[last] : NaN;
  });
}

/** @returns {number} the time of the sample nearest to `time`, or `time` itself in a gap of all series */
export function snap(series, time, msPerPx) {
  let nearest = Infinity;
  for (const { spec, data, gapMs } of series) {
    // A stepped value holds: its last change is no better place than any other.
    if (spec.kind === "step" && series.length > 1) continue;
    const index = data.indexFor(time, gapMs, REACH_PX * msPerPx, false);
    if (index >= 0 && Math.abs(data.times[index] - time) < Math.abs(nearest - time)) nearest = data.times[index];
  }
  return nearest === Infinity ? time : nearest;
}

/**
 * @param {Entry[]} series
 * @param {number|null} cursor where it is now
 * @param {number} count of samples, or of pixels where samples are denser; negative to the left
 * @param {[number, number]} period
 * @param {number} msPerPx
 * @returns {number|null} the time of a sample within the period; null if there is none
 */
export function stepFrom(series, cursor, count, [start, end], msPerPx) {
  const entry = series.find(({ data }) => data.indexAtOrBefore(end) > data.indexAtOrBefore(start));
  if (!entry) return null;
  const { data } = entry;
  const [first, last] = [data.indexAtOrBefore(start - 1e-3) + 1, data.indexAtOrBefore(end)];
  if (cursor === null) return data.times[count < 0 ? last : first];
  const here = data.indexAtOrBefore(cursor);
  const byPixel = data.indexAtOrBefore(cursor + count * msPerPx);
  const bySample = count < 0 && data.times[here] < cursor ? here + count + 1 : here + count;
  const index = count < 0 ? Math.min(byPixel, bySample) : Math.max(byPixel, bySample);
  return data.times[Math.min(last, Math.max(first, index))];
}
