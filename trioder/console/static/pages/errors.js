/** Pages that are not there, or could not be opened. */

import { stateBlock } from "../components/states.js";
import { h } from "../core/dom.js";

export const notFoundPage = {
  title: "Not found",
  open(view) {
    view.append(stateBlock({ kind: "missing", title: "There is no such page.", heading: true, action: h("a", { href: "/" }, "To the fleet") }));
  },
};

/** @param {Error} error @returns {import("../core/router.js").Page} */
export const failedPage = (error) => ({
  title: "Error",
  open(view) {
    const reload = h("button", { type: "button", class: "button", on: { click: () => location.reload() } }, "Reload");
    view.append(stateBlock({ kind: "error", title: "This page could not be opened.", heading: true, detail: error.message, action: reload }));
  },
});
