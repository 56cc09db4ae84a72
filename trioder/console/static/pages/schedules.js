/** Schedules: on a time line, in a list, and a new one. */

import { choice, pageHeader, panel } from "../components/page.js";
import { openTable } from "../components/table.js";
import { ApiError, get } from "../core/api.js";
import { h, nameOf, throttle } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { dateMinute, duration, NONE, zoneName } from "../core/format.js";
import { session } from "../core/session.js";
import { openScheduleForm } from "./schedules/form.js";
import { recurrenceText } from "./schedules/recurrence.js";
import { openTimeline } from "./schedules/timeline.js";

const fill = (cell, value) => cell.replaceChildren(value);
const MOST = 500;

const COLUMNS = [
  { id: "target", label: "Target", width: "2fr", value: (row) => fleet.targetOf(row.target, row.assets).text, render: (row, cell) => fill(cell, nameOf(fleet.targetOf(row.target, row.assets).text)) },
  { id: "next", label: "Next start", width: 150, align: "end", value: (row) => row.next_start ?? "9", text: (row) => (row.active ? dateMinute(row.next_start) : NONE) },
  { id: "steps", label: "Steps", width: 80, align: "end", value: (row) => row.step_count, text: (row) => String(row.step_count) },
  { id: "lasts", label: "Lasts", width: 110, align: "end", value: (row) => row.duration_s, text: (row) => duration(row.duration_s) },
  { id: "recurrence", label: "Recurrence", width: "1.2fr", value: (row) => row.recurrence ?? "", render: (row, cell) => fill(cell, nameOf(recurrenceText(row.recurrence))) },
  { id: "clock", label: "Clock", width: 170, value: (row) => row.timezone, text: (row) => row.timezone },
  { id: "who", label: "Created by", width: "1fr", value: (row) => row.requested_by, render: (row, cell) => fill(cell, nameOf(row.requested_by, NONE)) },
  { id: "state", label: "State", width: 110, value: (row) => Number(row.active), render: (row, cell) => fill(cell, stateOf(row)) },
];

function stateOf({ active, next_start: next }) {
  const [symbol, tone, text] = active ? (next ? ["●", "ok", "active"] : ["✓", "muted", "over"]) : ["◻", "muted", "cancelled"];
  return h("span", { class: `badge tone-${tone}` }, h("span", { class: "badge-symbol", "aria-hidden": "true" }, symbol), text);
}

export const page = {
  title: "Schedules",
  open(view, { query, signal, setQuery }) {
    const operator = session.may("operator");
    const formPlace = h("div", { class: "schedule-form-place" });
    const openForm = () => {
      const kind = query.get("asset_id") ? "asset" : query.get("site_id") ? "site" : "fleet";
      openScheduleForm(formPlace, { signal, target: { kind, ids: kind === "fleet" ? [] : [query.get(`${kind}_id`)] } });
      create.hidden = true;
      setQuery({ new: "1" });
    };
    const create = h("button", { type: "button", class: "button button-primary", hidden: !operator, signal, on: { click: openForm } }, "New schedule");
    const grid = h("div", { class: "panels" });
    view.append(pageHeader({ title: "Schedules", detail: `Times are local, ${zoneName()}; each schedule follows the clock of its own time zone.`, actions: [create] }), formPlace, grid);
    if (operator && query.get("new")) openForm();
    openTimeline(grid, { signal, span: query.get("span") ?? "24h", onSpan: (span) => setQuery({ span }) });
    openList(grid, { query, signal, setQuery });
  },
};

function openList(grid, { query, signal, setQuery }) {
  let which = query.get("which") ?? "active";
  const kinds = choice({
    label: "Which schedules", signal, value: which, options: [["active", "Active"], ["cancelled", "Cancelled"], ["all", "All"]],
    onChange: (value) => { which = value; setQuery({ which: value === "active" ? null : value }); void load(); },
  });
  const container = h("div");
  grid.append(panel({ title: "Schedules", class: "panel-flush", actions: [kinds.element] }, container));
  const table = openTable(container, { signal, label: "Schedules", columns: COLUMNS, rowKey: (row) => row.schedule_id, href: (row) => `/schedules/${row.schedule_id}`, maxVisibleRows: 14 });
  table.setState({ kind: "loading", message: "Loading schedules …" });
  const load = async () => {
    try {
      const rows = await get("/schedules", { query: { active: { active: true, cancelled: false }[which], limit: MOST }, signal });
      table.setRows(rows);
      table.setState(rows.length ? { kind: "ready" } : { kind: "empty", message: which === "cancelled" ? "No schedule was cancelled." : "There is no schedule." });
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      table.setState({ kind: "error", message: error.message });
    }
  };
  fleet.on(["schedules", "snapshot", "assets"], throttle(() => void load(), 1000, signal), signal);
  void load();
}

