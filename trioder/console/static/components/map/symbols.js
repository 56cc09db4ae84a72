/**
 * Draws the symbols of sites and clusters on a canvas whose unit is the CSS pixel.
 *
 * A circle, filled from below by state of charge; an arrow up while it discharges, down while it charges; a hatch
 * when its values are not good; a ring with a triangle for open alarms; a dashed ring while a stop holds it. So
 * nothing is said by colour alone.
 *
 * @typedef {import("./sites.js").Item} Item
 * @typedef {import("./palette.js").Palette} Palette
 */

const FULL = Math.PI * 2;
const HATCH_STEP = 5;
/** Below this part of its rating a site is idle. */
const IDLE_PART = 0.005;

/** @typedef {"discharging" | "charging" | "idle" | "unknown"} Direction */

/**
 * @param {number | null} powerMw
 * @param {number} ratingMw
 * @returns {Direction}
 */
export function directionOf(powerMw, ratingMw) {
  if (powerMw === null || !Number.isFinite(powerMw)) return "unknown";
  if (Math.abs(powerMw) <= IDLE_PART * ratingMw) return "idle";
  return powerMw > 0 ? "discharging" : "charging";
}

/**
 * Makes the pen for one palette and one pixel ratio.
 * @param {CanvasRenderingContext2D} context
 * @param {Palette} palette
 * @param {string} fontFamily
 * @returns {{draw: (item: Item) => void, mark: (item: Item, isFocus: boolean) => void}}
 */
export function openPen(context, palette, fontFamily) {
  /** What a stroke of 1 pixel measures: more on a large screen. */
  let unit = 1;
  const hatches = new Map();
  const hatch = (color) => {
    const key = `${color} ${unit}`;
    if (!hatches.has(key)) hatches.set(key, makeHatch(context, color, HATCH_STEP * unit));
    return hatches.get(key);
  };

  function draw(item) {
    unit = item.unit;
    if (item.kind === "cluster") drawCluster(item);
    else drawSite(item);
  }

  function drawSite({ x, y, r, ratingMw, state }) {
    const good = state.quality === "good";
    const direction = directionOf(state.powerMw, ratingMw);
    const color = good ? colorOf(direction) : palette.idle;
    disc(x, y, r + 1.5 * unit, palette.surface);
    disc(x, y, r, good ? color : palette.surface, good ? 0.16 : 1);
    level(x, y, r, state.socPct, color, good ? 0.62 : 0.3);
    let outline = color;
    if (!good) {
      outline = state.quality === "bad" ? palette.critical : palette.warning;
      disc(x, y, r, hatch(outline));
    }
    ring(x, y, r, outline, good ? 1.25 : 2.25);
    // On a small hatch an arrow is not legible.
    if (good || r > 11 * unit) arrow(x, y, r * 0.62, direction, good);
    if (state.alarms > 0) alarm(x, y, r);
    if (state.stopped) stop(x, y, r + (state.alarms > 0 ? 7 : 3) * unit);
  }

  function drawCluster({ x, y, r, members, powerMw, socPct, ratingMw, notGood, alarms, stopped }) {
    const direction = directionOf(powerMw, ratingMw);
    const color = colorOf(direction);
    disc(x, y, r + 4.5 * unit, palette.surface, 0.85);
    disc(x, y, r, palette.surface);
    level(x, y, r, socPct, color, 0.42);
    ring(x, y, r, color, 1.25);
    // Where a stop holds some, the outer ring is dashed.
    if (stopped > 0) ring(x, y, r + 3 * unit, palette.ink, 1.75, [4 * unit, 3 * unit]);
    else ring(x, y, r + 3 * unit, color, 1);
    if (notGood > 0) {
      const end = -Math.PI / 2 + FULL * Math.max(0.1, notGood / members.length);
      context.beginPath();
      context.moveTo(x, y);
      context.arc(x, y, r, -Math.PI / 2, end);
      context.closePath();
      context.fillStyle = hatch(palette.warning);
      context.fill();
      context.beginPath();
      context.arc(x, y, r + 1.5 * unit, -Math.PI / 2, end);
      context.strokeStyle = palette.warning;
      context.lineWidth = 3.5 * unit;
      context.stroke();
    }
    arrow(x, y - r * 0.58, r * 0.32, direction, true);
    const size = Math.max(11, r * 0.62);
    context.font = `600 ${size}px ${fontFamily}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.strokeStyle = palette.surface;
    context.lineWidth = 3;
    const text = countText(members.length);
    context.strokeText(text, x, y + r * 0.2);
    context.fillStyle = palette.ink;
    context.fillText(text, x, y + r * 0.2);
    if (alarms > 0) triangle(x, y, r);
  }

  /** Marks the selected or the focused item. */
  function mark(item, isFocus) {
    const { x, y } = item;
    unit = item.unit;
    const radius = item.r + (isFocus ? 10 : 7) * unit;
    ring(x, y, radius, palette.surface, 5);
    ring(x, y, radius, palette.accent, 2.5);
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + dx * radius, y + dy * radius);
      context.lineTo(x + dx * (radius + 6 * unit), y + dy * (radius + 6 * unit));
    }
    context.stroke();
  }

  function colorOf(direction) {
    if (direction === "discharging") return palette.discharge;
    return direction === "charging" ? palette.charge : palette.idle;
  }

  function disc(x, y, r, fill, alpha = 1) {
    context.beginPath();
    context.arc(x, y, r, 0, FULL);
    context.globalAlpha = alpha;
    context.fillStyle = fill;
    context.fill();
    context.globalAlpha = 1;
  }

  /** Fills the circle from below to a part of its height. */
  function level(x, y, r, socPct, fill, alpha) {
    if (socPct === null || !Number.isFinite(socPct)) return;
    const angle = Math.asin(1 - (2 * Math.min(100, Math.max(0, socPct))) / 100);
    context.beginPath();
    context.arc(x, y, r, angle, Math.PI - angle);
    context.closePath();
    context.globalAlpha = alpha;
    context.fillStyle = fill;
    context.fill();
    context.globalAlpha = 1;
  }

  function ring(x, y, r, stroke, width, dash = []) {
    context.beginPath();
    context.arc(x, y, r, 0, FULL);
    context.strokeStyle = stroke;
    context.lineWidth = width * unit;
    context.setLineDash(dash);
    context.stroke();
    context.setLineDash([]);
  }

  /** Draws an arrow head, with a shaft where there is room; hollow where the value is not live. */
  function arrow(x, y, size, direction, isSolid) {
    if (direction !== "discharging" && direction !== "charging") return;
    const up = direction === "discharging" ? -1 : 1;
    const half = size * 0.8;
    context.beginPath();
    context.moveTo(x, y + up * size);
    context.lineTo(x + half, y);
    if (size > 5 * unit) {
      const shaft = size * 0.28;
      context.lineTo(x + shaft, y);
      context.lineTo(x + shaft, y - up * size);
      context.lineTo(x - shaft, y - up * size);
      context.lineTo(x - shaft, y);
    }
    context.lineTo(x - half, y);
    context.closePath();
    context.lineJoin = "miter";
    context.strokeStyle = isSolid ? palette.surface : palette.ink;
    context.lineWidth = (isSolid ? 2 : 1.25) * unit;
    if (isSolid) context.stroke();
    context.fillStyle = isSolid ? palette.ink : palette.surface;
    context.fill();
    if (!isSolid) context.stroke();
  }

  /** A ring, and a triangle at its upper right. */
  function alarm(x, y, r) {
    const radius = r + 3 * unit;
    ring(x, y, radius, palette.surface, 4);
    ring(x, y, radius, palette.critical, 2);
    triangle(x, y, radius);
  }

  function triangle(x, y, radius) {
    context.save();
    context.translate(x + radius * Math.SQRT1_2 + 2 * unit, y - radius * Math.SQRT1_2 - 2 * unit);
    context.scale(unit, unit);
    context.beginPath();
    context.moveTo(0, -7);
    context.lineTo(7, 5);
    context.lineTo(-7, 5);
    context.closePath();
    context.lineJoin = "round";
    context.strokeStyle = palette.surface;
    context.lineWidth = 3;
    context.stroke();
    context.fillStyle = palette.critical;
    context.fill();
    context.fillStyle = palette.surface;
    context.fillRect(-0.75, -2.5, 1.5, 4);
    context.fillRect(-0.75, 2.5, 1.5, 1.5);
    context.restore();
  }

  function stop(x, y, r) {
    ring(x, y, r, palette.surface, 4);
    ring(x, y, r, palette.ink, 2, [4 * unit, 3 * unit]);
  }

  return { draw, mark };
}

/** @param {number} count @returns {string} at most four characters */
function countText(count) {
  return count < 1000 ? String(count) : `${(count / 1000).toFixed(count < 9950 ? 1 : 0)}k`;
}

/** Makes a pattern of diagonal lines; `step` in CSS pixels. */
function makeHatch(context, color, step) {
  const ratio = context.getTransform().a;
  const tile = document.createElement("canvas");
  tile.width = tile.height = Math.max(1, Math.round(step * ratio));
  const pen = tile.getContext("2d");
  const side = tile.width;
  pen.strokeStyle = color;
  pen.lineWidth = 0.26 * side;
  pen.beginPath();
  // The neighbours' corners too, so that lines join from tile to tile.
  for (const shift of [-side, 0, side]) {
    pen.moveTo(shift - side, 2 * side);
    pen.lineTo(shift + 2 * side, -side);
  }
  pen.stroke();
  const pattern = context.createPattern(tile, "repeat");
  pattern.setTransform(new DOMMatrix().scale(step / side));
  return pattern;
}
