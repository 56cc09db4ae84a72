/** The last dispatches, with filters by state and target that are in the query. */

import { dispatchList } from "../../components/dispatch-list.js";
import { combobox } from "../../components/combobox.js";
import { searchTargets } from "../../components/target-field.js";
import { panel } from "../../components/page.js";
import { STATES_IN_ORDER } from "../../core/dispatch-texts.js";
import { h, replace } from "../../core/dom.js";
import { fleet } from "../../core/fleet-state.js";
import { words } from "../../core/format.js";
import { session } from "../../core/session.js";

/**
 * @param {HTMLElement} element
 * @param {{query: URLSearchParams, signal: AbortSignal, setQuery: (changes: Record<string, string | null>) => void}} options
 */
export function openLastDispatches(element, { query, signal, setQuery }) {
  let state = ["open", ...STATES_IN_ORDER].includes(query.get("state")) ? query.get("state") : null;
  // A link to the form for an asset or a site shows what was dispatched to it.
  let target = parseTarget(query.get("of") ?? linkedTarget(query));
  let listed = new AbortController();
  signal.addEventListener("abort", () => listed.abort());
  const list = h("div", { class: "live" });

  const show = () => {
    listed.abort();
    listed = new AbortController();
    replace(list, dispatchList({
      assetId: target?.kind === "asset" ? target.id : null, siteId: target?.kind === "site" ? target.id : null, state, signal: listed.signal,
      emptyText: session.may("operator") ? "A dispatch that is sent above is listed here, with its state." : "",
    }));
  };
  const states = h("select", { class: "select", id: "state-filter", signal, on: { change: () => {
    state = states.value || null;
    setQuery({ state });
    show();
  } } }, [["", "All"], ["open", "Open"], ...STATES_IN_ORDER.map((each) => [each, words(each)])]
    .map(([value, text]) => h("option", { value, selected: value === (state ?? "") }, text)));
  const chooseTarget = (next) => {
    target = next;
    setQuery({ of: next ? `${next.kind}:${next.id}` : "any" });
    clear.hidden = next === null;
    if (next === null) targets.setText("");
    show();
  };
  const targets = combobox({ label: "With a part for", placeholder: "Any site or asset", signal, search: searchTargets,
    onChoose: ({ key }) => chooseTarget(parseTarget(key)) });
  const clear = h("button", { type: "button", class: "button button-quiet", hidden: target === null, signal, on: { click: () => chooseTarget(null) } }, "Any target");
  const showName = () => target && targets.input !== document.activeElement
    && targets.setText(target.kind === "site" ? fleet.siteName(target.id) : fleet.assetName(target.id));
  showName();
  fleet.on("assets", showName, signal);

  element.append(panel({ title: "Last dispatches", class: "panel-flush" },
    h("div", { class: "list-filters" }, h("div", { class: "field" }, h("label", { for: "state-filter" }, "State"), states), targets.element, clear),
    list));
  show();
}

function linkedTarget(query) {
  if (query.has("site_id")) return `site:${query.get("site_id")}`;
  return query.getAll("asset_id").length === 1 ? `asset:${query.get("asset_id")}` : null;
}

function parseTarget(text) {
  const [, kind, id] = /^(site|asset):(.+)$/.exec(text ?? "") ?? [];
  return kind ? { kind, id } : null;
}
