// A table of up to 100,000 rows, of which only the visible ones are in the document: sorted, filtered, by keyboard.
// The rows are the caller's objects; it changes them and names their keys to `update`.

import { createHeader, isSortable } from "./table/header.js";
import { openKeyboard } from "./table/keyboard.js";
import { createOrder } from "./table/order.js";
import { openResort } from "./table/resort.js";
import { CONTROLS, createRowPool } from "./table/row-pool.js";
import { createState } from "./table/state.js";
import { clickLike, createView, defaultRowHeight, revealColumn } from "./table/view.js";

/** Rows beyond the edges, so that a scroll by the compositor does not show a blank. */
const OVERSCAN = 8;
let tables = 0;

/**
 * `value` is sorted by: numbers, texts or null (last). `text` or `render` fill a cell; `render` gets elements that have
 * shown another row, and must set all of their content; with `text` beside it only when that differs, else at each
 * update. The first sort is descending for columns with `align: "end"`.
 * @template Row
 * @typedef {{id: string, label: string, unit?: string, align?: "start"|"end", width?: number|string,
 *   value?: (row: Row) => number|string|boolean|null|undefined, text?: (row: Row) => string,
 *   render?: (row: Row, cell: HTMLElement) => void, sortable?: boolean}} Column
 */

/**
 * @template Row
 * @typedef {{
 *   setRows(rows: Row[]): void,
 *   update(keys?: Iterable<unknown>): void,
 *   setSort(columnId: string|null, descending?: boolean): void,
 *   setFilter(fn: ((row: Row) => boolean)|null): void,
 *   setState(state: import("./table/state.js").TableState): void,
 *   scrollTo(key: unknown): void,
 *   select(key: unknown): void,
 *   visibleKeys(): unknown[],
 *   shownCount(): number,
 * }} Table
 */

/**
 * Opens a table at the end of `container`, whose height it takes, until `signal` is aborted.
 * @template Row
 * @param {HTMLElement} container has a height of its own, or `maxVisibleRows` is given
 * @param {{
 *   signal: AbortSignal,
 *   columns: Column<Row>[],
 *   rowKey: (row: Row) => unknown,
 *   label: string,
 *   onOpen?: (row: Row) => void,
 *   href?: (row: Row) => string|null,
 *   rowHeight?: number,
 *   maxVisibleRows?: number,
 *   onSort?: (columnId: string|null, descending: boolean) => void,
 *   onScroll?: () => void,
 * }} options `rowHeight` in CSS pixels, by default `--row-height`; `maxVisibleRows`: as high as its rows, up to so many
 * @returns {Table<Row>}
 */
export function openTable(container, options) {
  const { signal, columns, rowKey, label, onOpen, href, maxVisibleRows, onSort, onScroll } = options;
  const rowHeight = options.rowHeight ?? defaultRowHeight();
  tables += 1;
  const id = `table-${tables}`;
  const header = createHeader(columns, id);
  const state = createState();
  const view = createView({ label, columns, header, state, rowHeight, maxVisibleRows });
  const { root, scroller, grid, body } = view;
  if (onOpen || href) root.classList.add("table-opens");
  container.append(root);

  const order = createOrder(rowKey);
  const takeFocus = () => grid.focus({ preventScroll: true });
  const pool = createRowPool(body, { columns, rowKey, rowHeight, href, id, decorate, takeFocus });
  const resort = openResort(grid, body, () => keepPlace(applyOrder), signal);
  let sort = { columnId: null, descending: false };
  let filtered = false;
  let tableState = { kind: "ready" };
  let selectedKey;
  /** The cell that the keys act on: a row by its key, so that it stays the same one in another order. */
  let active = { key: undefined, position: -1, column: 0 };
  const dirty = new Set();
  let frame = 0;
  let pressed = false;

  const rowAt = (position) => order.rows[order.order[position]];
  const headerHeight = () => header.element.offsetHeight;
  const bodyHeight = () => Math.max(0, scroller.clientHeight - headerHeight());

  function render(again = false) {
    const count = order.order.length;
    const first = Math.max(0, Math.floor(scroller.scrollTop / rowHeight) - OVERSCAN);
    const end = Math.min(count, Math.ceil((scroller.scrollTop + bodyHeight()) / rowHeight) + OVERSCAN);
    pool.show(Math.min(first, end), end, rowAt, again);
    markActive();
  }

  function refreshDirty() {
    frame = 0;
    // A link that is made anew between press and release would not get the click.
    if (pressed) {
      frame = requestAnimationFrame(refreshDirty);
      return;
    }
    for (const slot of dirty) {
      if (slot.position < 0) continue;
      slot.row = rowAt(slot.position);
      pool.refresh(slot);
    }
    dirty.clear();
  }

  function decorate(slot) {
    if (selectedKey === undefined) slot.element.removeAttribute("aria-selected");
    else slot.element.setAttribute("aria-selected", String(rowKey(slot.row) === selectedKey));
  }

  /** Filters and sorts; `again`: rows that are the same objects may have changed. */
  function applyOrder(again = false) {
    order.apply();
    const count = order.order.length;
    grid.setAttribute("aria-rowcount", String(count + 1));
    body.style.height = `${count * rowHeight}px`;
    showState();
    render(again);
  }

  /** Makes a change to the order; the active row stays where it is on the screen, and a control keeps the focus. */
  function keepPlace(change) {
    const focused = focusedCell();
    const before = activePosition();
    const y = before * rowHeight - scroller.scrollTop;
    const anchored = before >= 0 && document.activeElement === grid && y >= 0 && y < bodyHeight();
    change();
    const after = order.positionOfKey(active.key);
    if (anchored && after >= 0 && after !== before) {
      scroller.scrollTop = after * rowHeight - y;
      render();
    }
    if (!focused) return;
    const cell = pool.slotAt(order.positionOfKey(focused.key))?.cells[focused.column];
    if (!cell?.contains(document.activeElement)) cell?.querySelector(CONTROLS)?.focus({ preventScroll: true });
  }

  /** The cell whose own control has the focus. */
  function focusedCell() {
    for (const { row, cells } of pool.slots()) {
      const column = cells.findIndex((cell) => cell.contains(document.activeElement));
      if (column >= 0) return { key: rowKey(row), column };
    }
    return null;
  }

  function showState() {
    state.show(tableState, order.rows.length, order.order.length);
    grid.setAttribute("aria-busy", String(tableState.kind === "loading"));
    root.classList.toggle("table-without-rows", order.order.length === 0);
  }

  /** Where the active row is now; its last place if it is filtered out; -1 for the header. */
  function activePosition() {
    if (active.key === undefined) return -1;
    const position = order.positionOfKey(active.key);
    return position >= 0 ? position : Math.min(active.position, order.order.length - 1);
  }

  function activate(position, column) {
    active = { key: position < 0 ? undefined : rowKey(rowAt(position)), position, column };
    if (position >= 0) {
      const top = position * rowHeight;
      if (top < scroller.scrollTop) scroller.scrollTop = top;
      else if (top + rowHeight > scroller.scrollTop + bodyHeight()) scroller.scrollTop = top + rowHeight - bodyHeight();
    }
    render();
    const cell = activeCell();
    if (cell) revealColumn(scroller, cell, header.cells[0]);
  }

  function activeCell() {
    const position = activePosition();
    return position < 0 ? header.cells[active.column] : pool.slotAt(position)?.cells[active.column];
  }

  let marked = null;
  function markActive() {
    const cell = activeCell() ?? null;
    if (cell !== marked) {
      marked?.classList.remove("table-active");
      cell?.classList.add("table-active");
      marked = cell;
    }
    if (!cell) grid.removeAttribute("aria-activedescendant");
    else if (grid.getAttribute("aria-activedescendant") !== cell.id) grid.setAttribute("aria-activedescendant", cell.id);
  }

  function setSort(columnId, descending = false) {
    const column = columns.find((each) => each.id === columnId) ?? null;
    if (columnId !== null && !(column && isSortable(column))) {
      throw new RangeError(`${columnId} is no column that this table sorts by`);
    }
    sort = { columnId, descending };
    order.setSort(column?.value ?? null, descending);
    header.showSort(columnId, descending);
    resort.done();
    applyOrder();
  }

  function sortBy(column) {
    if (!isSortable(column)) return;
    const descending = sort.columnId === column.id ? !sort.descending : column.align === "end";
    setSort(column.id, descending);
    onSort?.(column.id, descending);
  }

  header.cells.forEach((cell, n) => {
    cell.addEventListener("click", () => sortBy(columns[n]), { signal });
  });
  header.showSort(null, false);

  body.addEventListener("pointerdown", () => (pressed = true), { signal });
  for (const type of ["pointerup", "pointercancel", "blur"]) {
    window.addEventListener(type, () => (pressed = false), { signal });
  }
  body.addEventListener(
    "click",
    (event) => {
      const slot = [...pool.slots()].find(({ element }) => element.contains(event.target));
      if (!slot) return;
      const position = slot.position;
      active = { ...active, key: rowKey(slot.row), position };
      markActive();
      const control = event.target.closest("a, button, input, select, label");
      // Another tab or window is the browser's; a control within a cell has its own listener.
      const modified = event.ctrlKey || event.metaKey || event.shiftKey || event.altKey;
      if (modified || event.defaultPrevented || (control && control !== slot.anchor)) return;
      if (!control && getSelection()?.toString()) return;
      if (onOpen) {
        event.preventDefault();
        onOpen(slot.row);
      } else if (!control) {
        slot.anchor?.click();
      }
    },
    { signal },
  );

  openKeyboard(
    grid,
    {
      position: activePosition,
      column: () => active.column,
      rowCount: () => order.order.length,
      columnCount: columns.length,
      pageRows: () => Math.max(1, Math.floor(bodyHeight() / rowHeight) - 1),
      activate,
      enter(event) {
        const position = activePosition();
        if (position < 0) {
          sortBy(columns[active.column]);
          return;
        }
        activate(position, active.column);
        const { anchor, cells } = pool.slotAt(position);
        // A cell's own control comes first; the link of the row has the row's meaning.
        const control = [...cells[active.column].querySelectorAll(CONTROLS)].find((each) => each !== anchor);
        if (control) control.click();
        else if (onOpen && !event.ctrlKey && !event.metaKey) onOpen(rowAt(position));
        else anchor?.dispatchEvent(clickLike(event));
      },
    },
    signal,
  );
  grid.addEventListener(
    "focus",
    () => {
      // Into the rows, not onto the header: that is one key above.
      if (active.key === undefined && order.order.length > 0 && active.position === -1) {
        activate(Math.min(order.order.length - 1, Math.ceil(scroller.scrollTop / rowHeight)), 0);
      }
    },
    { signal },
  );
  scroller.addEventListener(
    "scroll",
    () => {
      render();
      onScroll?.();
    },
    { signal, passive: true },
  );
  const resize = new ResizeObserver(() => render());
  resize.observe(scroller);
  signal.addEventListener("abort", () => {
    resize.disconnect();
    cancelAnimationFrame(frame);
    root.remove();
  });
  showState();

  return {
    setRows(rows) {
      resort.done();
      keepPlace(() => {
        order.setRows(rows);
        applyOrder(true);
      });
    },
    update(keys) {
      if (keys === undefined) {
        for (const slot of pool.slots()) dirty.add(slot);
      } else {
        for (const key of keys) {
          const slot = pool.slotAt(order.positionOfKey(key));
          if (slot) dirty.add(slot);
        }
      }
      if (dirty.size > 0) frame ||= requestAnimationFrame(refreshDirty);
      if (sort.columnId !== null || filtered) resort.request();
    },
    setSort,
    setFilter(fn) {
      const { scrollTop } = scroller;
      filtered = fn !== null;
      order.setFilter(fn);
      resort.done();
      applyOrder();
      // A place that is beyond the last of the rows now means nothing: the first ones are what was searched for.
      if (scrollTop > scroller.scrollHeight - scroller.clientHeight) scroller.scrollTop = 0;
    },
    setState(next) {
      tableState = next;
      showState();
    },
    scrollTo(key) {
      const position = order.positionOfKey(key);
      if (position < 0) return;
      const top = position * rowHeight;
      if (top < scroller.scrollTop || top + rowHeight > scroller.scrollTop + bodyHeight()) {
        scroller.scrollTop = top - (bodyHeight() - rowHeight) / 2;
      }
      render();
    },
    select(key) {
      selectedKey = key;
      for (const slot of pool.slots()) decorate(slot);
    },
    visibleKeys() {
      const first = Math.floor(scroller.scrollTop / rowHeight);
      const end = Math.min(order.order.length, Math.ceil((scroller.scrollTop + bodyHeight()) / rowHeight));
      return Array.from({ length: Math.max(0, end - first) }, (_, n) => rowKey(rowAt(first + n)));
    },
    shownCount: () => order.order.length,
  };
}
