// When a table sorts again while its values change: at most once a second, and not under a hand that is about to click.

const INTERVAL_MS = 1000;
const POINTER_HOLD_MS = 2000;
const KEY_HOLD_MS = 2000;

/**
 * @param {HTMLElement} grid
 * @param {HTMLElement} body
 * @param {() => void} sort
 * @param {AbortSignal} signal
 * @returns {{request(): void, done(): void}} `done`: it was sorted just now for another reason
 */
export function openResort(grid, body, sort, signal) {
  let timer = 0;
  let sortedAt = -Infinity;
  let heldUntil = -Infinity;
  const hold = (ms) => () => {
    heldUntil = performance.now() + ms;
  };
  for (const type of ["pointermove", "pointerdown"]) {
    body.addEventListener(type, hold(POINTER_HOLD_MS), { signal, passive: true });
  }
  grid.addEventListener("keydown", hold(KEY_HOLD_MS), { signal });
  body.addEventListener("pointerleave", hold(0), { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));

  const run = () => {
    timer = 0;
    const wait = document.hidden ? INTERVAL_MS : heldUntil - performance.now();
    if (wait > 0) {
      timer = setTimeout(run, wait);
      return;
    }
    sortedAt = performance.now();
    sort();
  };
  return {
    request() {
      if (timer || signal.aborted) return;
      timer = setTimeout(run, Math.max(0, sortedAt + INTERVAL_MS - performance.now()));
    },
    done() {
      sortedAt = performance.now();
      clearTimeout(timer);
      timer = 0;
    },
  };
}
