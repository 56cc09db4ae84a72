/**
 * Pointer, wheel and keys of the map, as calls: what they do is for the caller.
 *
 * @typedef {{
 *   pan: (dx: number, dy: number) => void,
 *   zoom: (factor: number, x?: number, y?: number) => void,
 *   fit: () => void,
 *   hover: (x: number, y: number) => void,
 *   leave: () => void,
 *   tap: (x: number, y: number) => void,
 *   step: (forward: boolean, onlyAttention: boolean) => void,
 *   open: () => void,
 *   dismiss: () => void,
 * }} Gestures distances and positions in CSS pixels of the surface
 */

/** A press that moves less than this is a tap. */
const TAP_PX = 5;
const KEY_PAN_PX = 80;
export const KEY_ZOOM = 1.5;

/**
 * @param {HTMLElement} surface receives pointers and the wheel
 * @param {HTMLElement} element has the focus for keys
 * @param {Gestures} gestures
 * @param {AbortSignal} signal
 */
export function watchGestures(surface, element, gestures, signal) {
  watchPointers(surface, gestures, signal);
  surface.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
      // A trackpad's pinch arrives as a wheel with Ctrl and small steps.
      const factor = Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002));
      const { x, y } = positionIn(surface, event);
      gestures.zoom(Math.min(4, Math.max(0.25, factor)), x, y);
    },
    { signal, passive: false },
  );
  element.addEventListener(
    "keydown",
    (event) => {
      // The buttons within the map have their own keys.
      if (event.target !== element || event.ctrlKey || event.metaKey || event.altKey) return;
      if (pressKey(event, gestures)) event.preventDefault();
    },
    { signal },
  );
}

function pressKey({ key, shiftKey }, gestures) {
  const far = shiftKey ? 3 : 1;
  switch (key) {
    case "ArrowLeft":
      gestures.pan(KEY_PAN_PX * far, 0);
      return true;
    case "ArrowRight":
      gestures.pan(-KEY_PAN_PX * far, 0);
      return true;
    case "ArrowUp":
      gestures.pan(0, KEY_PAN_PX * far);
      return true;
    case "ArrowDown":
      gestures.pan(0, -KEY_PAN_PX * far);
      return true;
    case "+":
    case "=":
      gestures.zoom(KEY_ZOOM);
      return true;
    case "-":
    case "_":
      gestures.zoom(1 / KEY_ZOOM);
      return true;
    case "0":
    case "Home":
      gestures.fit();
      return true;
    case "n":
    case "N":
      gestures.step(true, shiftKey);
      return true;
    case "p":
    case "P":
      gestures.step(false, shiftKey);
      return true;
    case "Enter":
      gestures.open();
      return true;
    case "Escape":
      gestures.dismiss();
      return false;
    default:
      return false;
  }
}

function watchPointers(surface, gestures, signal) {
  /** @type {Map<number, {x: number, y: number}>} pressed pointers */
  const pressed = new Map();
  let travelled = 0;
  let wasPinched = false;

  surface.addEventListener(
    "pointerdown",
    (event) => {
      if (event.pointerType === "mouse" && event.button !== 0) return;
      if (pressed.size === 0) {
        travelled = 0;
        wasPinched = false;
      }
      pressed.set(event.pointerId, positionIn(surface, event));
      wasPinched ||= pressed.size > 1;
      surface.setPointerCapture(event.pointerId);
    },
    { signal },
  );
  surface.addEventListener(
    "pointermove",
    (event) => {
      const now = positionIn(surface, event);
      const before = pressed.get(event.pointerId);
      if (pressed.size < 2) gestures.hover(now.x, now.y);
      if (!before) return;
      travelled += Math.hypot(now.x - before.x, now.y - before.y);
      const others = [...pressed].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
      pressed.set(event.pointerId, now);
      if (others.length === 0) {
        if (travelled >= TAP_PX) gestures.pan(now.x - before.x, now.y - before.y);
      } else {
        pinch(before, now, others[0], gestures);
      }
    },
    { signal },
  );
  const release = (event) => {
    const point = pressed.get(event.pointerId);
    pressed.delete(event.pointerId);
    if (event.type === "pointerup" && point && pressed.size === 0 && !wasPinched && travelled < TAP_PX) {
      gestures.tap(point.x, point.y);
    }
  };
  surface.addEventListener("pointerup", release, { signal });
  surface.addEventListener("pointercancel", release, { signal });
  surface.addEventListener("pointerleave", () => gestures.leave(), { signal });
}

/** One finger of two has moved: both points of the map stay under their fingers. */
function pinch(before, now, other, gestures) {
  const middleBefore = { x: (before.x + other.x) / 2, y: (before.y + other.y) / 2 };
  const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
  gestures.pan(middle.x - middleBefore.x, middle.y - middleBefore.y);
  const widthBefore = Math.hypot(before.x - other.x, before.y - other.y);
  const width = Math.hypot(now.x - other.x, now.y - other.y);
  if (widthBefore > 10 && width > 10) gestures.zoom(width / widthBefore, middle.x, middle.y);
}

function positionIn(surface, event) {
  const box = surface.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}
