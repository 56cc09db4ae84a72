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
  const hatches = new Map();
  const hatch = (color) => {
    if (!hatches.has(color)) hatches.set(color, makeHatch(context, color));
    return hatches.get(color);
  };

  function draw(item) {
    if (item.kind === "cluster") drawCluster(item);
    else drawSite(item);
  }

  function drawSite({ x, y, r, ratingMw, state }) {
    const good = state.quality === "good";
    const direction = directionOf(state.powerMw, ratingMw);
    const color = good ? colorOf(direction) : palette.idle;
    disc(x, y, r + 1.5, palette.surface);
    disc(x, y, r, good ? color : palette.surface, good ? 0.16 : 1);
    level(x, y, r, state.socPct, color, good ? 0.62 : 0.3);
    let outline = color;
    if (!good) {
      disc(x, y, r, hatch(palette.inkMuted));
      outline = state.quality === "bad" ? palette.critical : palette.warning;
    }
    ring(x, y, r, outline, good ? 1.25 : 2.25);
    arrow(x, y, r * 0.62, direction, good);
    if (state.alarms > 0) alarm(x, y, r);
    if (state.stopped) stop(x, y, r + (state.alarms > 0 ? 6 : 3));
  }

  function drawCluster({ x, y, r, members, powerMw, socPct, ratingMw, notGood, alarms, stopped }) {
    const direction = directionOf(powerMw, ratingMw);
    const color = colorOf(direction);
    disc(x, y, r + 4.5, palette.surface, 0.85);
    disc(x, y, r, palette.surface);
    level(x, y, r, socPct, color, 0.42);
    ring(x, y, r, color, 1.25);
    ring(x, y, r + 3, color, 1);
    if (notGood > 0) {
      const end = -Math.PI / 2 + FULL * Math.max(0.1, notGood / members.length);
      context.beginPath();
      context.moveTo(x, y);
      context.arc(x, y, r, -Math.PI / 2, end);
      context.closePath();
      context.fillStyle = hatch(palette.inkMuted);
      context.fill();
      context.beginPath();
      context.arc(x, y, r + 2, -Math.PI / 2, end);
      context.strokeStyle = palette.warning;
      context.lineWidth = 3.5;
      context.stroke();
    }
    arrow(x, y - r * 0.58, r * 0.32, direction, true);
    const size = Math.max(10, Math.min(15, r * 0.62));
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
    if (alarms > 0) alarm(x, y, r + 3);
    if (stopped > 0) stop(x, y, r + 8);
  }

  /** Marks the selected or the focused item. */
  function mark({ x, y, r }, isFocus) {
    const radius = r + (isFocus ? 9 : 6);
    ring(x, y, radius, palette.surface, 5);
    ring(x, y, radius, palette.accent, 2.5);
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + dx * radius, y + dy * radius);
      context.lineTo(x + dx * (radius + 6), y + dy * (radius + 6));
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
    context.lineWidth = width;
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
    if (size > 5) {
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
    context.lineWidth = isSolid ? 2 : 1.25;
    if (isSolid) context.stroke();
    context.fillStyle = isSolid ? palette.ink : palette.surface;
    context.fill();
    if (!isSolid) context.stroke();
  }

  /** A ring, and a triangle at its upper right. */
  function alarm(x, y, r) {
    ring(x, y, r + 3, palette.surface, 4);
    ring(x, y, r + 3, palette.critical, 2);
    const cx = x + (r + 3) * Math.SQRT1_2 + 2;
    const cy = y - (r + 3) * Math.SQRT1_2 - 2;
    context.beginPath();
    context.moveTo(cx, cy - 7);
    context.lineTo(cx + 7, cy + 5);
    context.lineTo(cx - 7, cy + 5);
    context.closePath();
    context.lineJoin = "round";
    context.strokeStyle = palette.surface;
    context.lineWidth = 3;
    context.stroke();
    context.fillStyle = palette.critical;
    context.fill();
    context.fillStyle = palette.surface;
    context.fillRect(cx - 0.75, cy - 2.5, 1.5, 4);
    context.fillRect(cx - 0.75, cy + 2.5, 1.5, 1.5);
  }

  function stop(x, y, r) {
    ring(x, y, r, palette.surface, 4);
    ring(x, y, r, palette.ink, 2, [4, 3]);
  }

  return { draw, mark };
}

/** @param {number} count @returns {string} at most four characters */
export function countText(count) {
  return count < 1000 ? String(count) : `${(count / 1000).toFixed(count < 9950 ? 1 : 0)}k`;
}

/** Makes a pattern of diagonal lines in CSS pixels. */
function makeHatch(context, color) {
  const ratio = context.getTransform().a;
  const tile = document.createElement("canvas");
  tile.width = tile.height = Math.max(1, Math.round(HATCH_STEP * ratio));
  const pen = tile.getContext("2d");
  const side = tile.width;
  pen.strokeStyle = color;
  pen.lineWidth = 1.3 * ratio;
  pen.beginPath();
  // The neighbours' corners too, so that lines join from tile to tile.
  for (const shift of [-side, 0, side]) {
    pen.moveTo(shift - side, 2 * side);
    pen.lineTo(shift + 2 * side, -side);
  }
  pen.stroke();
  const pattern = context.createPattern(tile, "repeat");
  pattern.setTransform(new DOMMatrix().scale(HATCH_STEP / side));
  return pattern;
}
