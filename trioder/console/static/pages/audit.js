/** The audit: commands, changes of access, refused attempts. For admins. */

import { pageHeader } from "../components/page.js";
import { h, nameOf } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { dateTime, words, zoneName } from "../core/format.js";
import { openPagedTable } from "./paged-table.js";
import { assetLink, siteLink } from "./sources.js";

const OUTCOME = { refused: ["⊘", "warning"], failed: ["✕", "critical"] };
const RECORDS = { dispatch: "/dispatch", schedule: "/schedules", alarm: "/alarms" };
const named = (name) => (row, cell) => cell.replaceChildren(nameOf(row[name], "–"));

const COLUMNS = [
  { id: "time", label: "Time", width: 124, sortable: false, text: (row) => dateTime(row.time) },
  { id: "principal", label: "Who", width: "1fr", sortable: false, render: named("principal") },
  { id: "peer", label: "From", width: 170, sortable: false, render: named("peer") },
  { id: "action", label: "Action", width: "1fr", sortable: false, render: named("action") },
  { id: "target", label: "Target", width: "2.4fr", sortable: false, render: (row, cell) => cell.replaceChildren(target(row)) },
  { id: "outcome", label: "Outcome", width: 110, sortable: false, render: (row, cell) => cell.replaceChildren(outcome(row.outcome)) },
  { id: "reason", label: "Reason", width: "1.6fr", sortable: false, render: named("reason") },
];

/** What was commanded: a site or an asset by its name, a record by its id. */
function target({ action, target: text }) {
  const [, kind, id] = /^(?:(site|asset) )?([0-9a-f-]{36})$/.exec(text ?? "") ?? [];
  if (id && kind) return h("span", null, `${kind} `, kind === "site" ? siteLink(id) : assetLink(id));
  const path = id ? RECORDS[action.split(".")[0]] : undefined;
  return path ? h("a", { href: `${path}/${id}` }, nameOf(id)) : nameOf(text, "–");
}

function outcome(value) {
  const [symbol, tone] = OUTCOME[value] ?? ["✓", "ok"];
  return h("span", { class: `badge tone-${tone}` }, h("span", { class: "badge-symbol", "aria-hidden": "true" }, symbol), words(value));
}

export const page = {
  title: "Audit",
  open(view, { query, signal, setQuery }) {
    const filters = { principal: query.get("principal") ?? "" };
    const records = openPagedTable({
      signal, label: "Audit", columns: COLUMNS, rowKey: (row) => String(row.number), path: "/audit", query: () => filters,
      cursor: (row) => row.number, empty: "No record matches. Without a database none is kept.",
    });
    const principal = h("input", { class: "input", id: "principal", type: "search", value: filters.principal, autocomplete: "off", signal,
      on: { change: () => { filters.principal = principal.value.trim(); setQuery({ principal: filters.principal }); void records.reload(); } } });
    const reload = h("button", { type: "button", class: "button", signal, on: { click: () => void records.reload() } }, "Reload");
    view.append(
      pageHeader({ title: "Audit", detail: `Times are local, ${zoneName()}; newest first.`, actions: [reload] }),
      h("div", { class: "toolbar" }, h("div", { class: "field field-inline" }, h("label", { for: "principal" }, "Who (exact name)"), principal)),
      records.element);
    // The names of sites and assets may come later than the records.
    fleet.on("assets", () => records.update(), signal);
    void records.reload();
  },
};
