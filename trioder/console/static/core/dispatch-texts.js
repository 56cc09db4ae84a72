/** What the states of a dispatch and the codes of its split mean, for people (docs/dispatch.md). */

/** What happens to a setpoint in each state, in the order of the lifecycle. */
const STATES = {
  deferred: "A dispatch with a higher priority holds the asset; this one follows when that ends.",
  queued: "The agent is not connected; the setpoint is sent when it reconnects, before it expires.",
  sent: "Sent to the agent, which has not acknowledged yet.",
  accepted: "The agent obeys; the power is on its way to the setpoint.",
  clamped: "The agent obeys as far as the nameplate permits.",
  deviating: "The power should be at the setpoint by now, and is not.",
  tracking: "Telemetry shows the setpoint, and the power is within tolerance.",
  rejected: "The agent refused.",
  completed: "It has ended, and was tracking.",
  not_tracked: "It has ended, and the power was never within tolerance.",
  superseded: "A later dispatch has replaced it.",
  expired: "It was never sent: the agent did not connect in time, or its time was over.",
  failed: "Not acknowledged within 30 s, reverted after the loss of the headend, or dropped out of the group.",
  cancelled: "An operator has cancelled it, or resumed the stop.",
};

/** The states, least advanced first. */
export const STATES_IN_ORDER = Object.keys(STATES);

/** @param {string} state @returns {string} one sentence; "" for a state of a newer headend */
export const stateMeaning = (state) => STATES[state] ?? "";

/**
 * @typedef {object} CodeText
 * @property {string} label    two or three words
 * @property {string} meaning  one sentence
 * @property {"share" | "limited" | "left_out"} kind
 */

/** @type {Record<string, CodeText>} */
const CODES = {
  share: { label: "within its limits", meaning: "Its part of the total, below each of its limits.", kind: "share" },
  "": { label: "as requested", meaning: "The asset was named: it is sent the power as requested.", kind: "share" },
  limited_by_nameplate: { label: "nameplate", meaning: "At its rated power.", kind: "limited" },
  limited_by_available: { label: "available power", meaning: "At what the asset reports that it can do now.", kind: "limited" },
  limited_by_energy: { label: "state of charge", meaning: "At the power that its energy lasts for, over the whole duration.", kind: "limited" },
  limited_by_ramp: { label: "ramp rate", meaning: "At the power that it reaches within a minute, or a quarter of the duration.", kind: "limited" },
  limited_by_delivery: { label: "delivery", meaning: "At what it delivered when it was asked for more.", kind: "limited" },
  limited_by_site: { label: "site limit", meaning: "At its part of what the export or import limit of its site leaves.", kind: "limited" },
  not_connected: { label: "not connected", meaning: "No agent drives it now.", kind: "left_out" },
  suspect: { label: "suspect values", meaning: "What its agent reported last cannot be.", kind: "left_out" },
  no_telemetry: { label: "no telemetry", meaning: "Its agent has reported nothing in this session yet.", kind: "left_out" },
  stale: { label: "stale", meaning: "Its last sample is too old.", kind: "left_out" },
  commanded_otherwise: { label: "dispatched on its own", meaning: "Another dispatch was sent to it alone.", kind: "left_out" },
  too_old: { label: "old agent", meaning: "Its agent does not know reversion_mw.", kind: "left_out" },
};

/**
 * What a code of an allocation means. A code that this console does not know is shown as it is.
 * @param {string} code
 * @param {boolean} [leftOut]  whether the asset was allocated nothing, for unknown codes
 * @returns {CodeText}
 */
export function codeText(code, leftOut = false) {
  return CODES[code] ?? { label: String(code).replaceAll("_", " "), meaning: "", kind: leftOut ? "left_out" : "share" };
}

/** How a total is split. */
export const STRATEGIES = {
  headroom: "By headroom: in proportion to what each can hold",
  capacity: "By capacity: in proportion to MWh",
  equal: "Equally",
};

/** @param {string} priority */
export const priorityText = (priority) => ({ emergency: "emergency stop", operator: "operator", schedule: "schedule" })[priority] ?? priority;
