/** The preview: what a dry run of the present form says, of which instant, and what bounds it. */

import { openPreviewTable } from "../../components/allocation-table.js";
import { curlButton } from "../../components/curl-button.js";
import { figure, panel } from "../../components/page.js";
import { codeLists, shortfallNote, splitBar } from "../../components/split-summary.js";
import { failure, stateBlock } from "../../components/states.js";
import { h, replace, setText } from "../../core/dom.js";
import { fleet } from "../../core/fleet-state.js";
import { count, plural, power, time, wholeTime } from "../../core/format.js";

/**
 * @param {HTMLElement} element
 * @param {{signal: AbortSignal, onAllocations: () => Promise<unknown>}} options  onAllocations: asks for the row of each battery
 * @returns {{show: (preview: import("../../core/dry-run.js").Preview) => void}}
 */
export function openPreview(element, { signal, onAllocations }) {
  let body = null;
  const instant = h("span", { class: "muted preview-instant", role: "status" });
  const curl = curlButton({ signal, request: () => body && { method: "POST", path: "/dispatch", body } });
  const content = h("div", { class: "preview-content" });
  const place = h("div", { class: "preview-state" });
  element.append(panel({ title: "Preview", class: "dispatch-preview", actions: [instant, curl] }, place, content));

  const asked = figure({ label: "Asked", unit: "MW", size: "l" });
  const allocated = figure({ label: "Allocated", unit: "MW", size: "l" });
  const shortfall = figure({ label: "Shortfall", unit: "MW", size: "l" });
  const members = figure({ label: "Assets", size: "l" });
  const notes = h("div", { class: "preview-notes" });
  const summary = h("div", { class: "preview-summary" });
  const tablePlace = h("div", { class: "preview-table" });
  const tableButton = h("button", { type: "button", class: "button", signal, on: { click: () => {
    tableButton.disabled = true;
    void onAllocations();
  } } });
  replace(content, notes, h("div", { class: "figures" }, asked.element, allocated.element, shortfall.element, members.element), summary, tableButton, tablePlace);
  content.hidden = true;
  let table = null;

  function showAnswer(answer) {
    asked.set(power(answer.mw));
    allocated.set(power(answer.allocated_mw, answer.mw));
    shortfall.set(power(answer.shortfall_mw, answer.mw), answer.shortfall_mw ? "▲ cannot be held" : "none", answer.shortfall_mw ? "warning" : "");
    members.set(count(answer.members), answer.left_out ? `${count(answer.left_out)} left out` : "none left out");
    replace(notes, shortfallNote(answer), stopNote(answer));
    replace(summary, splitBar(answer), codeLists(answer));
    const rows = answer.allocations;
    tableButton.hidden = Boolean(rows);
    tableButton.disabled = false;
    setText(tableButton, `Show each of ${plural(answer.members + answer.left_out, "asset")}`);
    tablePlace.hidden = !rows || (rows.length === 1 && !rows[0].allocation);
    if (tablePlace.hidden) return;
    table ??= openPreviewTable(tablePlace, { signal, maxVisibleRows: 9 });
    table.setRows(rows);
  }

  return {
    show(preview) {
      body = preview.body;
      curl.disabled = body === null;
      const { status, answer } = preview;
      content.classList.toggle("outdated", status === "asking");
      content.hidden = !answer || status === "none" || status === "error";
      replace(place, blockOf(preview));
      if (status === "ready") {
        showAnswer(answer);
        setText(instant, `as of ${time(answer.dispatched_at)}`);
        instant.title = `By the headend's clock: ${wholeTime(answer.dispatched_at)}. Made again every 10 s.`;
      } else {
        setText(instant, status === "asking" ? "computing …" : "");
      }
    },
  };
}

function blockOf({ status, answer, error }) {
  if (status === "none") return stateBlock({ kind: "empty", title: "No preview yet", detail: "Choose a target and type a power: the split is shown here before anything is dispatched." });
  if (status === "asking" && !answer) return stateBlock({ kind: "loading", title: "Computing the split …" });
  return status === "error" ? failure(error) : null;
}

/** Batteries that an emergency stop holds: what is dispatched to them waits. */
function stopNote(answer) {
  const held = answer.target.kind === "fleet" || answer.target.kind === "site" || !answer.allocations
    ? [...fleet.stops()].some((stop) => overlaps(stop.target, answer.target))
    : answer.allocations.some((row) => fleet.stopOf({ assetId: row.asset_id }) !== null);
  if (!held) return null;
  return h("div", { class: "notice notice-warning" }, h("strong", null, "■ An emergency stop is in force"),
    h("span", null, "What is dispatched to stopped assets is deferred, and begins when the stop is resumed."));
}

function overlaps(stopped, target) {
  if (stopped.kind === "fleet" || target.kind === "fleet") return true;
  const siteOf = ({ kind, id }) => (kind === "asset" ? fleet.assets.get(id)?.site_id : id);
  return target.kind === "assets" || siteOf(stopped) === siteOf(target);
}
