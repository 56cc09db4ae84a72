/** A table of records, newest first, that loads older ones on demand. */

import { failure } from "../components/states.js";
import { openTable } from "../components/table.js";
import { ApiError, get } from "../core/api.js";
import { h, replace, setText } from "../core/dom.js";
import { count } from "../core/format.js";

const PAGE_ROWS = 200;

/**
 * @param {{label: string, columns: object[], rowKey: (row: any) => string, path: string,
 *   query: () => Record<string, any>, cursor: (last: any) => any, empty: string, signal: AbortSignal,
 *   href?: (row: any) => string | null, pageRows?: number}} options
 *   query: the filters in effect; cursor: what `before` is for the page after this row
 * @returns {{element: HTMLElement, reload: () => Promise<void>, rows: () => any[], update: () => void}}
 *   reload: from the newest on, quietly if rows are shown; update: repaints rows that were changed in place
 */
export function openPagedTable({ label, columns, rowKey, path, query, cursor, empty, signal, href, pageRows = PAGE_ROWS }) {
  const container = h("div", { class: "paged-table-body" });
  const note = h("span", { class: "muted" });
  const problem = h("div");
  const more = h("button", { type: "button", class: "button", hidden: true, signal, on: { click: () => void load(rows.at(-1)) } }, "Load older");
  const table = openTable(container, { signal, label, columns, rowKey, href });
  let rows = [];
  let run = 0;

  const show = (complete) => {
    table.setRows(rows);
    table.setState(rows.length ? { kind: "ready" } : { kind: "empty", message: empty });
    more.hidden = complete;
    setText(note, rows.length ? `${count(rows.length)} shown${complete ? "" : ", older ones not loaded"}` : "");
  };
  const load = async (after = null) => {
    const own = ++run;
    more.disabled = true;
    replace(problem);
    container.hidden = false;
    if (rows.length === 0) table.setState({ kind: "loading", message: `Loading ${label.toLowerCase()} …` });
    try {
      const page = await get(path, { query: { ...query(), limit: pageRows, before: after ? cursor(after) : null }, signal });
      if (own !== run) return;
      rows = after ? [...rows, ...page] : page;
      show(page.length < pageRows);
    } catch (error) {
      if (own !== run || error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      // What was loaded stays: it is a record, not a live value.
      container.hidden = rows.length === 0;
      replace(problem, failure(error, () => void load(after)));
    } finally {
      if (own === run) more.disabled = false;
    }
  };
  return {
    element: h("div", { class: "paged-table" }, container, problem, h("div", { class: "paged-table-foot" }, more, note)),
    reload: () => load(),
    rows: () => rows,
    update: () => table.setRows(rows),
  };
}
