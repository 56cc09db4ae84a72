// A small line without axes, for a cell of a table or a tile.

/**
 * @param {HTMLCanvasElement} canvas drawn in its CSS size; give it a label, or hide it from screen readers
 * @param {ArrayLike<number|null>} values at equal steps; null or NaN is a gap
 * @param {{color?: string, min?: number, max?: number}} [options] `color` is a custom property
 */
export function sparkline(canvas, values, { color = "--series-1", min, max } = {}) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  const known = Array.from(values).filter((value) => Number.isFinite(value));
  if (!context || known.length === 0) return;
  const low = min ?? known.reduce((a, b) => Math.min(a, b));
  const high = max ?? known.reduce((a, b) => Math.max(a, b));
  const toY = (value) => (high > low ? height - 1.5 - ((value - low) * (height - 3)) / (high - low) : height / 2);
  const step = values.length > 1 ? (width - 3) / (values.length - 1) : 0;
  context.scale(ratio, ratio);
  canvas.style.color = `var(${color})`;
  context.strokeStyle = getComputedStyle(canvas).color;
  context.lineWidth = 1.5;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  let open = false;
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i];
    if (!Number.isFinite(value)) {
      open = false;
      continue;
    }
    const x = 1.5 + i * step;
    if (!open) context.moveTo(x - 0.01, toY(value));
    context.lineTo(x, toY(value));
    open = true;
  }
  context.stroke();
}
