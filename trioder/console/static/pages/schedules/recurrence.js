/** Recurrence rules (RFC 5545, RRULE) as people say them. */

export const DAYS = [["MO", "Mon"], ["TU", "Tue"], ["WE", "Wed"], ["TH", "Thu"], ["FR", "Fri"], ["SA", "Sat"], ["SU", "Sun"]];
const WORKING_DAYS = "MO,TU,WE,TH,FR";
const UNITS = { DAILY: ["day", "days"], WEEKLY: ["week", "weeks"], MONTHLY: ["month", "months"], YEARLY: ["year", "years"], HOURLY: ["hour", "hours"], MINUTELY: ["minute", "minutes"] };

/**
 * The rule of a choice; null for one occurrence.
 * @param {{kind: "once" | "daily" | "workdays" | "weekly" | "rule", days: string[], rule: string}} choice
 */
export function ruleOf({ kind, days, rule }) {
  switch (kind) {
    case "daily": return "FREQ=DAILY";
    case "workdays": return `FREQ=WEEKLY;BYDAY=${WORKING_DAYS}`;
    case "weekly": return `FREQ=WEEKLY;BYDAY=${DAYS.map(([day]) => day).filter((day) => days.includes(day)).join(",")}`;
    case "rule": return rule.trim();
    default: return null;
  }
}

/**
 * A rule in a few words, such as "weekly on Mon, Tue"; rules with parts that these words lack stay as they are.
 * @param {string | null} rule @returns {string}
 */
export function recurrenceText(rule) {
  if (!rule) return "once";
  const parts = new Map(rule.toUpperCase().split(";").map((part) => part.split("=")));
  const { FREQ: frequency, INTERVAL: interval = "1", BYDAY: days, COUNT: times, UNTIL: until, ...others } = Object.fromEntries(parts);
  if (!(frequency in UNITS) || Object.keys(others).length > 0 || /\d/.test(days ?? "")) return rule;
  const [one, many] = UNITS[frequency];
  let text = interval === "1" ? `every ${one}` : `every ${interval} ${many}`;
  if (days === WORKING_DAYS && frequency === "WEEKLY" && interval === "1") text = "Monday to Friday";
  else if (days) text += ` on ${days.split(",").map((day) => DAYS.find(([key]) => key === day)?.[1] ?? day).join(", ")}`;
  if (times) text += `, ${times} times`;
  if (until) text += `, until ${until.slice(0, 4)}-${until.slice(4, 6)}-${until.slice(6, 8)}`;
  return text;
}
