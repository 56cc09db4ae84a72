/**
 * Moves symbols apart that would cover each other, by a little and for the eye only. Large ones stay, small ones
 * give way; none moves further than a limit, so that each remains where people expect it.
 *
 * @typedef {{x: number, y: number, r: number}} Disc CSS pixels
 */

const PASSES = 12;
/** Two symbols may overlap until their centres are closer than this part of the sum of their radii. */
const NEARNESS = 1.0;
/** The direction in which symbols at the same place part: the golden angle spreads them evenly. */
const GOLDEN_ANGLE = Math.PI * (3 - Math.sqrt(5));

/**
 * Moves discs in place. The same discs in the same order always move the same way.
 * @param {Disc[]} discs
 * @param {number} limit greatest distance from their places
 */
export function spread(discs, limit) {
  if (discs.length < 2) return;
  const homes = discs.map(({ x, y }) => ({ x, y }));
  const byX = discs.map((_, place) => place).sort((a, b) => discs[a].x - discs[b].x || a - b);
  const widest = Math.max(...discs.map(({ r }) => r));
  for (let pass = 0; pass < PASSES; pass += 1) {
    let moved = false;
    for (let first = 0; first < byX.length; first += 1) {
      const a = discs[byX[first]];
      for (let second = first + 1; second < byX.length; second += 1) {
        const b = discs[byX[second]];
        // Sorted by where they stood at first: since then both may have moved.
        if (homes[byX[second]].x - homes[byX[first]].x > a.r + widest + 2 * limit) break;
        if (part(a, b, byX[first] + byX[second])) moved = true;
      }
    }
    discs.forEach((disc, place) => hold(disc, homes[place], limit));
    if (!moved) return;
  }
}

/** Moves two discs apart if they are too close; returns whether they were. */
function part(a, b, seed) {
  const wanted = NEARNESS * (a.r + b.r);
  let dx = b.x - a.x;
  let dy = b.y - a.y;
  if (Math.abs(dx) >= wanted || Math.abs(dy) >= wanted) return false;
  let distance = Math.hypot(dx, dy);
  if (distance >= wanted - 0.25) return false;
  const missing = wanted - distance;
  if (distance < 0.01) {
    dx = Math.cos(seed * GOLDEN_ANGLE);
    dy = Math.sin(seed * GOLDEN_ANGLE);
    distance = 1;
  }
  const [weightA, weightB] = [a.r * a.r, b.r * b.r];
  const shareA = weightB / (weightA + weightB);
  const step = missing / distance;
  a.x -= dx * step * shareA;
  a.y -= dy * step * shareA;
  b.x += dx * step * (1 - shareA);
  b.y += dy * step * (1 - shareA);
  return true;
}

function hold(disc, home, limit) {
  const dx = disc.x - home.x;
  const dy = disc.y - home.y;
  const distance = Math.hypot(dx, dy);
  if (distance <= limit) return;
  disc.x = home.x + (dx * limit) / distance;
  disc.y = home.y + (dy * limit) / distance;
}
