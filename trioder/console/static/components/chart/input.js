// Pointer and keyboard of a chart: the crosshair, and the selection of a range.

/** A drag shorter than this many CSS pixels is a click. */
const DRAG_PX = 6;

/**
 * @param {HTMLElement} surface has the focus and gets the pointer
 * @param {{
 *   timeAt(clientX: number): number,
 *   cursor(): number|null, moveCursor(time: number|null): void, stepCursor(count: number): void,
 *   cursorTo(edge: "start"|"end"): void,
 *   select(range: [number, number]|null): void, apply(range: [number, number]): void, reset(): boolean,
 * }} chart
 * @param {AbortSignal} signal
 */
export function openInput(surface, chart, signal) {
  /** @type {{pointerId: number, x: number, time: number, moved: boolean}|null} */
  let drag = null;
  /** Where a selection by keyboard began. */
  let mark = null;
  const on = (type, listener) => surface.addEventListener(type, listener, { signal });

  const endDrag = () => {
    drag = null;
    chart.select(null);
  };

  on("pointerdown", (event) => {
    // A finger moves the crosshair: a drag would be in the way of scrolling.
    if (event.button !== 0 || event.pointerType === "touch") return;
    drag = { pointerId: event.pointerId, x: event.clientX, time: chart.timeAt(event.clientX), moved: false };
    surface.setPointerCapture(event.pointerId);
  });
  on("pointermove", (event) => {
    const time = chart.timeAt(event.clientX);
    chart.moveCursor(time);
    if (!drag || event.pointerId !== drag.pointerId) return;
    drag.moved ||= Math.abs(event.clientX - drag.x) >= DRAG_PX;
    if (drag.moved) chart.select([drag.time, time]);
  });
  on("pointerup", (event) => {
    if (!drag || event.pointerId !== drag.pointerId) return;
    const { moved, time } = drag;
    const end = chart.timeAt(event.clientX);
    endDrag();
    if (moved && end !== time) chart.apply([Math.min(time, end), Math.max(time, end)]);
  });
  on("pointercancel", endDrag);
  on("pointerleave", () => {
    if (!drag) chart.moveCursor(null);
  });
  on("dblclick", () => chart.reset());
  on("blur", () => {
    mark = null;
    chart.select(null);
    chart.moveCursor(null);
  });

  const showMark = () => chart.select(mark === null || chart.cursor() === null ? null : [mark, chart.cursor()]);
  on("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    switch (event.key) {
      case "ArrowLeft":
      case "ArrowRight":
        chart.stepCursor((event.key === "ArrowLeft" ? -1 : 1) * (event.shiftKey ? 10 : 1));
        break;
      case "Home":
      case "End":
        chart.cursorTo(event.key === "Home" ? "start" : "end");
        break;
      case " ":
        mark = mark === null ? chart.cursor() : null;
        break;
      case "Enter": {
        const [from, to] = [mark, chart.cursor()];
        if (from === null || to === null || from === to) return;
        mark = null;
        chart.apply([Math.min(from, to), Math.max(from, to)]);
        break;
      }
      case "Escape":
        // One press ends a selection, the next one the zoom.
        if (drag || mark !== null) {
          mark = null;
          endDrag();
        } else if (!chart.reset()) {
          return;
        }
        break;
      default:
        return;
    }
    event.preventDefault();
    showMark();
  });
}
