// Points of a series as pixels: at most four to a pixel column, and runs that end at gaps.

/**
 * Where a chart draws: `left` and `width` in CSS pixels for the time from `start`, `pixelRatio` device pixels to each;
 * a value is at `zeroY - value * yScale`.
 * @typedef {{start: number, end: number, left: number, width: number, pixelRatio: number, zeroY: number,
 *   yScale: number}} Projection
 */

/** A growing list of points; `runs` has the index at which each run without gaps begins. */
export class PointList {
  constructor() {
    this.xs = new Float64Array(1024);
    this.ys = new Float64Array(1024);
    this.length = 0;
    /** @type {number[]} */
    this.runs = [];
  }

  clear() {
    this.length = 0;
    this.runs.length = 0;
  }

  begin() {
    this.runs.push(this.length);
  }

  push(x, y) {
    if (this.length === this.xs.length) {
      this.xs = doubled(this.xs);
      this.ys = doubled(this.ys);
    }
    this.xs[this.length] = x;
    this.ys[this.length] = y;
    this.length += 1;
  }

  /** @returns {number} the index after the last point of run `n` */
  runEnd(n) {
    return n + 1 < this.runs.length ? this.runs[n + 1] : this.length;
  }
}

/**
 * The line of a series. With more than two points to a pixel column, each column keeps its first, lowest, highest and
 * last value in their order, so that no peak is lost.
 * @param {import("./series.js").SeriesData} data
 * @param {Projection} at
 * @param {{gapMs: number, stepped: boolean}} options
 * @param {PointList} out is cleared first
 */
export function projectLine(data, at, { gapMs, stepped }, out) {
  out.clear();
  const { times, values } = data;
  const [first, last] = visibleIndexes(data, at);
  const perMs = at.width / (at.end - at.start);
  const columnsPerMs = last - first > 2 * at.width * at.pixelRatio ? perMs * at.pixelRatio : 0;
  let open = false;
  let lastTime = 0;
  let lastY = 0;
  // The column that is being collected: its number, and indexes of its points.
  let column = NaN;
  let [begin, low, high, end] = [0, 0, 0, 0];

  const point = (x, i) => {
    const y = at.zeroY - values[i] * at.yScale;
    if (stepped && open && out.length > out.runs[out.runs.length - 1]) out.push(x, lastY);
    out.push(x, y);
    lastY = y;
  };
  const flush = () => {
    if (Number.isNaN(column)) return;
    const x = at.left + (column + 0.5) / at.pixelRatio;
    point(x, begin);
    const [one, other] = low < high ? [low, high] : [high, low];
    if (one !== begin) point(x, one);
    if (other !== one && other !== begin) point(x, other);
    if (end !== other && end !== begin) point(x, end);
    column = NaN;
  };

  for (let i = first; i <= last; i += 1) {
    const value = values[i];
    const time = times[i];
    if (value !== value || (open && time - lastTime > gapMs)) {
      flush();
      open = false;
      if (value !== value) continue;
    }
    if (columnsPerMs === 0) {
      if (!open) out.begin();
      open = true;
      point(at.left + (time - at.start) * perMs, i);
    } else {
      const itsColumn = Math.floor((time - at.start) * columnsPerMs);
      if (!open || itsColumn !== column) {
        flush();
        if (!open) out.begin();
        open = true;
        column = itsColumn;
        begin = low = high = end = i;
      } else {
        if (value < values[low]) low = i;
        if (value > values[high]) high = i;
        end = i;
      }
    }
    lastTime = time;
  }
  flush();
}

/**
 * The two edges of the band between a series' low and high, with as many points each.
 * @param {import("./series.js").SeriesData} data with low and high
 * @param {Projection} at
 * @param {{gapMs: number, stepped: boolean}} options
 * @param {PointList} lower is cleared first
 * @param {PointList} upper is cleared first
 */
export function projectBand(data, at, { gapMs, stepped }, lower, upper) {
  lower.clear();
  upper.clear();
  const { times, low, high } = data;
  const [first, last] = visibleIndexes(data, at);
  const perMs = at.width / (at.end - at.start);
  const dense = last - first > 2 * at.width * at.pixelRatio;
  let open = false;
  let lastTime = 0;
  let column = NaN;
  let [least, most] = [0, 0];

  const point = (x) => {
    if (stepped && upper.length > upper.runs[upper.runs.length - 1]) {
      lower.push(x, lower.ys[lower.length - 1]);
      upper.push(x, upper.ys[upper.length - 1]);
    }
    lower.push(x, at.zeroY - least * at.yScale);
    upper.push(x, at.zeroY - most * at.yScale);
  };
  const flush = () => {
    if (!Number.isNaN(column)) point(at.left + (column + 0.5) / at.pixelRatio);
    column = NaN;
  };

  for (let i = first; i <= last; i += 1) {
    const time = times[i];
    const gap = low[i] !== low[i] || high[i] !== high[i];
    if (gap || (open && time - lastTime > gapMs)) {
      flush();
      open = false;
      if (gap) continue;
    }
    const itsColumn = dense ? Math.floor((time - at.start) * perMs * at.pixelRatio) : NaN;
    if (dense && open && itsColumn === column) {
      least = Math.min(least, low[i]);
      most = Math.max(most, high[i]);
    } else {
      flush();
      if (!open) {
        lower.begin();
        upper.begin();
        open = true;
      }
      [column, least, most] = [itsColumn, low[i], high[i]];
      if (!dense) point(at.left + (time - at.start) * perMs);
    }
    lastTime = time;
  }
  flush();
}

/** First and last index to draw: one more on either side, from and to which lines lead. */
function visibleIndexes(data, at) {
  return [Math.max(0, data.indexAtOrBefore(at.start)), Math.min(data.length - 1, data.indexAtOrBefore(at.end) + 1)];
}

function doubled(list) {
  const copy = new Float64Array(list.length * 2);
  copy.set(list);
  return copy;
}
