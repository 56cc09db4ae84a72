/**
 * Numbers with their units, times with their zone. A value that is not known is a dash, never 0.
 */

export const NONE = "–";
const MINUS = "−";

/** The local zone's short name, such as "PST"; a time is never shown without the zone being named near it. */
export const zoneName = (date = new Date()) =>
  Number.isNaN(date.getTime()) ? "" : new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts(date).find((part) => part.type === "timeZoneName")?.value ?? "";

/** The IANA name of the local zone, such as "America/Los_Angeles". */
export const zoneId = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

/** Whole numbers up to here are written out; no plant has them, but anybody can ask for 1e300 MW. */
const MANY_DIGITS = 1e15;

/**
 * A number with a fixed number of decimals, a true minus sign and no negative zero.
 * @param {number | null | undefined} value
 * @param {number} digits
 * @returns {string}
 */
export function number(value, digits) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const text = Math.abs(value) >= MANY_DIGITS ? Math.abs(value).toExponential(2) : Math.abs(value).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return value < 0 && /[1-9]/.test(text) ? MINUS + text : text;
}

/** Decimals that a power or an energy of this size deserves: 3 significant digits, 3 decimals at most. */
export function digitsOf(value) {
  const size = Math.abs(value ?? 0);
  if (size >= 1000) return 0;
  if (size >= 100) return 1;
  return size >= 1 || size === 0 ? 2 : 3;
}

/** Power in MW without its unit; `scale`: the value whose size decides the decimals, for columns that align. */
export const power = (mw, scale = mw) => number(mw, digitsOf(scale));
/** Power with its unit: "12.30 MW". */
export const mw = (value, scale = value) => unit(power(value, scale), "MW");
/** Energy with its unit: "48.10 MWh". */
export const mwh = (value, scale = value) => unit(number(value, digitsOf(scale)), "MWh");
/** A share of 100 with its unit: "54.2 %". */
export const percent = (value, digits = 1) => unit(number(value, digits), "%");

function unit(text, name) {
  return text === NONE ? NONE : `${text} ${name}`;
}

/** A count with thousands separators. */
export const count = (value) => number(value, 0);

/** "3 assets", "1 asset". */
export const plural = (n, noun, many = `${noun}s`) => `${count(n)} ${n === 1 ? noun : many}`;

/**
 * A duration in its two largest units: "0.4 s", "12 s", "3 min 20 s", "2 h 5 min", "3 d 4 h".
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  const s = Math.abs(seconds);
  if (s < 9.95) return `${number(s, 1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  const whole = Math.round(s);
  if (whole < 3600) return pair(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86400) return pair(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return pair(Math.floor(whole / 86400), "d", Math.floor((whole % 86400) / 3600), "h");
}

/** A duration in its largest unit, for a narrow column: "0.4 s", "12 s", "3 min", "2 h". */
export const age = (seconds) => duration(seconds).replace(/(?<=[a-z]) .*/, "");

/** A time that is left, in whole seconds at the end: "8 s", "3 min 20 s"; never negative. */
export const countdown = (seconds) => (seconds < 90 ? `${Math.max(0, Math.floor(seconds))} s` : duration(Math.floor(seconds)));

function pair(large, largeUnit, small, smallUnit) {
  return small ? `${large} ${largeUnit} ${small} ${smallUnit}` : `${large} ${largeUnit}`;
}

const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });
const YEAR = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short", year: "numeric" });

/** @param {string | number | Date | null | undefined} at  RFC 3339, epoch milliseconds or a date */
function dateOf(at) {
  if (at === null || at === undefined) return null;
  const date = at instanceof Date ? at : new Date(at);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** Local time of day, with seconds: "14:03:22". */
export const time = (at) => shown(at, (date) => TIME.format(date));
/** Local time of day: "14:03". */
export const minute = (at) => shown(at, (date) => MINUTE.format(date));
/** Local day, with its year if that is not this one: "27 Nov". */
export const day = (at) => shown(at, (date) => (date.getFullYear() === new Date().getFullYear() ? DAY : YEAR).format(date));
/** Local time of day, with the day if that is not today: "26 Nov 14:03:22". */
export function dateTime(at) {
  return shown(at, (date) => (date.toDateString() === new Date().toDateString() ? TIME.format(date) : `${day(date)} ${TIME.format(date)}`));
}
/** Local time of day without seconds, with the day if that is not today: "26 Nov 14:03". */
export function dateMinute(at) {
  return shown(at, (date) => (date.toDateString() === new Date().toDateString() ? MINUTE.format(date) : `${day(date)} ${MINUTE.format(date)}`));
}
/** For a title: the whole time with its zone, and in UTC. */
export const wholeTime = (at) =>
  shown(at, (date) => `${YEAR.format(date)} ${TIME.format(date)} ${zoneName(date)} (${date.toISOString()})`);

function shown(at, format) {
  const date = dateOf(at);
  return date === null ? NONE : format(date);
}

/** A text with its UUIDs cut to their first 8 characters, for a line of a table. */
export const shortIds = (text) => text.replace(/([0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "$1…");

/**
 * A sentence of the headend with its numbers as the console has them: "21.2389 MW" as "21.24 MW", "12.411 s" as "12 s".
 */
export const sensible = (text) =>
  text.replace(/(?<![\d.,])(-?\d+\.\d+) (MWh|MW|s)\b/g, (_, value, name) => ({ MWh: mwh, MW: mw, s: duration })[name](Number(value)));

/** "not_tracked" as people read it: "not tracked". */
export const words = (value) => String(value ?? NONE).replaceAll("_", " ");
