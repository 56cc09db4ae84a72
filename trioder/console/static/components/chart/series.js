// The points of one series of a chart: ascending times with values, and what lies at or near a time.

/** Points in order of time. A value that is NaN is a gap. */
export class SeriesData {
  constructor() {
    this.length = 0;
    this.times = new Float64Array(0);
    this.values = new Float64Array(0);
    /** @type {Float64Array|null} lowest value of each bucket */
    this.low = null;
    /** @type {Float64Array|null} highest value of each bucket */
    this.high = null;
  }

  /**
   * Replaces all points.
   * @param {ArrayLike<number>} times epoch milliseconds, ascending
   * @param {ArrayLike<number|null>} values
   * @param {{low?: ArrayLike<number|null>, high?: ArrayLike<number|null>}} [bounds] both or none
   * @throws {RangeError} if lengths differ, or times do not ascend
   */
  replace(times, values, { low, high } = {}) {
    for (const [name, list] of Object.entries({ values, low, high })) {
      if (list && list.length !== times.length) {
        throw new RangeError(`${name} has ${list.length} entries, times has ${times.length}: they must be equal`);
      }
    }
    if (!low !== !high) throw new RangeError("low and high belong together: only one is given");
    for (let i = 1; i < times.length; i += 1) {
      if (!(times[i] > times[i - 1])) {
        throw new RangeError(`times[${i}] is ${times[i]}, not after times[${i - 1}], ${times[i - 1]}`);
      }
    }
    this.length = times.length;
    this.times = Float64Array.from(times);
    this.values = toNumbers(values);
    this.low = low ? toNumbers(low) : null;
    this.high = high ? toNumbers(high) : null;
  }

  /**
   * Adds a point. One at a known time replaces it; one from before the last is put in order.
   * @param {number} time epoch milliseconds
   * @param {number|null} value null for a gap
   */
  append(time, value) {
    const number = toNumber(value);
    const after = this.indexAtOrBefore(time);
    if (after >= 0 && this.times[after] === time) {
      this.#set(after, time, number);
      return;
    }
    if (this.length === this.times.length) this.#grow();
    const at = after + 1;
    for (const list of this.#lists()) list.copyWithin(at + 1, at, this.length);
    this.length += 1;
    this.#set(at, time, number);
  }

  /** Drops the points before `time`, except the last of them: a line may lead from it into the view. */
  trimBefore(time) {
    const first = this.indexAtOrBefore(time);
    if (first <= 0) return;
    for (const list of this.#lists()) list.copyWithin(0, first, this.length);
    this.length -= first;
  }

  /** @returns {number} index of the last point at or before `time`, or -1 */
  indexAtOrBefore(time) {
    let [low, high] = [0, this.length];
    // Live points come last: one comparison finds their place.
    if (high > 0 && this.times[high - 1] <= time) return high - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] <= time) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /**
   * The point that a cursor at `time` shows, or -1 in a gap.
   * @param {number} time epoch milliseconds
   * @param {number} gapMs longer steps are gaps
   * @param {number} reach milliseconds: how near a point at the edge of a gap must be
   * @param {boolean} stepped if values hold until the next
   * @returns {number} an index, or -1
   */
  indexFor(time, gapMs, reach, stepped) {
    const before = this.indexAtOrBefore(time);
    const after = before + 1;
    const toBefore = before >= 0 && !Number.isNaN(this.values[before]) ? time - this.times[before] : Infinity;
    const toAfter =
      after < this.length && !Number.isNaN(this.values[after]) ? this.times[after] - time : Infinity;
    if (toBefore + toAfter <= gapMs && toBefore + toAfter < Infinity) {
      return stepped || toBefore <= toAfter ? before : after;
    }
    if (Math.min(toBefore, toAfter) > reach) return -1;
    return toBefore <= toAfter ? before : after;
  }

  /**
   * The least and greatest value from `start` to `end`, with those on either side that a line leads to.
   * @returns {[number, number]|null} null if there is none
   */
  extent(start, end) {
    const last = Math.min(this.length - 1, this.indexAtOrBefore(end) + 1);
    let [min, max] = [Infinity, -Infinity];
    const [lows, highs] = [this.low ?? this.values, this.high ?? this.values];
    for (let i = Math.max(0, this.indexAtOrBefore(start)); i <= last; i += 1) {
      // Comparisons with NaN are false: gaps take no part.
      if (lows[i] < min) min = lows[i];
      if (highs[i] > max) max = highs[i];
      if (this.values[i] < min) min = this.values[i];
      if (this.values[i] > max) max = this.values[i];
    }
    return min <= max ? [min, max] : null;
  }

  #set(at, time, number) {
    this.times[at] = time;
    this.values[at] = number;
    if (this.low) this.low[at] = number;
    if (this.high) this.high[at] = number;
  }

  #lists() {
    return [this.times, this.values, this.low, this.high].filter((list) => list !== null);
  }

  #grow() {
    const capacity = Math.max(64, this.length * 2);
    const larger = (list) => {
      const copy = new Float64Array(capacity);
      copy.set(list);
      return copy;
    };
    this.times = larger(this.times);
    this.values = larger(this.values);
    if (this.low) this.low = larger(this.low);
    if (this.high) this.high = larger(this.high);
  }
}

function toNumber(value) {
  return value === null || value === undefined ? NaN : value;
}

function toNumbers(list) {
  return list instanceof Float64Array ? list.slice() : Float64Array.from(list, toNumber);
}
