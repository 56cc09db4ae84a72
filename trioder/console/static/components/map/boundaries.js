/**
 * Boundaries of states and countries as paths on the plane of a projection. The format of the files is described
 * in docs/decisions/console-map.md: arcs of delta-coded integers, and rings as lists of arcs.
 *
 * @typedef {import("./projection.js").Projection} Projection
 * @typedef {{land: Path2D, abroad: Path2D, borders: Path2D, coasts: Path2D, seams: Path2D}} BoundaryPaths
 *   `land`: areas to fill. `abroad`: neighbouring countries to fill behind `land`. `borders`: lines between two
 *   areas. `coasts`: lines with an area on one side only. `seams`: borders of `land` in the coarser data of
 *   `abroad`, drawn broad in its colour so that no water shows between the two.
 */

const FORMAT = "trioder-boundaries/1";
/** A straight line between two positions is a curve on the plane: it is divided into steps of so many degrees. */
const MAX_STEP_DEGREES = 1;
/** Beyond so many degrees from the middle meridian an Albers map is torn. */
const ALBERS_REACH_DEGREES = 90;
const ALBERS_MERIDIAN = -96;

/**
 * Loads what a projection shows.
 * @param {Projection} projection
 * @param {AbortSignal} signal
 * @returns {Promise<BoundaryPaths>}
 * @throws {Error} a file could not be loaded or has another format
 */
export async function loadBoundaries(projection, signal) {
  if (projection.name === "mercator") {
    const world = await load("world.json", signal);
    const everywhere = world.areas.map((_, place) => place);
    return { ...trace(world, everywhere, projection), abroad: new Path2D(), seams: new Path2D() };
  }
  const [states, world] = await Promise.all([load("us-states.json", signal), load("world.json", signal)]);
  const all = states.areas.map((_, place) => place);
  const home = world.areas.findIndex((area) => area.id === "USA");
  const near = neighbours(world, home);
  const abroad = trace(world, near, projection);
  return {
    ...trace(states, all, projection),
    abroad: abroad.land,
    seams: traceArcs(world, sharedArcs(world, home, near), projection),
  };
}

/**
 * Decodes a file of boundaries.
 * @param {any} document
 * @returns {{areas: {id: string, name: string, rings: number[][]}[], arcs: [number, number][][]}} arcs as
 *   positions (lon, lat) in degrees
 * @throws {Error} the document has another format
 */
function decodeBoundaries(document) {
  if (document.format !== FORMAT) {
    throw new Error(`The boundaries have the format ${document.format}; this page reads ${FORMAT}.`);
  }
  const units = document.units_per_degree;
  const arcs = document.arcs.map((deltas) => {
    const points = [];
    let x = 0;
    let y = 0;
    for (let at = 0; at < deltas.length; at += 2) {
      x += deltas[at];
      y += deltas[at + 1];
      points.push([x / units, y / units]);
    }
    return points;
  });
  return { areas: document.areas, arcs };
}

async function load(name, signal) {
  const url = new URL(`../../geo/${name}`, import.meta.url);
  const response = await fetch(url, { signal });
  if (!response.ok) throw new Error(`${url.pathname}: HTTP ${response.status}`);
  return decodeBoundaries(await response.json());
}

/** Returns the countries, without home, that lie within the reach of the Albers map. */
function neighbours(world, home) {
  const isNear = ([lon, lat]) => lat > 0 && Math.abs(lon - ALBERS_MERIDIAN) < ALBERS_REACH_DEGREES;
  const places = [];
  world.areas.forEach((area, place) => {
    if (place !== home && area.rings.every((ring) => ring.every((arc) => world.arcs[plain(arc)].every(isNear)))) {
      places.push(place);
    }
  });
  return places;
}

function sharedArcs(world, home, others) {
  const own = new Set(home < 0 ? [] : world.areas[home].rings.flat().map(plain));
  return others.flatMap((place) => world.areas[place].rings.flat().map(plain).filter((arc) => own.has(arc)));
}

/** Traces areas: filled rings, and their arcs by whether one or two areas use them. */
function trace(boundaries, places, projection) {
  const land = new Path2D();
  const uses = new Map();
  for (const place of places) {
    for (const ring of boundaries.areas[place].rings) {
      const points = [];
      for (const arc of ring) {
        uses.set(plain(arc), (uses.get(plain(arc)) ?? 0) + 1);
        const line = boundaries.arcs[plain(arc)];
        points.push(...(arc >= 0 ? line : [...line].reverse()));
      }
      drawLine(land, points, projection);
      land.closePath();
    }
  }
  const arcs = [...uses.keys()];
  return {
    land,
    borders: traceArcs(boundaries, arcs.filter((arc) => uses.get(arc) > 1), projection),
    coasts: traceArcs(boundaries, arcs.filter((arc) => uses.get(arc) === 1), projection),
  };
}

function traceArcs(boundaries, arcs, projection) {
  const path = new Path2D();
  for (const arc of arcs) drawLine(path, boundaries.arcs[arc], projection);
  return path;
}

function drawLine(path, points, projection) {
  let previous = null;
  for (const point of points) {
    if (previous === null) {
      const { x, y } = projection.project(point[0], point[1]);
      path.moveTo(x, y);
    } else {
      const [lon, lat] = previous;
      const span = Math.max(Math.abs(point[0] - lon), Math.abs(point[1] - lat));
      const steps = Math.max(1, Math.ceil(span / MAX_STEP_DEGREES));
      for (let step = 1; step <= steps; step += 1) {
        const part = step / steps;
        const { x, y } = projection.project(lon + (point[0] - lon) * part, lat + (point[1] - lat) * part);
        path.lineTo(x, y);
      }
    }
    previous = point;
  }
}

function plain(arc) {
  return arc >= 0 ? arc : ~arc;
}
