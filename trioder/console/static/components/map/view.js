/**
 * What part of the plane the map shows: scale and offset between the plane and CSS pixels, and their limits.
 *
 * @typedef {{west: number, east: number, north: number, south: number}} Box a part of the plane; y to the south
 */

import { EARTH_RADIUS_KM } from "./projection.js";

/** Pixels per unit of the plane: from a world 300 pixels wide to 40 m a pixel. */
const MIN_SCALE = 300 / (2 * Math.PI);
const MAX_SCALE = EARTH_RADIUS_KM / 0.04;
/** A fleet of one site, or of few close together, begins at 500 m a pixel. */
const MAX_FIT_SCALE = EARTH_RADIUS_KM / 0.5;

export class View {
  constructor() {
    /** CSS pixels per unit of the plane. */
    this.scale = MIN_SCALE;
    /** The plane's origin in CSS pixels. */
    this.left = 0;
    this.top = 0;
    this.width = 1;
    this.height = 1;
    /** The scale of the whole fleet: symbols grow from there. */
    this.fitScale = MIN_SCALE;
  }

  /**
   * Keeps the middle of the map where it is.
   * @param {number} width CSS pixels
   * @param {number} height CSS pixels
   */
  resize(width, height) {
    this.left += (width - this.width) / 2;
    this.top += (height - this.height) / 2;
    this.width = width;
    this.height = height;
  }

  /** @param {number} x @param {number} y @returns {{x: number, y: number}} the point of the plane at a pixel */
  toPlane(x, y) {
    return { x: (x - this.left) / this.scale, y: (y - this.top) / this.scale };
  }

  /** @param {number} x @param {number} y @returns {{x: number, y: number}} the pixel of a point of the plane */
  toScreen(x, y) {
    return { x: x * this.scale + this.left, y: y * this.scale + this.top };
  }

  /** @param {number} dx CSS pixels @param {number} dy CSS pixels */
  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
  }

  /**
   * Multiplies the scale; the point of the plane at a pixel stays there.
   * @param {number} factor
   * @param {number} x CSS pixels
   * @param {number} y CSS pixels
   */
  zoomAt(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.min(MAX_SCALE, Math.max(MIN_SCALE, this.scale * factor));
    const applied = scale / this.scale;
    this.left = x - (x - this.left) * applied;
    this.top = y - (y - this.top) * applied;
    this.scale = scale;
  }

  /** Moves a point of the plane to the middle. @param {number} x @param {number} y */
  centre(x, y) {
    this.left = this.width / 2 - x * this.scale;
    this.top = this.height / 2 - y * this.scale;
  }

  /**
   * Shows a box with a margin.
   * @param {Box} box
   * @param {{margin?: number, maxScale?: number}} [options] margin in CSS pixels
   */
  fit(box, { margin = 48, maxScale = MAX_FIT_SCALE } = {}) {
    const inset = Math.min(margin, this.width / 12, this.height / 12);
    const wide = (this.width - 2 * inset) / Math.max(box.east - box.west, 1e-9);
    const high = (this.height - 2 * inset) / Math.max(box.south - box.north, 1e-9);
    this.scale = Math.min(maxScale, MAX_SCALE, Math.max(MIN_SCALE, Math.min(wide, high)));
    this.centre((box.west + box.east) / 2, (box.north + box.south) / 2);
  }

  /** @returns {number} how much larger symbols are than at the scale of the whole fleet, from 0.8 to 1.7 */
  get symbolFactor() {
    return Math.min(1.7, Math.max(0.8, (this.scale / this.fitScale) ** 0.25));
  }
}

/**
 * @param {Iterable<{x: number, y: number}>} points
 * @returns {Box | null} the smallest box around them; null without points
 */
export function boxAround(points) {
  let box = null;
  for (const { x, y } of points) {
    if (box === null) box = { west: x, east: x, north: y, south: y };
    box.west = Math.min(box.west, x);
    box.east = Math.max(box.east, x);
    box.north = Math.min(box.north, y);
    box.south = Math.max(box.south, y);
  }
  return box;
}
