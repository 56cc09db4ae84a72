/**
 * What this tab knows of the fleet: nameplates by REST, everything that changes by the live feed. Pages read
 * it and subscribe to its topics; they keep no values of their own.
 */

import { ApiError, get } from "./api.js";
import { openFeed } from "./feed.js";
import { isOpen } from "./lifecycle.js";
import { Mirror } from "./mirror.js";

/**
 * @typedef {"telemetry" | "fleet" | "dispatch" | "alarms" | "schedules" | "sessions" | "link" | "assets" | "snapshot"} Topic
 *   telemetry: ids of assets that have changed, or null for any; dispatch, alarms, schedules, sessions, fleet:
 *   the event; link: the `Link`; assets: nameplates and sites were loaded; snapshot: everything is new.
 */

/** How bad a quality is: the worst of a site's assets is the site's. */
export const QUALITY_ORDER = ["good", "synthesized", "stale", "suspect", "bad", "none"];

const QUALITY_RANK = new Map(QUALITY_ORDER.map((name, rank) => [name, rank]));

class FleetState extends Mirror {
  #topics = new Map();
  #sites = new Map();
  #loading = 0;
  /** @type {Map<string, object>} nameplates by asset id, in fleet order */
  assets = new Map();
  /** @type {Map<string, object>} sites by id, in fleet order, each with `assetIds` */
  sites = new Map();
  /** @type {"loading" | "ready" | "error"} of assets and sites */
  assetsStatus = "loading";
  /** @type {ApiError | null} */
  assetsError = null;
  /** Whether the snapshot is complete. */
  complete = false;
  /** @type {import("./feed.js").Link} */
  link = { status: "connecting", since: Date.now(), reason: "" };
  #clockOffsetMs = 0;

  /**
   * Starts to follow; once, by the shell.
   * @param {AbortSignal} signal
   */
  open(signal) {
    openFeed({
      signal,
      onSnapshot: (state, complete) => this.#restored(state, complete),
      onEvent: (name, data) => this.#received(name, data),
      onLink: (link) => {
        this.link = link;
        this.#publish("link", link);
      },
    });
  }

  /**
   * Subscribes to a topic until `signal`.
   * @param {Topic | Topic[]} topics
   * @param {(value: any, topic: Topic) => void} listener
   * @param {AbortSignal} signal
   */
  on(topics, listener, signal) {
    for (const topic of [topics].flat()) {
      const listeners = this.#topics.get(topic) ?? new Set();
      this.#topics.set(topic, listeners.add(listener));
      signal.addEventListener("abort", () => listeners.delete(listener));
    }
  }

  /** Now by the headend's clock, in epoch ms: ages are by this clock, not by this machine's. */
  now() {
    return Date.now() + this.#clockOffsetMs;
  }

  /** Whether values are live: complete, and received a moment ago. */
  get live() {
    return this.link.status === "live" && this.complete;
  }

  /**
   * The age of an asset's values in s; null without any.
   * @param {{sampled_at: string} | undefined} row
   */
  ageOf(row) {
    return row ? Math.max(0, (this.now() - Date.parse(row.sampled_at)) / 1000) : null;
  }

  /** The quality of an asset's newest sample: "none" without one. */
  qualityOf(assetId) {
    return this.rows.get(assetId)?.quality ?? "none";
  }

  /**
   * The sums over a site's assets: power, setpoint and energy over those with good values.
   *
   * @param {string} siteId
   * @returns {{powerMw: number | null, setpointMw: number | null, socMwh: number, capacityMwh: number,
   *   socPct: number | null, maxMw: number, minMw: number, quality: string, assets: number, notGood: number,
   *   alarms: number, severity: string | null, stopped: boolean, dispatched: number, ageS: number | null}}
   *   ageS: the greatest age of a value that is not good; null if all are
   */
  siteSums(siteId) {
    let sums = this.#sites.get(siteId);
    if (!sums) {
      sums = this.#sumSite(siteId);
      this.#sites.set(siteId, sums);
    }
    // The sums stay as they are until a value changes; the age does not.
    sums.ageS = sums.oldestAt === Infinity ? null : Math.max(0, (this.now() - sums.oldestAt) / 1000);
    return sums;
  }

  #sumSite(siteId) {
    const sums = {
      powerMw: null, setpointMw: null, socMwh: 0, capacityMwh: 0, socPct: null, maxMw: 0, minMw: 0, quality: "none",
      assets: 0, notGood: 0, alarms: 0, severity: null, stopped: false, dispatched: 0,
      ageS: null, oldestAt: Infinity,
    };
    let worst = 0;
    let goodCapacity = 0;
    for (const id of this.sites.get(siteId)?.assetIds ?? []) {
      const asset = this.assets.get(id);
      const row = this.rows.get(id);
      sums.assets += 1;
      sums.capacityMwh += asset.capacity_mwhr;
      sums.maxMw += asset.max_mw;
      sums.minMw += asset.min_mw;
      const quality = row?.quality ?? "none";
      worst = Math.max(worst, QUALITY_RANK.get(quality) ?? QUALITY_ORDER.length - 1);
      if (quality !== "good") {
        sums.notGood += 1;
        if (row) sums.oldestAt = Math.min(sums.oldestAt, Date.parse(row.sampled_at));
      }
      if (row?.dispatch_id) sums.dispatched += 1;
      if (!row || row.current_mw === null || !(quality === "good" || quality === "synthesized")) continue;
      sums.powerMw = (sums.powerMw ?? 0) + row.current_mw;
      sums.setpointMw = (sums.setpointMw ?? 0) + (row.setpoint_mw ?? 0);
      sums.socMwh += row.soc_mwhr ?? 0;
      goodCapacity += asset.capacity_mwhr;
    }
    sums.quality = sums.assets ? QUALITY_ORDER[worst] : "none";
    sums.socPct = goodCapacity > 0 ? (100 * sums.socMwh) / goodCapacity : null;
    for (const alarm of this.alarms.values()) {
      if (alarm.site_id !== siteId) continue;
      sums.alarms += 1;
      if (sums.severity === null || SEVERITIES.indexOf(alarm.severity) > SEVERITIES.indexOf(sums.severity)) sums.severity = alarm.severity;
    }
    sums.stopped = this.stopOf({ siteId }) !== null;
    return sums;
  }

  /**
   * The emergency stop in force that covers an asset, a site or the fleet; null without one.
   * @param {{assetId?: string, siteId?: string}} target
   * @returns {object | null} the stop's dispatch
   */
  stopOf({ assetId, siteId } = {}) {
    const site = siteId ?? this.assets.get(assetId)?.site_id;
    for (const dispatch of this.stops()) {
      const { kind, id } = dispatch.target;
      if (kind === "fleet" || (kind === "site" && id === site) || (kind === "asset" && id === assetId)) return dispatch;
    }
    return null;
  }

  /** The emergency stops in force. */
  stops() {
    return [...this.dispatches.values()].filter((dispatch) => dispatch.priority === "emergency" && !dispatch.ends_at && isOpen(dispatch));
  }

  /** The name of an asset, or its id if the fleet does not have it (any more). */
  assetName(id) {
    return this.assets.get(id)?.name ?? id;
  }

  /** The name of a site, or its id. */
  siteName(id) {
    return this.sites.get(id)?.name ?? id;
  }

  /** What a dispatch, a stop or a schedule is for: {text, href}. */
  targetOf({ kind, id }, members = null) {
    if (kind === "fleet") return { text: "Fleet", href: "/" };
    if (kind === "site") return { text: this.siteName(id), href: `/sites/${id}` };
    if (kind === "asset") return { text: this.assetName(id), href: `/assets/${id}` };
    return { text: members === null ? "Several assets" : `${members} assets`, href: null };
  }

  /** Loads nameplates and sites; called by itself when the fleet changes. */
  async loadAssets() {
    const run = ++this.#loading;
    try {
      const [assets, sites] = await Promise.all([get("/assets"), get("/sites")]);
      if (run !== this.#loading) return;
      this.sites = new Map(sites.map((site) => [site.id, { ...site, assetIds: [] }]));
      this.assets = new Map(assets.map((asset) => [asset.id, asset]));
      for (const asset of assets) this.sites.get(asset.site_id)?.assetIds.push(asset.id);
      this.#sites.clear();
      this.assetsStatus = "ready";
      this.assetsError = null;
    } catch (error) {
      if (run !== this.#loading) return;
      if (!(error instanceof ApiError)) throw error;
      this.assetsStatus = this.assets.size ? "ready" : "error";
      this.assetsError = error;
    }
    this.#publish("assets", null);
  }

  #restored(state, complete) {
    // While this tab was hidden. The first snapshot follows the first loading.
    const isAnew = this.begun > 0 && state.begun !== this.begun;
    this.restore(state);
    this.complete = complete;
    this.#sites.clear();
    this.#publish("snapshot", null);
    this.#publish("telemetry", null);
    if (isAnew || (complete && (this.assets.size === 0 || this.assets.size !== this.fleet?.assets))) void this.loadAssets();
  }

  #received(name, data) {
    const at = Date.parse(data.at);
    if (Number.isFinite(at)) this.#clockOffsetMs = at - Date.now();
    const changed = this.apply(name, data);
    if (name === "begin") {
      if (data.resumed) return;
      this.complete = false;
      this.#sites.clear();
      void this.loadAssets();
    } else if (name === "complete") {
      this.complete = true;
      this.#sites.clear();
      this.#publish("snapshot", null);
      this.#publish("telemetry", null);
      this.#publish("link", this.link);
    } else if (name === "telemetry") {
      for (const id of changed) this.#sites.delete(this.assets.get(id)?.site_id);
      this.#publish("telemetry", changed);
    } else if (name === "alarms" || name === "dispatch") {
      this.#sites.clear();
      this.#publish(name, data);
    } else {
      this.#publish(name, data);
    }
  }

  #publish(topic, value) {
    for (const listener of this.#topics.get(topic) ?? []) {
      try {
        listener(value, topic);
      } catch (error) {
        // What cannot draw a value must not keep others, such as the banner of a stop, from being drawn.
        reportError(error);
      }
    }
  }
}

/** Least severe first. */
export const SEVERITIES = ["warning", "minor", "major", "critical"];

/** The one state of this tab. */
export const fleet = new FleetState();
