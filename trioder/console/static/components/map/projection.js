/**
 * Map projections between longitude, latitude (degrees) and a plane in units of the Earth's radius, x to the east
 * and y to the south. Formulas: Snyder, Map Projections - A Working Manual (1987), pages 41 to 44 and 98 to 103.
 *
 * @typedef {{x: number, y: number}} PlanePoint
 * @typedef {{lon: number, lat: number}} Position
 * @typedef {{
 *   name: "albers" | "mercator",
 *   project: (lon: number, lat: number) => PlanePoint,
 *   invert: (x: number, y: number) => Position,
 * }} Projection
 */

const RADIANS = Math.PI / 180;
/** Web Mercator ends here: the plane is a square. */
const MERCATOR_MAX_LAT = 85.0511;
/** The Earth's radius in km; it is the unit of the plane. */
export const EARTH_RADIUS_KM = 6371;

/** Within these the equal-area projection of the United States is used: Hawaii to Maine, Puerto Rico to Alaska. */
const UNITED_STATES = { west: -180, east: -64, south: 16, north: 72 };

/**
 * Albers's equal-area conic with the parallels and the meridian of the US Geological Survey (29.5, 45.5, -96).
 * @returns {Projection}
 */
export function albers() {
  const south = Math.sin(29.5 * RADIANS);
  const north = Math.sin(45.5 * RADIANS);
  const n = (south + north) / 2;
  const c = 1 - south * south + 2 * n * south;
  const radius = (lat) => Math.sqrt(Math.max(0, c - 2 * n * Math.sin(lat * RADIANS))) / n;
  const origin = radius(37.5);
  return {
    name: "albers",
    project(lon, lat) {
      const rho = radius(lat);
      const theta = n * wrapDegrees(lon + 96) * RADIANS;
      return { x: rho * Math.sin(theta), y: rho * Math.cos(theta) - origin };
    },
    invert(x, y) {
      const down = origin + y;
      const rho = Math.hypot(x, down);
      const theta = Math.atan2(x, down);
      const sine = (c - rho * rho * n * n) / (2 * n);
      const lat = Math.asin(Math.min(1, Math.max(-1, sine))) / RADIANS;
      return { lon: wrapDegrees(theta / n / RADIANS - 96), lat };
    },
  };
}

/**
 * Mercator's projection of a sphere, for fleets elsewhere.
 * @returns {Projection}
 */
export function mercator() {
  return {
    name: "mercator",
    project(lon, lat) {
      const clamped = Math.min(MERCATOR_MAX_LAT, Math.max(-MERCATOR_MAX_LAT, lat));
      return { x: lon * RADIANS, y: -Math.log(Math.tan(Math.PI / 4 + (clamped * RADIANS) / 2)) };
    },
    invert(x, y) {
      return { lon: x / RADIANS, lat: (2 * Math.atan(Math.exp(-y)) - Math.PI / 2) / RADIANS };
    },
  };
}

/**
 * Chooses the projection for a fleet: equal-area where nine tenths of its sites are in the United States.
 * @param {Position[]} positions
 * @returns {Projection}
 */
export function projectionFor(positions) {
  const inside = positions.filter(
    ({ lon, lat }) =>
      lon >= UNITED_STATES.west &&
      lon <= UNITED_STATES.east &&
      lat >= UNITED_STATES.south &&
      lat <= UNITED_STATES.north,
  ).length;
  return inside >= 0.9 * positions.length ? albers() : mercator();
}

/**
 * @param {number} degrees
 * @returns {number} the same direction, from -180 to below 180
 */
function wrapDegrees(degrees) {
  return ((((degrees + 180) % 360) + 360) % 360) - 180;
}
