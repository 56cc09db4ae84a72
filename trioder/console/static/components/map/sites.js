/**
 * The sites of the map: where they are on the plane, their latest states, and what is drawn of them at a view:
 * each as one symbol, or aggregated by the cells of a grid where they are too many.
 *
 * @typedef {{id: string, name: string, lat?: number | null, lon?: number | null, maxMw: number, minMw: number}} Site
 * @typedef {"good" | "stale" | "suspect" | "bad" | "none"} Quality
 * @typedef {{
 *   powerMw: number | null, socPct: number | null, quality: Quality, alarms: number, stopped: boolean,
 *   ageS?: number | null,
 * }} SiteState `powerMw`: + discharges; `ageS`: age of the values in seconds
 * @typedef {{
 *   kind: "site", site: Site, state: SiteState, ratingMw: number, attention: boolean,
 *   planeX: number, planeY: number, x: number, y: number, r: number, unit: number,
 * }} SiteItem
 * @typedef {{
 *   kind: "cluster", members: SiteItem[], ratingMw: number, powerMw: number | null, socPct: number | null,
 *   notGood: number, alarms: number, stopped: number, attention: boolean,
 *   planeX: number, planeY: number, x: number, y: number, r: number, unit: number,
 * }} ClusterItem
 * @typedef {SiteItem | ClusterItem} Item `x`, `y`, radius `r` and the `unit` of strokes: CSS pixels at the view
 *   of the last `visible()`
 */

import { spread } from "./spread.js";

/** With more symbols on the screen they are aggregated, until there are clearly fewer. */
const AGGREGATE_ABOVE = 300;
const SEPARATE_BELOW = 260;
const MIN_CELL_PX = 76;
/** How far symbols may move apart. */
const SPREAD_PX = 14;

const MIN_RADIUS = 5;
const MIN_ATTENTION_RADIUS = 8;
const MAX_RADIUS = 21;

/** @type {SiteState} */
const NO_STATE = { powerMw: null, socPct: null, quality: "none", alarms: 0, stopped: false };

export class SiteLayer {
  #state;
  #byId = new Map();
  #largestMw = 1;
  #aggregated = false;
  /** Those of the last scale. */
  #clusters = { cell: 0, items: [] };

  /** @param {(siteId: string) => SiteState | undefined} state */
  constructor(state) {
    this.#state = state;
    /** @type {SiteItem[]} those with a position, by rating, the largest first */
    this.items = [];
    this.withoutPosition = 0;
    this.totals = { notGood: 0, alarms: 0, stopped: 0 };
  }

  /**
   * @param {Site[]} sites
   * @param {import("./projection.js").Projection} projection
   */
  setSites(sites, projection) {
    const positioned = sites.filter(hasPosition);
    this.withoutPosition = sites.length - positioned.length;
    this.items = positioned.map((site) => {
      const { x, y } = projection.project(site.lon, site.lat);
      const ratingMw = Math.max(Math.abs(site.maxMw), Math.abs(site.minMw)) || 0;
      const item = { kind: "site", site, state: NO_STATE, ratingMw, attention: true };
      return { ...item, planeX: x, planeY: y, x: 0, y: 0, r: 0, unit: 1 };
    });
    this.items.sort((a, b) => b.ratingMw - a.ratingMw || compare(a.site.id, b.site.id));
    this.#largestMw = Math.max(1e-6, ...this.items.slice(0, 1).map((item) => item.ratingMw));
    this.#byId = new Map(this.items.map((item) => [item.site.id, item]));
    this.refresh();
  }

  /** @param {string} id @returns {SiteItem | undefined} */
  find(id) {
    return this.#byId.get(id);
  }

  /** Reads all states again. */
  refresh() {
    const totals = { notGood: 0, alarms: 0, stopped: 0 };
    for (const item of this.items) {
      const state = this.#state(item.site.id) ?? NO_STATE;
      item.state = state;
      item.attention = state.quality !== "good" || state.alarms > 0 || state.stopped;
      if (state.quality !== "good") totals.notGood += 1;
      if (state.alarms > 0) totals.alarms += 1;
      if (state.stopped) totals.stopped += 1;
    }
    this.totals = totals;
    this.#clusters = { cell: 0, items: [] };
  }

  /**
   * Returns what is drawn, in the order of drawing.
   * @param {import("./view.js").View} view
   * @returns {Item[]}
   */
  visible(view) {
    const sites = this.#place(this.items, view);
    const limit = this.#aggregated ? SEPARATE_BELOW : AGGREGATE_ABOVE;
    this.#aggregated = sites.length > limit;
    if (this.#aggregated) return this.#place(this.#clustersAt(view), view);
    spread(sites, SPREAD_PX * unitOf(view));
    // Large ones first, small ones above them, and those that need attention above all.
    return [...sites.filter((item) => !item.attention), ...sites.filter((item) => item.attention)];
  }

  /** Sets the place and size of items on the screen; returns those that lie on it. */
  #place(items, view) {
    const unit = unitOf(view);
    const growth = view.symbolFactor;
    const maxRadius = MAX_RADIUS * growth * Math.min(2, Math.max(0.7, Math.min(view.width, view.height) / 800));
    const margin = 2 * maxRadius;
    const placed = [];
    for (const item of items) {
      const x = item.planeX * view.scale + view.left;
      const y = item.planeY * view.scale + view.top;
      if (x < -margin || y < -margin || x > view.width + margin || y > view.height + margin) continue;
      item.x = x;
      item.y = y;
      item.r = item.kind === "cluster"
        ? clusterRadius(item) * unit
        : Math.max(leastRadius(item) * unit * growth, maxRadius * Math.sqrt(item.ratingMw / this.#largestMw));
      item.unit = unit;
      placed.push(item);
    }
    return placed;
  }

  /** Returns the clusters of a view's scale; panning does not change them. */
  #clustersAt(view) {
    const cellPx = Math.max(MIN_CELL_PX * unitOf(view), Math.sqrt((view.width * view.height) / AGGREGATE_ABOVE));
    // In steps of the scale, so that zooming does not regroup with each pixel.
    const step = 2 ** (Math.round(2 * Math.log2(view.scale)) / 2);
    const cell = cellPx / step;
    if (this.#clusters.cell !== cell) this.#clusters = { cell, items: aggregate(this.items, cell) };
    return this.#clusters.items;
  }
}

/**
 * Aggregates sites by the cells of a grid on the plane. A site that is alone in its cell stays as it is.
 * @param {SiteItem[]} items
 * @param {number} cell width of a cell in units of the plane
 * @returns {Item[]} those that need attention last
 */
export function aggregate(items, cell) {
  /** @type {Map<string, {column: number, row: number, members: SiteItem[]}>} */
  const cells = new Map();
  for (const item of items) {
    const column = Math.floor(item.planeX / cell);
    const row = Math.floor(item.planeY / cell);
    const key = `${column},${row}`;
    const found = cells.get(key);
    if (found) found.members.push(item);
    else cells.set(key, { column, row, members: [item] });
  }
  const groups = [];
  for (const { column, row, members } of cells.values()) {
    groups.push(members.length === 1 ? members[0] : summarize(members, (column + 0.5) * cell, (row + 0.5) * cell));
  }
  return groups.sort((a, b) => Number(a.attention) - Number(b.attention));
}

/** Sums members. Power and state of charge are those of the good ones: an old value is no live one. */
function summarize(members, middleX, middleY) {
  let planeX = 0;
  let planeY = 0;
  let ratingMw = 0;
  let powerMw = 0;
  let charged = 0;
  let weights = 0;
  let good = 0;
  let alarms = 0;
  let stopped = 0;
  for (const { planeX: x, planeY: y, ratingMw: rating, state } of members) {
    planeX += x / members.length;
    planeY += y / members.length;
    ratingMw += rating;
    alarms += state.alarms;
    if (state.stopped) stopped += 1;
    if (state.quality !== "good") continue;
    good += 1;
    powerMw += state.powerMw ?? 0;
    if (state.socPct !== null) {
      charged += state.socPct * rating;
      weights += rating;
    }
  }
  const notGood = members.length - good;
  return {
    kind: "cluster",
    members,
    ratingMw,
    powerMw: good ? powerMw : null,
    socPct: weights > 0 ? charged / weights : null,
    notGood,
    alarms,
    stopped,
    attention: notGood > 0 || alarms > 0 || stopped > 0,
    // Half way to the middle of the cell, so that clusters of neighbouring cells rarely overlap.
    planeX: (planeX + middleX) / 2,
    planeY: (planeY + middleY) / 2,
    x: 0,
    y: 0,
    r: 0,
    unit: 1,
  };
}

/**
 * Returns the item at a pixel: the uppermost that contains it, else the nearest within reach.
 * @param {Item[]} items in the order of drawing
 * @param {number} x CSS pixels
 * @param {number} y CSS pixels
 * @param {number} [reach] CSS pixels beyond a symbol's edge
 * @returns {Item | null}
 */
export function hitTest(items, x, y, reach = 6) {
  let nearest = null;
  let distance = reach;
  for (let place = items.length - 1; place >= 0; place -= 1) {
    const item = items[place];
    const beyond = Math.hypot(item.x - x, item.y - y) - item.r;
    if (beyond <= 0) return item;
    if (beyond < distance) {
      nearest = item;
      distance = beyond;
    }
  }
  return nearest;
}

/** Grows slowly with the number of sites, and fits its cell of the grid. */
function clusterRadius({ members }) {
  return 12 + 1.6 * Math.min(8, Math.log2(members.length));
}

/** What needs attention is large enough to be seen. */
function leastRadius({ attention }) {
  return attention ? MIN_ATTENTION_RADIUS : MIN_RADIUS;
}

/** Large screens are read from further away. */
function unitOf({ width, height }) {
  return Math.min(2, Math.max(0.85, Math.min(width, height) / 800));
}

/** @param {Site} site @returns {boolean} */
function hasPosition({ lat, lon }) {
  return Number.isFinite(lat) && Number.isFinite(lon) && Math.abs(lat) <= 90 && Math.abs(lon) <= 180;
}

function compare(a, b) {
  return a < b ? -1 : Number(a > b);
}
