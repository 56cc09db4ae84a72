/** The batteries of a dispatch or of its preview: share, what bounds it and why, and in a dispatch the state and power. */

import { h, replace, setText } from "../core/dom.js";
import { codeText, STATES_IN_ORDER, stateMeaning } from "../core/dispatch-texts.js";
import { fleet } from "../core/fleet-state.js";
import { NONE, power, sensible, time, wholeTime, words } from "../core/format.js";
import { renderName } from "./asset-name.js";
import { qualitySign, stateBadge } from "./badges.js";
import { reasonText } from "./dispatch-reason.js";
import { openTable } from "./table.js";

const STATE_RANK = new Map(STATES_IN_ORDER.map((state, rank) => [state, rank]));

/**
 * Opens the table of a preview.
 * @param {HTMLElement} container
 * @param {{signal: AbortSignal, maxVisibleRows?: number}} options
 */
export function openPreviewTable(container, { signal, maxVisibleRows }) {
  return openTable(container, {
    signal, maxVisibleRows, label: "Share of each asset", rowKey: (row) => row.asset_id, href: hrefOf,
    columns: [nameColumn(), shareColumn("Share"), whyColumn(), explanationColumn((row) => sensible(row.allocation))],
  });
}

/**
 * Opens the table of a dispatch's batteries; the caller updates it with the feed.
 * @param {HTMLElement} container
 * @param {{signal: AbortSignal, dispatchId: string, ofOneSite: boolean, maxVisibleRows?: number,
 *   onSort: (column: string | null, descending: boolean) => void}} options
 */
export function openDispatchTable(container, { signal, dispatchId, ofOneSite, maxVisibleRows, onSort }) {
  return openTable(container, {
    signal, maxVisibleRows, onSort, label: "Assets of this dispatch", rowKey: (row) => row.asset_id, href: hrefOf,
    columns: [
      nameColumn(),
      ...(ofOneSite ? [] : [siteColumn()]),
      { id: "state", label: "State", width: 130, value: (row) => STATE_RANK.get(row.state) ?? null, render: renderState },
      shareColumn("Setpoint"),
      { id: "power", label: "Power", unit: "MW", align: "end", width: 110, value: (row) => liveOf(row, dispatchId)?.current_mw ?? null,
        render: (row, cell) => renderPower(liveOf(row, dispatchId), row, cell) },
      { id: "mean", label: "Mean", unit: "MW", align: "end", width: 90, value: (row) => row.mean_mw ?? null, text: (row) => power(row.mean_mw, row.mw) },
      whyColumn(),
      { id: "answered", label: "Acknowledged", width: 132, value: (row) => row.answered_at ?? null, render: (row, cell) => {
        setText(cell, row.answered_at ? time(row.answered_at) : NONE);
        cell.title = row.answered_at ? wholeTime(row.answered_at) : "";
      } },
      explanationColumn(explanationOf),
    ],
  });
}

const hrefOf = (row) => (fleet.assets.has(row.asset_id) ? `/assets/${row.asset_id}` : null);

function nameColumn() {
  return { id: "name", label: "Asset", width: "2fr", value: (row) => fleet.assetName(row.asset_id), render: (row, cell) => renderName(fleet.assetName(row.asset_id), cell, siteOf(row)) };
}

function siteColumn() {
  return { id: "site", label: "Site", width: "1fr", value: siteOf, render: (row, cell) => renderName(siteOf(row), cell) };
}

const siteOf = (row) => fleet.assets.get(row.asset_id)?.site_name ?? NONE;

function shareColumn(label) {
  return { id: "share", label, unit: "MW", align: "end", width: 110, value: (row) => row.mw, text: (row) => power(row.mw) };
}

function whyColumn() {
  return { id: "why", label: "Bound by", width: 130, value: (row) => codeText(row.code, row.mw === null).label, render: (row, cell) => {
    const { label, meaning, kind } = codeText(row.code, row.mw === null);
    const text = kind === "share" ? NONE : label;
    setText(cell, text);
    cell.title = kind === "left_out" ? `Left out: ${meaning}` : meaning;
    cell.classList.toggle("tone-warning", kind === "left_out");
  } };
}

function explanationColumn(textOf) {
  return { id: "reason", label: "Reason", width: "2.2fr", value: textOf, text: (row) => textOf(row) || NONE };
}

/** What explains the state; without that, the share. An agent's own status is quoted. */
function explanationOf(row) {
  const parts = [row.reason ? reasonText(row.reason) : null, row.held_mw === null || row.held_mw === undefined ? null : `holds ${power(row.held_mw)} MW`];
  if (row.answer && row.state === "sent") parts.push(`its agent answered ${row.answer}`);
  return parts.filter(Boolean).join("; ") || sensible(row.allocation);
}

function renderState(row, cell) {
  if (row.state) replace(cell, stateBadge(row.state));
  else replace(cell, h("span", { class: "muted" }, "left out"));
  cell.title = row.state ? `${words(row.state)}: ${stateMeaning(row.state)}` : "";
}

/** The row of the feed, if this dispatch is what the battery is under. */
function liveOf(row, dispatchId) {
  const live = fleet.rows.get(row.asset_id);
  return live?.dispatch_id === dispatchId ? live : undefined;
}

function renderPower(live, row, cell) {
  if (!live) {
    replace(cell, NONE);
    cell.title = row.state ? "Not under this dispatch now" : "";
    return;
  }
  const [symbol, tone] = qualitySign(live.quality);
  const good = live.quality === "good" || live.quality === "synthesized";
  replace(cell, good ? null : h("span", { class: `tone-${tone}`, role: "img", "aria-label": words(live.quality) }, `${symbol} `),
    power(live.current_mw, row.mw));
  cell.title = good ? `sampled ${wholeTime(live.sampled_at)}` : `${words(live.quality)}, sampled ${wholeTime(live.sampled_at)}`;
}
