/** The name of an asset in a column that may be narrow. */

import { h, replace } from "../core/dom.js";

/**
 * Fills a cell with a name. The part after the site's name distinguishes the site's assets, and stays visible.
 * @param {string} name @param {HTMLElement} cell @param {string} [siteName]
 */
export function renderName(name, cell, siteName = "") {
  const shown = name.slice(0, 500);
  const ending = siteName && shown.startsWith(siteName) ? shown.slice(siteName.length) : "";
  if (cell.textContent !== shown) {
    replace(cell, ending && ending.length <= 12
      ? h("bdi", { class: "split-name" }, h("span", null, siteName), h("span", null, ending))
      : h("bdi", null, shown));
  }
  cell.title = shown.slice(0, 300);
}
