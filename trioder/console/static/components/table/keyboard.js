// Keys of a table, after the grid pattern of WAI-ARIA. The grid keeps the focus; the active cell is named to it.

/**
 * @param {HTMLElement} grid
 * @param {{
 *   position(): number, column(): number, rowCount(): number, columnCount: number, pageRows(): number,
 *   activate(position: number, column: number): void, enter(event: KeyboardEvent): void,
 * }} table position -1 is the header
 * @param {AbortSignal} signal
 */
export function openKeyboard(grid, table, signal) {
  grid.addEventListener(
    "keydown",
    (event) => {
      // A control within a cell has its own keys.
      if (event.target !== grid || event.altKey) return;
      const [position, column] = [table.position(), table.column()];
      const last = table.rowCount() - 1;
      const lastColumn = table.columnCount - 1;
      const everywhere = event.ctrlKey || event.metaKey;
      let to = null;
      switch (event.key) {
        case "ArrowUp":
          to = [position - 1, column];
          break;
        case "ArrowDown":
          to = [position + 1, column];
          break;
        case "ArrowLeft":
          to = [position, column - 1];
          break;
        case "ArrowRight":
          to = [position, column + 1];
          break;
        case "PageUp":
          to = [Math.max(0, position - table.pageRows()), column];
          break;
        case "PageDown":
          to = [position + table.pageRows(), column];
          break;
        case "Home":
          to = everywhere ? [0, 0] : [position, 0];
          break;
        case "End":
          to = everywhere ? [last, lastColumn] : [position, lastColumn];
          break;
        case "Enter":
          table.enter(event);
          event.preventDefault();
          return;
        default:
          return;
      }
      event.preventDefault();
      table.activate(Math.max(-1, Math.min(last, to[0])), Math.max(0, Math.min(lastColumn, to[1])));
    },
    { signal },
  );
}
