/** How a total was split: what is allocated, what is not and why, who is left out. For previews and for dispatches. */

import { h } from "../core/dom.js";
import { codeText } from "../core/dispatch-texts.js";
import { count, mw, percent, plural } from "../core/format.js";

/**
 * A bar of what is allocated of what was asked, with its text.
 * @param {{mw: number, allocated_mw: number, shortfall_mw: number}} split
 * @returns {HTMLElement}
 */
export function splitBar({ mw: asked, allocated_mw: allocated, shortfall_mw: shortfall }) {
  const share = asked === 0 ? 1 : Math.max(0, Math.min(1, allocated / asked));
  const text = shortfall === 0 ? `${mw(allocated, asked)} allocated: all that is asked` : `${mw(allocated, asked)} of ${mw(asked)} allocated (${percent(Math.floor(1000 * share) / 10)})`;
  return h("div", { class: ["split-bar", shortfall !== 0 && "split-bar-short"] },
    h("div", { class: "split-track", "aria-hidden": "true" }, h("div", { class: "split-fill", style: { width: `${100 * share}%` } })),
    h("span", { class: "number" }, text));
}

/**
 * The shortfall, which is what somebody has to know before anything else; null without one.
 * @param {{mw: number, shortfall_mw: number, target: {kind: string}}} split
 */
export function shortfallNote(split) {
  if (!split.shortfall_mw) return null;
  if (split.members === 0) {
    return h("div", { class: "notice notice-warning", role: "status" }, h("strong", null, "▲ No asset takes part"), h("span", null, "All are left out: there is nothing to dispatch."));
  }
  const rest = split.target.kind === "asset"
    ? "The asset cannot hold it for this long. It is sent the whole power, and does what it can."
    : "No asset can hold it for this long: it is asked of none.";
  return h("div", { class: "notice notice-warning", role: "status" },
    h("strong", null, `▲ Shortfall ${mw(split.shortfall_mw)}`), h("span", null, rest));
}

/**
 * How many batteries have each code. From the answer, or from its allocations where a headend does not count.
 * @param {{by_code?: Record<string, number> | null, allocations: {code: string}[] | null}} split
 * @returns {Map<string, number> | null}
 */
function countsByCode({ by_code: byCode, allocations }) {
  if (byCode) return new Map(Object.entries(byCode));
  if (!allocations) return null;
  const counts = new Map();
  for (const { code } of allocations) counts.set(code, (counts.get(code) ?? 0) + 1);
  return counts;
}

/**
 * The codes of a split as two lists: what bounds it, and who is left out and why.
 * @param {object} split
 * @returns {HTMLElement | null}
 */
export function codeLists(split) {
  const counts = countsByCode(split);
  if (!counts) return null;
  const entries = [...counts].filter(([, n]) => n > 0).map(([code, n]) => ({ code, n, ...codeText(code) })).sort((a, b) => b.n - a.n);
  const members = entries.filter(({ kind }) => kind !== "left_out");
  const leftOut = entries.filter(({ kind }) => kind === "left_out");
  if (split.target.kind === "asset" && leftOut.length === 0 && members.every(({ kind }) => kind === "share")) return null;
  return h("div", { class: "code-lists" },
    codeList(`${plural(split.members, "asset")} ${split.members === 1 ? "takes" : "take"} part`, members, (item) => (item.kind === "limited" ? `limited by ${item.label}` : item.label)),
    split.left_out > 0 ? codeList(`${plural(split.left_out, "asset")} left out`, leftOut, (item) => item.label) : null);
}

function codeList(title, items, labelOf) {
  return h("section", { class: "code-list" },
    h("h3", null, title),
    h("dl", null, items.map((item) => h("div", { class: "code-row", title: item.meaning || null },
      h("dt", null, labelOf(item)), h("dd", { class: "number" }, count(item.n))))));
}
