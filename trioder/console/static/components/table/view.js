// The elements of a table, and what is measured and moved in them.

import { columnWidths } from "./header.js";

/** The elements of a table. */
export function createView({ label, columns, header, state, rowHeight, maxVisibleRows }) {
  const create = (className, parent) => {
    const element = document.createElement("div");
    element.className = className;
    parent?.append(element);
    return element;
  };
  const { template, minWidth } = columnWidths(columns);
  const root = create(maxVisibleRows ? "table table-natural" : "table");
  root.style.setProperty("--table-columns", template);
  root.style.setProperty("--table-row-height", `${rowHeight}px`);
  const scroller = create("table-scroller", root);
  if (maxVisibleRows) scroller.style.maxHeight = `calc(${maxVisibleRows} * ${rowHeight}px + ${rowHeight + 5}px)`;
  const grid = create("table-grid", scroller);
  grid.style.minWidth = minWidth;
  grid.tabIndex = 0;
  grid.setAttribute("role", "grid");
  grid.setAttribute("aria-label", label);
  grid.setAttribute("aria-rowcount", "1");
  grid.setAttribute("aria-colcount", String(columns.length));
  grid.append(header.element);
  const body = create("table-body", grid);
  body.setAttribute("role", "rowgroup");
  root.append(state.element);
  return { root, scroller, grid, body };
}

/** `--row-height` of the document: the container may not be in it yet. */
export function defaultRowHeight() {
  const height = Number.parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row-height"));
  return Number.isFinite(height) && height > 0 ? height : 28;
}

/** A click with the modifiers of a key: with Ctrl it opens another tab. */
export function clickLike({ ctrlKey, metaKey }) {
  return new MouseEvent("click", { ctrlKey, metaKey, bubbles: true, cancelable: true });
}

/** Scrolls sideways so that a cell is not behind the first column, which stays in place. */
export function revealColumn(scroller, cell, first) {
  const fixed = cell.offsetLeft === first.offsetLeft ? 0 : first.offsetWidth;
  if (cell.offsetLeft - fixed < scroller.scrollLeft) scroller.scrollLeft = cell.offsetLeft - fixed;
  else if (cell.offsetLeft + cell.offsetWidth > scroller.scrollLeft + scroller.clientWidth) {
    scroller.scrollLeft = cell.offsetLeft + cell.offsetWidth - scroller.clientWidth;
  }
}
