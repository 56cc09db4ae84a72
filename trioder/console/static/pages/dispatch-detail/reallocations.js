/** When the power of batteries was reallocated, which and why, newest first. */

import { h, nameOf } from "../../core/dom.js";
import { fleet } from "../../core/fleet-state.js";
import { dateTime, mw, plural, sensible, wholeTime } from "../../core/format.js";

const SHOWN = 30;
const NAMED = 5;

/** @param {{resplits: object[], mw: number, resplit: boolean, target: {kind: string}}} dispatch */
export function reallocations({ resplits, mw: asked, resplit, target }) {
  if (target.kind === "asset") return h("p", { class: "muted" }, "One asset: there is no other to take its power.");
  if (resplits.length === 0) return h("p", { class: "muted" }, resplit ? "None: every asset keeps its share." : "Switched off for this dispatch.");
  const rest = resplits.length - SHOWN;
  return [
    h("ol", { class: "reallocations" }, resplits.slice(-SHOWN).reverse().map((each) => entry(each, asked))),
    rest > 0 ? h("p", { class: "muted" }, `and ${plural(rest, "earlier one", "earlier ones")}`) : null,
  ];
}

function entry({ at, dropped, adjusted, joined, changed, shortfall_mw: shortfall }, asked) {
  return h("li", { class: "reallocation" },
    h("div", { class: "reallocation-head" }, h("span", { class: "number", title: wholeTime(at) }, dateTime(at)),
      h("span", { class: "muted" }, `${plural(changed, "share")} changed`),
      h("span", { class: shortfall ? "tone-warning number" : "muted number" }, shortfall ? `▲ ${mw(shortfall, asked)} short` : "no shortfall")),
    named("dropped out", dropped), named("reduced", adjusted), named("joined", joined.map((id) => ({ asset_id: id, reason: "" }))));
}

function named(what, rows) {
  if (rows.length === 0) return null;
  return h("ul", { class: "reallocation-assets" },
    rows.slice(0, NAMED).map(({ asset_id: id, reason }) => h("li", null,
      h("a", { href: `/assets/${id}` }, nameOf(fleet.assetName(id))), ` ${what}`, reason ? [": ", h("bdi", null, sensible(reason).slice(0, 500))] : null)),
    rows.length > NAMED ? h("li", { class: "muted" }, `and ${plural(rows.length - NAMED, "more", "more")}`) : null);
}
