/** Dispatch: a form with a preview of the split as it is typed, and the last dispatches below. */

import { pageHeader } from "../components/page.js";
import { ApiError, get } from "../core/api.js";
import { bodyOfDispatch, draftOfBody, draftOfQuery } from "../core/dispatch-body.js";
import { h, replace } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { zoneName } from "../core/format.js";
import { session } from "../core/session.js";
import { failure, loading } from "../components/states.js";
import { openForm } from "./dispatch/form.js";
import { openLastDispatches } from "./dispatch/last-dispatches.js";

export const page = {
  title: "Dispatch",
  open(view, { query, signal, setQuery }) {
    const command = h("div", { class: "dispatch-command" });
    const last = h("div");
    view.append(pageHeader({ title: "Dispatch", detail: `+ discharges to the grid, − charges. Times are local (${zoneName()}).` }), command, last);
    let shown = false;
    // The role is known later when the headend was away.
    const showFormOnce = () => {
      if (shown || !session.may("operator")) return;
      shown = true;
      void showForm(command, { query, signal, setQuery });
    };
    showFormOnce();
    fleet.on("fleet", showFormOnce, signal);
    openLastDispatches(last, { query, signal, setQuery });
  },
};

/** `?again=` repeats a dispatch: its record has what a link could not hold. */
async function showForm(command, { query, signal, setQuery }) {
  const again = query.get("again");
  if (!again) return openForm(command, { draft: draftOfQuery(query), signal });
  replace(command, loading("the dispatch"));
  try {
    const dispatch = await get(`/dispatch/${encodeURIComponent(again)}`, { signal });
    const body = bodyOfDispatch(dispatch, dispatch.allocations?.map((row) => row.asset_id) ?? null);
    replace(command);
    return openForm(command, { draft: draftOfBody({ duration_s: null, ...body }), signal });
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return undefined;
    if (!(error instanceof ApiError)) throw error;
    const anew = h("button", { type: "button", class: "button", signal, on: { click: () => {
      setQuery({ again: null });
      replace(command);
      openForm(command, { draft: draftOfQuery(new URLSearchParams()), signal });
    } } }, "Empty form");
    return replace(command, failure(error, () => void showForm(command, { query, signal, setQuery })), h("p", { class: "state" }, anew));
  }
}
