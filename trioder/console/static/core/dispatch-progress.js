/** How far a dispatch has advanced: counts from `by_state`, times from its allocations where these are known. */

/** Their agents have not answered. */
const UNANSWERED = new Set(["deferred", "queued", "sent", "expired", "superseded", "failed", "cancelled"]);
const UNSENT = new Set(["deferred", "queued", "expired"]);
const TRACKED = new Set(["tracking", "completed"]);
const OPEN = ["deferred", "queued", "sent", "accepted", "clamped", "deviating", "tracking"];

/**
 * @typedef {object} Step
 * @property {"sent" | "acknowledged" | "tracking" | "ended"} step
 * @property {number} count   batteries that have come so far
 * @property {string | null} first  when the first and the last did; null when it is not known
 * @property {string | null} last
 */

/**
 * The steps of a dispatch's lifecycle.
 *
 * @param {{by_state: Record<string, number>, members: number}} dispatch
 * @param {object[] | null} [allocations]  all of them, or null
 * @returns {Step[]}
 */
export function stepsOf({ by_state: byState, members }, allocations = null) {
  const counted = (keep) => Object.entries(byState).reduce((sum, [state, n]) => (keep(state) ? sum + n : sum), 0);
  const steps = [
    { step: "sent", field: "sent_at", count: counted((state) => !UNSENT.has(state)) },
    { step: "acknowledged", field: "answered_at", count: counted((state) => !UNANSWERED.has(state)) },
    { step: "tracking", field: "tracking_at", count: counted((state) => TRACKED.has(state)) },
    { step: "ended", field: "ended_at", count: members - counted((state) => OPEN.includes(state)) },
  ];
  return steps.map(({ step, field, count }) => {
    const times = (allocations ?? []).map((row) => row[field]).filter(Boolean).sort();
    // The states forget: what was tracking once may be deviating now.
    const seen = step === "ended" ? 0 : Math.min(members, times.length);
    return { step, count: Math.max(count, seen), first: times[0] ?? null, last: times.at(-1) ?? null };
  });
}

/** How many batteries' agents have answered, for one line of progress. */
export const acknowledged = (dispatch) => stepsOf(dispatch)[1].count;

/**
 * The power that a dispatch's batteries deliver now, from the live feed.
 *
 * @param {Iterable<{dispatch_id: string | null, current_mw: number | null, quality: string}>} rows
 * @param {string} dispatchId
 * @returns {{mw: number | null, assets: number, notGood: number, modelled: number}}  mw: over those with good values,
 *   or with those of the headend's model (`modelled`); null without any
 */
export function deliveredBy(rows, dispatchId) {
  const sum = { mw: null, assets: 0, notGood: 0, modelled: 0 };
  for (const row of rows) {
    if (row.dispatch_id !== dispatchId) continue;
    sum.assets += 1;
    if (row.quality === "good" || row.quality === "synthesized") sum.mw = (sum.mw ?? 0) + (row.current_mw ?? 0);
    else sum.notGood += 1;
    if (row.quality === "synthesized") sum.modelled += 1;
  }
  return sum;
}
