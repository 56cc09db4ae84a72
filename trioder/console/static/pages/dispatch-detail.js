/** One dispatch: its lifecycle as it happens, what is delivered against what was asked, and each battery. */

import { stateBadge } from "../components/badges.js";
import { curlButton } from "../components/curl-button.js";
import { pageHeader, panel } from "../components/page.js";
import { shortfallNote, splitBar } from "../components/split-summary.js";
import { failure, loading } from "../components/states.js";
import { ApiError, get } from "../core/api.js";
import { bodyOfDispatch } from "../core/dispatch-body.js";
import { noticeOf } from "../core/dispatch-notices.js";
import { stateMeaning } from "../core/dispatch-texts.js";
import { h, nameOf, replace, throttle } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { mw, time } from "../core/format.js";
import { isOpen } from "../core/lifecycle.js";
import { session } from "../core/session.js";
import { cancelAction, resumeAction } from "./dispatch-detail/actions.js";
import { openAllocations } from "./dispatch-detail/allocations.js";
import { openMembers } from "./dispatch-detail/members.js";
import { openFigures } from "./dispatch-detail/figures.js";
import { factsOf } from "./dispatch-detail/facts.js";
import { openProgress } from "./dispatch-detail/progress.js";
import { reallocations } from "./dispatch-detail/reallocations.js";

export const page = {
  title: "Dispatch",
  open(view, context) {
    view.append(loading("the dispatch"));
    void show(view, context);
  },
};

async function show(view, context) {
  const { params, signal } = context;
  // Ids are lower-case in the feed, whatever the link has.
  const id = params.id.toLowerCase();
  try {
    const dispatch = await get(`/dispatch/${encodeURIComponent(id)}`, { signal, query: { allocations: false } });
    if (signal.aborted) return;
    view.replaceChildren();
    openDispatch(view, { ...context, loaded: dispatch });
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (!(error instanceof ApiError)) throw error;
    const retry = () => {
      view.replaceChildren(loading("the dispatch"));
      void show(view, context);
    };
    view.replaceChildren(pageHeader({ title: "Dispatch", back: BACK }), failure(error, retry));
  }
}

const BACK = { href: "/dispatch", text: "Dispatch" };

const titleOf = ({ priority, mw: asked }) => {
  if (priority === "emergency") return "Emergency stop";
  return asked === 0 ? "Hold 0 MW" : `${asked > 0 ? "Discharge" : "Charge"} ${mw(Math.abs(asked))}`;
};

function openDispatch(view, { query, signal, setQuery, setTitle, loaded }) {
  let record = loaded;
  let missing = false;
  const id = loaded.dispatch_id;
  /** The feed's is newer, as long as it has the dispatch. */
  const current = () => fleet.dispatches.get(id) ?? record;
  const allocations = openAllocations({ id, dispatch: current, signal, onChange: () => changed() });

  const state = h("span", { class: "title-state live" });
  const actions = h("div", { class: "page-actions" });
  const again = h("a", { class: "button", href: `/dispatch?again=${encodeURIComponent(id)}` }, "Dispatch again");
  const curl = curlButton({ signal, request: () => curlRequest(current(), allocations.rows) });
  const target = h("span");
  const header = pageHeader({
    back: BACK, actions: [actions],
    title: [h("span", null, titleOf(loaded)), state],
    detail: h("span", null, target, " · ", h("span", { class: "mono" }, id)),
  });
  const notes = h("div", { class: "preview-notes" });
  const figures = openFigures({ id, signal, dispatch: current });
  const progress = openProgress({ signal, chosen: query.get("state"), onChoose: (chosen) => {
    setQuery({ state: chosen });
    members.filter(chosen);
  } });
  const split = h("div", { class: "live" });
  const details = h("div");
  const resplits = h("div");
  const stop = loaded.priority === "emergency";
  const memberPanel = panel({ title: "Assets", class: "panel-flush", live: true });
  view.append(header, notes, h("div", { class: "panels" },
    h("div", { class: "span-8 dispatch-main" },
      panel({ title: "Power" }, figures.element, stop ? null : split),
      panel({ title: "Progress" }, progress.element),
      stop ? null : panel({ title: "Reallocations", live: true }, resplits)),
    h("div", { class: "span-4 dispatch-side" }, panel({ title: "Details" }, details)),
    memberPanel));
  const members = openMembers(memberPanel.querySelector(".panel-body"), {
    id, signal, query, setQuery, allocations, ofOneSite: ["site", "asset"].includes(loaded.target.kind),
  });
  members.filter(query.get("state"));

  let shown = "";
  let shownActions = null;
  function show() {
    const dispatch = current();
    figures.show(allocations.complete ? allocations.rows : null);
    progress.show(dispatch, allocations.complete ? allocations.rows : null);
    curl.disabled = loaded.target.kind === "assets" && !allocations.complete;
    // What has not changed keeps its focus and its selection.
    const key = JSON.stringify([dispatch, missing, session.may("operator"), fleet.assetsStatus, reasonOf(dispatch, allocations.rows)]);
    if (key === shown) return;
    shown = key;
    showTarget(dispatch);
    replace(state, stateBadge(dispatch.state));
    state.title = stateMeaning(dispatch.state);
    replace(notes, missing ? missingNote() : null, differenceNote(id), stop ? null : shortfallNote(dispatch));
    replace(split, splitBar(dispatch));
    replace(details, factsOf(dispatch, reasonOf(dispatch, allocations.rows)));
    replace(resplits, reallocations(dispatch));
    const wanted = `${isOpen(dispatch)} ${session.may("operator")}`;
    if (wanted === shownActions) return;
    shownActions = wanted;
    replace(actions, actionsOf(dispatch));
  }
  function showTarget(dispatch) {
    const { text, href } = fleet.targetOf(dispatch.target, dispatch.members);
    replace(target, href ? h("a", { href }, nameOf(text)) : text);
    setTitle(`${titleOf(dispatch)} · ${text.slice(0, 60)}`);
  }
  function actionsOf(dispatch) {
    if (!session.may("operator")) return null;
    if (stop) return isOpen(dispatch) ? resumeAction({ dispatch: current, signal }) : null;
    const cancel = isOpen(dispatch) ? cancelAction({ dispatch: current, signal, onRecord: (cancelled) => {
      record = cancelled;
      changed();
    } }) : null;
    return [curl, again, cancel];
  }
  const changed = throttle(() => {
    show();
    members.show();
  }, 200, signal);

  show();
  members.show();
  fleet.on("dispatch", (event) => {
    if (event.dispatch.dispatch_id !== id) return;
    missing = false;
    allocations.apply(event.setpoints);
    changed();
  }, signal);
  fleet.on("snapshot", () => {
    if (!fleet.complete) return;
    void reload();
  }, signal);
  fleet.on(["assets", "fleet"], changed, signal);

  /** After the feed was away: what has happened meanwhile, also to a dispatch that has ended. */
  async function reload() {
    try {
      record = await get(`/dispatch/${encodeURIComponent(id)}`, { signal, query: { allocations: false } });
      missing = false;
      allocations.reload();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      // Otherwise the banner says that the headend is away, and what is shown is grey.
      missing = error.status === 404;
    }
    changed();
  }
}

/** Why the dispatch is in its state: of a group, what all of its members that are in it have in common. */
function reasonOf(dispatch, rows) {
  if (dispatch.reason) return dispatch.reason;
  const reasons = new Set(rows.filter((row) => row.state === dispatch.state).map((row) => row.reason));
  return reasons.size === 1 ? [...reasons][0] : null;
}

function curlRequest(dispatch, rows) {
  const body = bodyOfDispatch(dispatch, rows.map((row) => row.asset_id));
  return body && { method: "POST", path: "/dispatch", body };
}

/** After a restart without a database. */
function missingNote() {
  return h("div", { class: "notice notice-warning", role: "status" },
    h("strong", null, "▲ The headend has no record of this dispatch any more"),
    h("span", null, "What is shown is of before its restart. Without a database records are lost; agents carry on to the end of their setpoints."));
}

function differenceNote(id) {
  const notice = noticeOf(id);
  if (!notice) return null;
  return h("div", { class: ["notice", notice.material && "notice-warning"], role: "status" },
    h("strong", null, notice.material ? "▲ Not as previewed" : "Nearly as previewed"),
    h("span", null, `Since the preview of ${time(notice.previewAt)}: ${notice.text}.`));
}
