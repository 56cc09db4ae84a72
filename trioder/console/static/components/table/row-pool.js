// The row elements of a virtual table: as many as are visible, each bound to another row as the table scrolls.

/** What Enter presses in a cell. */
export const CONTROLS = "a[href], button:not(:disabled), input:not(:disabled)";

/**
 * @typedef {{element: HTMLElement, cells: HTMLElement[], texts: (string|null)[], anchor: HTMLAnchorElement|null,
 *   position: number, row: unknown}} Slot
 */

/**
 * @template Row
 * @param {HTMLElement} body
 * @param {{columns: object[], rowKey: (row: Row) => unknown, rowHeight: number, href?: (row: Row) => string|null,
 *   id: string, decorate(slot: Slot): void, takeFocus(): void}} options `decorate` is called when a slot has another
 *   row; `takeFocus` when the control that has the focus goes with its row
 * @returns {{slots(): Iterable<Slot>, slotAt(position: number): Slot|undefined,
 *   show(first: number, end: number, rowAt: (position: number) => Row, again?: boolean): void,
 *   refresh(slot: Slot): void}} `again`: also rows that are the same objects may have changed
 */
export function createRowPool(body, options) {
  const { columns, rowKey, rowHeight, href, id, decorate, takeFocus } = options;
  /** @type {Map<number, Slot>} */
  const byPosition = new Map();
  /** Slots that fewer rows need no longer: outside of the document, for the next time. */
  const spare = [];
  let created = 0;

  function createSlot() {
    const element = document.createElement("div");
    element.className = "table-row";
    element.setAttribute("role", "row");
    const number = created;
    created += 1;
    const cells = columns.map((column, n) => {
      const cell = element.appendChild(document.createElement("div"));
      cell.className = column.align === "end" ? "table-cell table-cell-end" : "table-cell";
      cell.setAttribute("role", "gridcell");
      cell.setAttribute("aria-colindex", String(n + 1));
      cell.id = `${id}-${number}-${n}`;
      return cell;
    });
    let anchor = null;
    if (href) {
      anchor = cells[0].appendChild(document.createElement("a"));
      anchor.className = "table-link";
      // The grid has the focus; its keys open the row.
      anchor.tabIndex = -1;
    }
    return { element, cells, texts: columns.map(() => null), anchor, position: -1, row: null };
  }

  function refresh(slot) {
    columns.forEach((column, n) => {
      const target = n === 0 && slot.anchor ? slot.anchor : slot.cells[n];
      const text = column.text?.(slot.row);
      if (text !== undefined && slot.texts[n] === text) return;
      slot.texts[n] = text ?? null;
      if (column.render) {
        const focused = document.activeElement;
        const within = focused !== target && target.contains(focused);
        column.render(slot.row, target);
        // A control that was made anew is still the one that the user is at.
        if (within && !target.contains(document.activeElement)) {
          const control = target.querySelector(CONTROLS);
          if (control) control.focus({ preventScroll: true });
          else takeFocus();
        }
        return;
      }
      target.textContent = text;
      // What does not fit is cut off with an ellipsis: the whole text is a pointer's rest away.
      if (text.length > 12) target.title = text.slice(0, 300);
      else if (target.title) target.removeAttribute("title");
    });
    if (slot.anchor) {
      const address = href(slot.row);
      if (!address) slot.anchor.removeAttribute("href");
      else if (slot.anchor.getAttribute("href") !== address) slot.anchor.setAttribute("href", address);
    }
  }

  return {
    slots: () => byPosition.values(),
    slotAt: (position) => byPosition.get(position),
    refresh,
    show(first, end, rowAt, again = false) {
      const free = [];
      for (const [position, slot] of byPosition) {
        if (position >= first && position < end) continue;
        byPosition.delete(position);
        free.push(slot);
      }
      for (let position = first; position < end; position += 1) {
        const row = rowAt(position);
        let slot = byPosition.get(position);
        if (slot && slot.row === row && !again) continue;
        if (!slot) {
          slot = free.pop() ?? spare.pop() ?? createSlot();
          byPosition.set(position, slot);
          slot.position = position;
          slot.element.style.transform = `translateY(${position * rowHeight}px)`;
          // The header is row 1.
          slot.element.setAttribute("aria-rowindex", String(position + 2));
          if (!slot.element.isConnected) body.append(slot.element);
        }
        if (slot.row === null || rowKey(slot.row) !== rowKey(row)) {
          // Enter must not press the button of the row that came into this element.
          if (slot.element.contains(document.activeElement)) takeFocus();
          // Equal texts of another row may be rendered in another way.
          for (let n = 0; n < columns.length; n += 1) if (columns[n].render) slot.texts[n] = null;
        }
        slot.row = row;
        refresh(slot);
        decorate(slot);
      }
      for (const slot of free) {
        if (slot.element.contains(document.activeElement)) takeFocus();
        slot.element.remove();
        slot.position = -1;
        slot.row = null;
        spare.push(slot);
      }
    },
  };
}
