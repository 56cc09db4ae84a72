/** What an operator can do with a dispatch. */

import { confirmDialog, toast } from "../../components/dialog.js";
import { resume } from "../../components/stop-banner.js";
import { ApiError, remove } from "../../core/api.js";
import { h } from "../../core/dom.js";
import { mw, plural } from "../../core/format.js";

/**
 * "Cancel …": each battery goes to its reversion.
 * @param {{dispatch: () => object, signal: AbortSignal, onRecord: (dispatch: object) => void}} options
 */
export function cancelAction({ dispatch, signal, onRecord }) {
  const button = h("button", { type: "button", class: "button button-danger", signal, on: { click: () => void cancel() } }, "Cancel …");
  async function cancel() {
    const { dispatch_id: id, members, reversion_mw: reversion } = dispatch();
    const confirmed = await confirmDialog({
      title: "Cancel this dispatch", confirmLabel: "Cancel the dispatch", cancelLabel: "Keep it", danger: true, signal,
      body: h("div", { class: "stop-form" },
        h("p", null, members === 1 ? `The asset goes to its reversion, ${mw(reversion)}, at once.` : `${plural(members, "asset")} go to their reversion, ${mw(reversion)} together, at once.`),
        h("p", null, "Those that are not connected get it when they reconnect. A dispatch that was deferred takes over instead.")),
    });
    if (!confirmed) return;
    button.disabled = true;
    try {
      onRecord(await remove(`/dispatch/${encodeURIComponent(id)}?allocations=false`));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(`Not cancelled: ${error.message}`, { kind: "error" });
    }
    button.disabled = false;
  }
  return button;
}

/** "Resume …", for a stop. @param {{dispatch: () => object, signal: AbortSignal}} options */
export function resumeAction({ dispatch, signal }) {
  const run = () => {
    const { target, members } = dispatch();
    void resume(target, members, signal);
  };
  return h("button", { type: "button", class: "button button-primary", signal, on: { click: run } }, "Resume …");
}
