/** One schedule: its steps, its occurrences, and what became of them; skipped and cancelled here. */

import { confirmDialog, toast } from "../components/dialog.js";
import { facts, pageHeader, panel } from "../components/page.js";
import { showLoaded } from "../components/states.js";
import { openTable } from "../components/table.js";
import { ApiError, get, post, remove } from "../core/api.js";
import { h, nameOf, throttle } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { dateMinute, duration, mw, NONE, plural, wholeTime, zoneName } from "../core/format.js";
import { session } from "../core/session.js";
import { occurrenceBadge, stepsText } from "./schedules/occurrences.js";
import { recurrenceText } from "./schedules/recurrence.js";

const DAY_MS = 86_400_000;

export const page = {
  title: "Schedule",
  open(view, { params, signal, setTitle }) {
    const path = `/schedules/${encodeURIComponent(params.id)}`;
    const body = h("div");
    const occurrences = h("div", { class: "panels schedule-occurrences" });
    view.append(body, occurrences);
    const load = () => showLoaded(body, {
      what: "the schedule", signal, load: () => get(path, { signal }),
      show: (schedule) => {
        setTitle(`Schedule of ${fleet.targetOf(schedule.target, schedule.assets).text}`.slice(0, 90));
        return content(schedule, path, signal, () => void load());
      },
    });
    const reload = openOccurrences(occurrences, path, signal);
    fleet.on("schedules", throttle(() => { void load(); reload(); }, 1000, signal), signal);
    fleet.on("assets", () => void load(), signal);
    void load();
  },
};

function content(schedule, path, signal, reload) {
  const target = fleet.targetOf(schedule.target, schedule.assets ?? schedule.asset_ids.length);
  const operator = session.may("operator") && schedule.active;
  const at = (value) => (value ? h("time", { datetime: value, title: wholeTime(value) }, `${dateMinute(value)} ${zoneName(new Date(value))}`) : NONE);
  return [
    pageHeader({
      title: nameOf(target.text), back: { href: "/schedules", text: "Schedules" }, detail: `${stepsText(schedule.steps)}, ${recurrenceText(schedule.recurrence)}`,
      actions: [operator ? h("button", { type: "button", class: "button button-danger", on: { click: () => void cancel(path, signal, reload) } }, "Cancel schedule …") : null],
    }),
    h("div", { class: "panels" },
      panel({ title: "Schedule", class: "span-7" }, facts([
        ["State", schedule.active ? (schedule.next_start ? "● active" : "✓ over") : "◻ cancelled"],
        ["Target", target.href ? h("a", { href: target.href }, nameOf(target.text)) : target.text],
        ["Next start", at(schedule.next_start)],
        ["First start", `${schedule.start.replace("T", " ")} ${schedule.timezone}`],
        ["Recurrence", nameOf(schedule.recurrence ?? "once")],
        ["May begin late by", duration(schedule.misfire_s)],
        ["Split", schedule.strategy ?? "headroom"],
        ["Created", at(schedule.created_at)],
        ["Created by", nameOf(schedule.requested_by, NONE)],
        ["Cancelled", schedule.cancelled_at ? at(schedule.cancelled_at) : null],
        ["Cancelled by", schedule.cancelled_by ? nameOf(schedule.cancelled_by) : null],
      ])),
      panel({ title: "Steps", class: "span-5" }, steps(schedule.steps))),
  ];
}

function steps(all) {
  let begin = 0;
  return h("div", { class: "scroll-y" }, h("table", { class: "plain-table" },
    h("thead", null, h("tr", null, ["After", "Lasts", "Power"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", null, all.map((step) => {
      const row = h("tr", null, h("td", { class: "number" }, begin === 0 ? "start" : duration(begin)), h("td", { class: "number" }, duration(step.duration_s)), h("td", { class: "number" }, mw(step.mw)));
      begin += step.duration_s;
      return row;
    }))));
}

async function cancel(path, signal, reload) {
  const agreed = await confirmDialog({ title: "Cancel this schedule?", body: "An occurrence that runs now ends at 0 MW, and none begins any more.", confirmLabel: "Cancel schedule", cancelLabel: "Keep it", danger: true, signal });
  if (!agreed) return;
  await run(() => remove(path), "The schedule is cancelled.");
  reload();
}

async function run(command, done) {
  try {
    await command();
    toast(done);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message, { kind: "error" });
  }
}

function openOccurrences(parent, path, signal) {
  const container = h("div");
  parent.append(panel({ title: h("span", null, "Occurrences", h("span", { class: "muted" }, ` · a day back, a month ahead · ${zoneName()}`)), class: "panel-flush" }, container));
  const skip = async (occurrence) => {
    await run(() => post(`${path}/skip`, { start: occurrence.start }), "This occurrence is skipped.");
    void load();
  };
  const table = openTable(container, {
    signal, label: "Occurrences", rowKey: (row) => row.start, maxVisibleRows: 14,
    columns: [
      { id: "start", label: "Start", width: 140, sortable: false, text: (row) => dateMinute(row.start) },
      { id: "end", label: "End", width: 140, sortable: false, text: (row) => dateMinute(row.end) },
      { id: "state", label: "State", width: 130, sortable: false, render: (row, cell) => cell.replaceChildren(occurrenceBadge(row.state)) },
      { id: "dispatches", label: "Dispatches", width: "1fr", sortable: false, render: (row, cell) => cell.replaceChildren(dispatches(row)) },
      { id: "reason", label: "Reason", width: "1.4fr", sortable: false, render: (row, cell) => cell.replaceChildren(nameOf(row.reason ?? row.steps.find(({ refusal }) => refusal)?.refusal ?? "", NONE)) },
      { id: "skip", label: "Skip", width: 90, sortable: false, render: (row, cell) => cell.replaceChildren(row.state === "pending" && session.may("operator")
        ? h("button", { type: "button", class: "button button-small", "aria-label": `Skip ${dateMinute(row.start)}`, on: { click: () => void skip(row) } }, "Skip") : "") },
    ],
  });
  const load = async () => {
    try {
      const start = new Date(fleet.now() - DAY_MS).toISOString();
      const rows = await get(`${path}/occurrences`, { query: { start, limit: 500 }, signal });
      table.setRows(rows);
      table.setState(rows.length ? { kind: "ready" } : { kind: "empty", message: "No occurrence within this time." });
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      table.setState({ kind: "error", message: error.message });
    }
  };
  void load();
  return () => void load();
}

function dispatches({ steps: begun }) {
  const found = begun.filter(({ dispatch_id: id }) => id);
  if (found.length === 0) return NONE;
  if (found.length > 3) return plural(found.length, "dispatch", "dispatches");
  return h("span", null, found.map(({ number, dispatch_id: id }) => [h("a", { href: `/dispatch/${id}` }, `step ${number}`), " "]));
}
