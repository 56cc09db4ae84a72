/** The table of a dispatch's batteries, filtered by state; power is of the live feed. */

import { openDispatchTable } from "../../components/allocation-table.js";
import { failure } from "../../components/states.js";
import { h, replace, setText, throttle } from "../../core/dom.js";
import { fleet } from "../../core/fleet-state.js";
import { count, plural, time, words } from "../../core/format.js";

/**
 * @param {HTMLElement} element
 * @param {{id: string, ofOneSite: boolean, signal: AbortSignal, query: URLSearchParams, setQuery: (changes: object) => void,
 *   allocations: ReturnType<import("./allocations.js").openAllocations>}} options
 * @returns {{show: () => void, filter: (state: string | null) => void}}  state: one of the states, or "left_out"
 */
export function openMembers(element, { id, ofOneSite, signal, query, setQuery, allocations }) {
  const note = h("p", { class: "table-note muted", role: "status" });
  const problem = h("div");
  const place = h("div", { class: "member-table" });
  element.append(note, problem, place);
  const table = openDispatchTable(place, {
    signal, dispatchId: id, ofOneSite, maxVisibleRows: 16,
    onSort: (column, descending) => setQuery({ sort: column && `${descending ? "-" : ""}${column}` }),
  });
  table.setState({ kind: "loading" });
  let shownRows = null;
  let state = null;

  const showNote = () => {
    const total = allocations.rows.length;
    const parts = [state ? `${count(table.shownCount())} ${words(state)} of ${plural(total, "asset")}` : plural(total, "asset")];
    if (!allocations.complete) parts.push("reading …");
    else if (!allocations.live) parts.push(`states as of ${time(allocations.readAt)}, power live`);
    setText(note, parts.join(" · "));
  };

  // Power changes with the feed, states with the dispatch.
  const refresh = throttle(() => table.update(), 500, signal);
  fleet.on("telemetry", refresh, signal);

  const sort = /^(-?)(\w+)$/.exec(query.get("sort") ?? "");
  if (sort && ["name", "site", "state", "share", "power", "mean", "why", "answered", "reason"].includes(sort[2])) table.setSort(sort[2], sort[1] === "-");

  return {
    show() {
      replace(problem, allocations.error ? failure(allocations.error, allocations.reload) : null);
      if (allocations.rows !== shownRows && (allocations.complete || allocations.rows.length > 0)) {
        shownRows = allocations.rows;
        table.setRows(shownRows);
        table.setState({ kind: "ready" });
      } else {
        table.update();
      }
      showNote();
    },
    filter(chosen) {
      state = chosen;
      table.setFilter(chosen === null ? null : (row) => (chosen === "left_out" ? !row.state : row.state === chosen));
      showNote();
    },
  };
}
