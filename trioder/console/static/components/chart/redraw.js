// When a chart draws: with the next frame, at most so often for new data, and not at all while nobody sees it.

/**
 * @param {Element} element not drawn while it is outside of the viewport
 * @param {() => void} draw
 * @param {{signal: AbortSignal, minIntervalMs: number}} options
 * @returns {{soon(): void, paced(delayMs?: number): void}} `soon`: the next frame; `paced`: after `delayMs`, and not
 *   before `minIntervalMs` have passed since it was drawn last
 */
export function openRedraw(element, draw, { signal, minIntervalMs }) {
  let frame = 0;
  let timer = 0;
  let due = Infinity;
  let drawnAt = -Infinity;
  let inViewport = true;
  let missed = false;

  const hidden = () => document.hidden || !inViewport || signal.aborted;
  const soon = () => {
    if (hidden()) {
      missed = true;
      return;
    }
    clearTimeout(timer);
    due = Infinity;
    if (!frame) frame = requestAnimationFrame(run);
  };
  const run = () => {
    frame = 0;
    drawnAt = performance.now();
    missed = false;
    draw();
  };
  const paced = (delayMs = 0) => {
    if (hidden()) {
      missed = true;
      return;
    }
    const now = performance.now();
    const at = Math.max(now + delayMs, drawnAt + minIntervalMs);
    if (frame || at >= due) return;
    clearTimeout(timer);
    due = at;
    timer = setTimeout(soon, at - now);
  };
  const shownAgain = () => {
    if (missed && !hidden()) soon();
  };

  const viewport = new IntersectionObserver((entries) => {
    inViewport = entries[entries.length - 1].isIntersecting;
    shownAgain();
  });
  viewport.observe(element);
  document.addEventListener("visibilitychange", shownAgain, { signal });
  signal.addEventListener("abort", () => {
    viewport.disconnect();
    clearTimeout(timer);
    cancelAnimationFrame(frame);
  });
  return { soon, paced };
}
