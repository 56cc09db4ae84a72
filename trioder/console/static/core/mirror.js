/**
 * The newest state that the live feed has sent: held by the worker for tabs that open later, and by each tab.
 * Values are the bodies of the headend's events (docs/stream.md), as they came.
 */

import { isOpen } from "./lifecycle.js";

/** How many dispatches that have ended are kept, for pages that list the last ones. */
const ENDED_DISPATCHES = 200;

export class Mirror {
  /** How often the feed has begun anew: the fleet may be another one since. */
  begun = 0;

  constructor() {
    this.clear();
  }

  /** Drops everything: a snapshot follows. */
  clear() {
    /** @type {Map<string, object>} the newest sample of each asset, by asset id */
    this.rows = new Map();
    /** @type {Map<string, object>} dispatches by id: the open ones, and the last that have ended */
    this.dispatches = new Map();
    /** @type {Map<string, object>} open alarms by id */
    this.alarms = new Map();
    /** @type {Map<string, object>} active schedules by id */
    this.schedules = new Map();
    /** @type {Map<string, object>} open sessions by id */
    this.sessions = new Map();
    /** @type {object | null} sums over the fleet */
    this.fleet = null;
  }

  /**
   * Applies an event.
   * @param {string} name @param {any} data
   * @returns {any} what has changed: ids of assets for telemetry, otherwise the data
   */
  apply(name, data) {
    switch (name) {
      case "begin":
        if (!data.resumed) {
          this.begun += 1;
          this.clear();
        }
        return data;
      case "fleet":
        this.fleet = data;
        return data;
      case "telemetry":
        for (const row of data.rows) this.rows.set(row.asset_id, row);
        return data.rows.map((row) => row.asset_id);
      case "dispatch":
        this.#keepDispatch(data.dispatch);
        return data;
      case "alarms":
        keep(this.alarms, data.alarm.alarm_id, data.alarm, data.alarm.state === "open");
        return data;
      case "schedules":
        keep(this.schedules, data.schedule.schedule_id, data.schedule, data.schedule.active);
        return data;
      case "sessions":
        keep(this.sessions, data.session_id, data, data.transition !== "closed");
        return data;
      default:
        return data;
    }
  }

  #keepDispatch(dispatch) {
    // The newest change is last: the first that have ended are the oldest.
    this.dispatches.delete(dispatch.dispatch_id);
    this.dispatches.set(dispatch.dispatch_id, dispatch);
    let ended = 0;
    for (const kept of this.dispatches.values()) if (!isOpen(kept)) ended += 1;
    if (ended <= ENDED_DISPATCHES) return;
    for (const [id, kept] of this.dispatches) {
      if (isOpen(kept)) continue;
      this.dispatches.delete(id);
      return;
    }
  }

  /** @returns {object} everything, to be passed to `restore` in another thread */
  snapshot() {
    const { begun, rows, dispatches, alarms, schedules, sessions, fleet } = this;
    return { begun, rows, dispatches, alarms, schedules, sessions, fleet };
  }

  /** @param {object} snapshot */
  restore(snapshot) {
    Object.assign(this, snapshot);
  }
}

function keep(map, id, value, open) {
  if (open) map.set(id, value);
  else map.delete(id);
}
