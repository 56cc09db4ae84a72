// What a table shows in place of rows, or beside old ones: loading, nothing there, an error.

/**
 * @typedef {{kind: "loading"|"empty"|"error"|"ready", message?: string}} TableState
 */

/**
 * @returns {{element: HTMLElement, show(state: TableState, rowCount: number, shownCount: number): void}}
 */
export function createState() {
  const element = document.createElement("div");
  element.className = "table-state";
  element.setAttribute("role", "status");
  const text = element.appendChild(document.createElement("span"));
  return {
    element,
    show(state, rowCount, shownCount) {
      const message = describe(state, rowCount, shownCount);
      element.hidden = message === null;
      // With rows there, a strip below them; without, in the middle.
      element.classList.toggle("table-state-strip", shownCount > 0);
      element.classList.toggle("table-state-error", state.kind === "error");
      element.classList.toggle("table-state-loading", state.kind === "loading");
      if (text.textContent !== (message ?? "")) text.textContent = message ?? "";
    },
  };
}

function describe({ kind, message }, rowCount, shownCount) {
  if (kind === "loading") return message ?? "Loading\u2026";
  if (kind === "error") return message ?? "The rows could not be read.";
  if (shownCount > 0) return null;
  if (rowCount > 0) return "No row matches the filter.";
  return message ?? "No rows.";
}
