// The header of a table: labels with units, and the direction of the sort.

/**
 * @param {object[]} columns
 * @param {string} id prefix of the cells' ids
 * @returns {{element: HTMLElement, row: HTMLElement, cells: HTMLElement[],
 *   showSort(columnId: string|null, descending: boolean): void}}
 */
export function createHeader(columns, id) {
  const element = document.createElement("div");
  element.className = "table-head";
  element.setAttribute("role", "rowgroup");
  const row = element.appendChild(document.createElement("div"));
  row.className = "table-row table-header-row";
  row.setAttribute("role", "row");
  row.setAttribute("aria-rowindex", "1");
  const cells = columns.map((column, n) => {
    const cell = row.appendChild(document.createElement("div"));
    cell.className = column.align === "end" ? "table-header table-cell-end" : "table-header";
    if (isSortable(column)) cell.classList.add("table-sortable");
    cell.setAttribute("role", "columnheader");
    cell.setAttribute("aria-colindex", String(n + 1));
    cell.id = `${id}-head-${n}`;
    const label = cell.appendChild(document.createElement("span"));
    label.className = "table-header-label";
    label.textContent = column.label;
    if (column.unit) {
      const unit = cell.appendChild(document.createElement("span"));
      unit.className = "table-unit";
      unit.textContent = column.unit;
    }
    return cell;
  });
  return {
    element,
    row,
    cells,
    showSort(columnId, descending) {
      columns.forEach((column, n) => {
        if (!isSortable(column)) return;
        const direction = column.id !== columnId ? "none" : descending ? "descending" : "ascending";
        cells[n].setAttribute("aria-sort", direction);
      });
    },
  };
}

/** @returns {boolean} */
export function isSortable(column) {
  return column.sortable !== false && typeof column.value === "function";
}

/** @returns {{template: string, minWidth: string}} `grid-template-columns`, and what it needs; widths grow with `--scale` */
export function columnWidths(columns) {
  let minWidth = 0;
  const template = columns.map(({ width = "1fr", align }) => {
    if (typeof width === "number" || /^\d+(\.\d+)?(px)?$/.test(width)) {
      minWidth += Number.parseFloat(width);
      return scaled(Number.parseFloat(width));
    }
    const least = align === "end" ? 72 : 112;
    minWidth += least;
    return `minmax(${scaled(least)}, ${width})`;
  });
  return { template: template.join(" "), minWidth: scaled(minWidth) };
}

const scaled = (px) => `calc(${px}px * var(--scale, 1))`;
