// Ticks and labels of the axes of a chart: round numbers, and local time from seconds to years.

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Steps of the time axis: [milliseconds, unit, how many units]. Months and years are about so long. */
const TIME_STEPS = [
  ...[1, 2, 5, 10, 15, 30].map((n) => [n * SECOND, "second", n]),
  ...[1, 2, 5, 10, 15, 30].map((n) => [n * MINUTE, "minute", n]),
  ...[1, 2, 3, 6, 12].map((n) => [n * HOUR, "hour", n]),
  ...[1, 2, 7, 14].map((n) => [n * DAY, "day", n]),
  ...[1, 3, 6].map((n) => [n * 30.4 * DAY, "month", n]),
  ...[1, 2, 5, 10].map((n) => [n * 365.25 * DAY, "year", n]),
];

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const MINUS = "\u2212";
const formats = new Map();

/**
 * A number with a fixed count of digits, thousands separated, and a minus sign as wide as a digit.
 * @param {number} value
 * @param {number} digits after the decimal point
 * @returns {string} an en dash for what is not a number
 */
export function formatNumber(value, digits) {
  if (!Number.isFinite(value)) return "\u2013";
  let format = formats.get(digits);
  if (!format) {
    format = new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    formats.set(digits, format);
  }
  const text = format.format(value);
  if (!text.startsWith("-")) return text;
  // "-0.0" is a rounded zero: its sign would say that the battery charges.
  return /[1-9]/.test(text) ? MINUS + text.slice(1) : text.slice(1);
}

/**
 * A range of round numbers around [min, max], and its ticks.
 * @param {number} min
 * @param {number} max
 * @param {number} count about how many intervals
 * @returns {{min: number, max: number, step: number, digits: number, ticks: number[]}}
 */
export function niceScale(min, max, count) {
  if (!(max > min)) {
    const margin = Math.abs(min) * 0.1 || 1;
    [min, max] = [min - margin, max + margin];
  }
  const rough = (max - min) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 2.5, 5, 10].find((f) => f * power >= rough * 0.999);
  const step = factor * power;
  // The ends are at half steps: whole ones would leave up to half of the plot empty.
  const from = Math.floor((2 * min) / step + 1e-6) / 2;
  const to = Math.ceil((2 * max) / step - 1e-6) / 2;
  const ticks = [];
  for (let n = Math.ceil(from); n <= to; n += 1) ticks.push(n * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (factor === 2.5 ? 1 : 0));
  return { min: from * step, max: to * step, step, digits: Math.min(digits, 6), ticks };
}

/**
 * Ticks of local time.
 * @param {number} start epoch milliseconds
 * @param {number} end epoch milliseconds
 * @param {number} width of the axis in CSS pixels
 * @returns {{time: number, label: string, major: boolean}[]} major ones name a day or a year
 */
export function timeTicks(start, end, width) {
  const room = ([ms, unit]) => (ms * width) / (end - start) >= (unit === "second" ? 84 : 62);
  const [, unit, n] = TIME_STEPS.find(room) ?? TIME_STEPS[TIME_STEPS.length - 1];
  const ticks = [];
  for (let at = firstTick(start, unit, n); at.getTime() <= end; at = nextTick(at, unit, n)) {
    if (at.getTime() >= start) ticks.push({ time: at.getTime(), ...tickLabel(at, unit) });
  }
  return ticks;
}

/** The last tick at or before `start`. */
function firstTick(start, unit, n) {
  const at = new Date(start);
  const [year, month, day] = [at.getFullYear(), at.getMonth(), at.getDate()];
  const floor = (value) => Math.floor(value / n) * n;
  switch (unit) {
    case "year":
      return new Date(floor(year), 0, 1);
    case "month":
      return new Date(year, floor(month), 1);
    case "day":
      return n < 7 ? new Date(year, month, 1 + floor(day - 1)) : new Date(year, month, day - ((at.getDay() + 6) % 7));
    case "hour":
      return new Date(year, month, day, floor(at.getHours()));
    default: {
      // Whole steps since local midnight by the zone's offset, which is a multiple of 15 minutes.
      const offset = at.getTimezoneOffset() * MINUTE;
      const step = n * (unit === "minute" ? MINUTE : SECOND);
      return new Date(Math.floor((start - offset) / step) * step + offset);
    }
  }
}

/** The tick after `at`: by the calendar, as days have 23 to 25 hours. */
function nextTick(at, unit, n) {
  const [year, month, day] = [at.getFullYear(), at.getMonth(), at.getDate()];
  switch (unit) {
    case "year":
      return new Date(year + n, 0, 1);
    case "month":
      return new Date(year, month + n, 1);
    case "day": {
      const next = new Date(year, month, day + n);
      // Every second day is counted from the first of each month.
      return n === 2 && next.getMonth() !== month ? new Date(year, month + 1, 1) : next;
    }
    case "hour": {
      const next = new Date(year, month, day, Math.floor(at.getHours() / n) * n + n);
      return next > at ? next : new Date(at.getTime() + n * HOUR);
    }
    default:
      return new Date(at.getTime() + n * (unit === "minute" ? MINUTE : SECOND));
  }
}

function tickLabel(at, unit) {
  const midnight = at.getHours() === 0 && at.getMinutes() === 0 && at.getSeconds() === 0;
  if (unit === "year") return { label: String(at.getFullYear()), major: false };
  if (unit === "month") {
    return at.getMonth() === 0
      ? { label: String(at.getFullYear()), major: true }
      : { label: MONTHS[at.getMonth()], major: false };
  }
  if (unit === "day") return { label: formatDay(at), major: false };
  if (midnight) return { label: formatDay(at), major: true };
  return { label: formatClock(at, unit === "second"), major: false };
}

function formatDay(at) {
  return `${at.getDate()} ${MONTHS[at.getMonth()]}`;
}

function formatClock(at, seconds) {
  const two = (value) => String(value).padStart(2, "0");
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return seconds ? `${clock}:${two(at.getSeconds())}` : clock;
}

/**
 * A moment in local time, as precise as a period of `span` milliseconds needs.
 * @param {number} time epoch milliseconds
 * @param {number} span milliseconds
 * @returns {string} "27 Nov 14:03:25"
 */
export function formatTime(time, span) {
  const at = new Date(time);
  const year = span > 180 * DAY ? ` ${at.getFullYear()}` : "";
  return `${formatDay(at)}${year} ${formatClock(at, span < 6 * HOUR)}`;
}

/**
 * The short name of the browser's zone at a moment: "CET", "UTC", "GMT+5:30".
 * @param {number} time epoch milliseconds
 * @returns {string}
 */
export function zoneName(time) {
  // Each English locale abbreviates the zones of its own region only.
  const names = ["en-US", "en-GB", "en-AU"].map((locale) => {
    const parts = new Intl.DateTimeFormat(locale, { timeZoneName: "short" }).formatToParts(new Date(time));
    return parts.find((part) => part.type === "timeZoneName")?.value ?? "";
  });
  return names.find((name) => !/[+\-\u2212]/.test(name)) ?? names[0];
}
