/** Confirms a dispatch: a preview of this moment, what is asked once more, and the command with exactly that body. */

import { openDialog } from "../../components/dialog.js";
import { facts } from "../../components/page.js";
import { shortfallNote } from "../../components/split-summary.js";
import { ApiError, post } from "../../core/api.js";
import { CommandKeys, isOutcomeUnknown } from "../../core/command-keys.js";
import { differenceOf } from "../../core/dispatch-body.js";
import { keepNotice } from "../../core/dispatch-notices.js";
import { h, nameOf } from "../../core/dom.js";
import { fleet } from "../../core/fleet-state.js";
import { count, duration, mw, plural, time } from "../../core/format.js";
import { navigate } from "../../core/router.js";

/** An older preview is made again before it is confirmed. */
const FRESH_MS = 3000;
/** Also of forms that were left since. */
const keys = new CommandKeys();

/**
 * @param {{runs: ReturnType<import("../../core/dry-run.js").openDryRuns>, signal: AbortSignal, onProblem: (text: string) => void}} options
 */
export async function confirmDispatch({ runs, signal, onProblem }) {
  onProblem("");
  let { preview } = runs;
  if (fleet.now() - Date.parse(preview.answer.dispatched_at) > FRESH_MS) preview = await runs.ask();
  if (preview.status !== "ready" || signal.aborted) return;
  const { body, answer } = preview;
  const dialog = openDialog({
    title: `${actionText(answer)}: ${targetText(body)}`, signal,
    body: h("div", { class: "dispatch-confirm" }, shortfallNote(answer), summaryOf(body, answer)),
    // Enter in the form opens this: pressed twice, or held, it must not dispatch.
    actions: [{ label: "Back", value: false, autofocus: true }, { label: "Dispatch now", value: true, kind: "primary" }],
  });
  if ((await dialog.closed) !== true || signal.aborted) return;
  try {
    const query = answer.allocations ? "" : "?allocations=false";
    // Not aborted with the page: what was confirmed is sent.
    const dispatch = await post(`/dispatch${query}`, { ...body, dry_run: false }, { idempotencyKey: keys.keyOf(body) });
    keys.answered();
    const difference = differenceOf(answer, dispatch);
    if (difference) keepNotice(dispatch.dispatch_id, { ...difference, previewAt: answer.dispatched_at });
    if (!signal.aborted) navigate(`/dispatch/${dispatch.dispatch_id}`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const unknown = isOutcomeUnknown(error);
    if (!unknown && error.status !== 503) keys.answered();
    onProblem(unknown
      ? `Whether it was dispatched is not known: ${error.message} Dispatching the same again is safe: it is carried out once.`
      : `Nothing was dispatched: ${error.message}`);
  }
}

/** "Discharge 20.00 MW". */
const actionText = ({ mw: asked }) => (asked === 0 ? "Hold 0 MW" : `${asked > 0 ? "Discharge" : "Charge"} ${mw(Math.abs(asked))}`);

function targetText(body) {
  if (body.fleet) return "Fleet";
  if (body.site_id) return fleet.siteName(body.site_id).slice(0, 80);
  return body.asset_id ? fleet.assetName(body.asset_id).slice(0, 80) : plural(body.asset_ids.length, "asset");
}

function summaryOf(body, answer) {
  const ends = body.duration_s === undefined ? null : fleet.now() + body.duration_s * 1000;
  return facts([
    ["Target", nameOf(targetText(body))],
    ["Power", `${mw(body.mw)} (${body.mw < 0 ? "charge" : body.mw > 0 ? "discharge" : "idle"})`],
    ["For", ends === null ? "until the next dispatch" : `${duration(body.duration_s)}, until about ${time(ends)}`],
    ["Then", body.reversion_mw ? mw(body.reversion_mw) : ends === null ? null : "0 MW"],
    ["Allocated", mw(answer.allocated_mw, answer.mw)],
    ["Assets", `${count(answer.members)}${answer.left_out ? `, ${count(answer.left_out)} left out` : ""}`],
    ["Preview", `as of ${time(answer.dispatched_at)}`],
  ]);
}
