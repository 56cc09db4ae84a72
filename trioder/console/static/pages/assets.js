/** All assets in one table: sorted, searched, filtered; values live. */

import { renderName } from "../components/asset-name.js";
import { directionOf, qualitySign } from "../components/badges.js";
import { choice, pageHeader } from "../components/page.js";
import { openTable } from "../components/table.js";
import { h, nameOf, setText, throttle } from "../core/dom.js";
import { fleet, QUALITY_ORDER } from "../core/fleet-state.js";
import { age, count, NONE, number, plural, words } from "../core/format.js";

const rowOf = (asset) => fleet.rows.get(asset.id);
const valueOf = (name) => (asset) => rowOf(asset)?.[name] ?? null;
const fill = (cell, ...content) => cell.replaceChildren(...content);

/** Powers of one column have the same decimals, so that they align. */
const POWER_DIGITS = 2;

const COLUMNS = [
  { id: "name", label: "Asset", width: "1.7fr", value: (asset) => asset.name, text: (asset) => asset.name, render: (asset, cell) => renderName(asset.name, cell, asset.site_name) },
  { id: "site", label: "Site", width: "1fr", value: (asset) => asset.site_name, text: (asset) => asset.site_name, render: (asset, cell) => fill(cell, nameOf(asset.site_name)) },
  { id: "quality", label: "Quality", width: 122, value: (asset) => QUALITY_ORDER.indexOf(fleet.qualityOf(asset.id)), text: (asset) => fleet.qualityOf(asset.id), render: quality },
  { id: "age", label: "Age", width: 66, align: "end", value: (asset) => fleet.ageOf(rowOf(asset)), text: (asset) => age(fleet.ageOf(rowOf(asset))) },
  { id: "power", label: "Power", unit: "MW", width: 100, align: "end", value: valueOf("current_mw"), text: (asset) => number(valueOf("current_mw")(asset), POWER_DIGITS), render: powerCell },
  { id: "setpoint", label: "Setpoint", unit: "MW", width: 110, align: "end", value: valueOf("setpoint_mw"), text: (asset) => number(valueOf("setpoint_mw")(asset), POWER_DIGITS) },
  { id: "soc", label: "SOC", unit: "%", width: 76, align: "end", value: valueOf("soc_pct"), text: (asset) => number(valueOf("soc_pct")(asset), 1) },
  { id: "capacity", label: "Capacity", unit: "MWh", width: 124, align: "end", value: (asset) => asset.capacity_mwhr, text: (asset) => number(asset.capacity_mwhr, 1) },
  { id: "rating", label: "Rating", unit: "MW", width: 98, align: "end", value: (asset) => asset.max_mw, text: (asset) => number(asset.max_mw, 1) },
  { id: "command", label: "Command", width: 98, value: (asset) => under(asset).rank, text: (asset) => under(asset).href ?? under(asset).text, render: command },
];

function quality(asset, cell) {
  const value = fleet.qualityOf(asset.id);
  const [symbol, tone] = qualitySign(value);
  fill(cell, h("span", { class: `badge tone-${tone}` }, h("span", { class: "badge-symbol", "aria-hidden": "true" }, symbol), value === "none" ? "no sample" : words(value)));
}

function powerCell(asset, cell) {
  const mw = valueOf("current_mw")(asset);
  const { symbol, tone, label } = directionOf(mw);
  fill(cell, mw === null ? NONE : h("span", null, h("span", { class: `tone-${tone}`, role: "img", "aria-label": label }, symbol), ` ${number(mw, POWER_DIGITS)}`));
}

/** What commands an asset: a stop, a dispatch, or nothing. */
function under(asset) {
  if (fleet.stopOf({ assetId: asset.id })) return { text: "stop", rank: 2, tone: "warning", symbol: "■ " };
  const id = rowOf(asset)?.dispatch_id;
  return id ? { text: "dispatch", rank: 1, tone: "", symbol: "", href: `/dispatch/${id}` } : { text: "", rank: 0, tone: "", symbol: "" };
}

function command(asset, cell) {
  const { text, tone, symbol, href } = under(asset);
  fill(cell, href ? h("a", { href }, text) : h("span", { class: tone && `tone-${tone}` }, symbol, text));
}

const FILTERS = {
  "": () => true,
  "not-good": (asset) => fleet.qualityOf(asset.id) !== "good",
  dispatched: (asset) => Boolean(rowOf(asset)?.dispatch_id),
  away: (asset) => !rowOf(asset)?.connected,
};

const KINDS = [["", "All"], ["not-good", "Not good"], ["dispatched", "Under dispatch"], ["away", "Not connected"]];

function countOf(wanted) {
  let n = 0;
  for (const asset of fleet.assets.values()) if (wanted(asset)) n += 1;
  return n;
}

export const page = {
  title: "Assets",
  open(view, { query, signal, setQuery }) {
    let text = query.get("q") ?? "";
    let kind = query.get("quality") in FILTERS ? query.get("quality") : "";
    const shown = h("span", { class: "muted", role: "status" });
    const search = h("input", { class: "input search", type: "search", id: "search", value: text, placeholder: "Name, site, place or id", autocomplete: "off", signal, on: { input: () => applySearch() } });
    const kinds = choice({
      label: "Which assets", signal, value: kind, options: KINDS,
      onChange: (value) => { kind = value; setQuery({ quality: value || null }); filter(); },
    });
    const countKinds = () => {
      for (const [key, label] of KINDS) kinds.setText(key, key && fleet.assets.size ? `${label} ${count(countOf(FILTERS[key]))}` : label);
    };
    const container = h("div", { class: "full-table live" });
    view.append(
      pageHeader({ title: "Assets", detail: "Power: + discharges to the grid ▲, − charges ▼." }),
      h("div", { class: "toolbar" }, h("label", { class: "visually-hidden", for: "search" }, "Search"), search, kinds.element, shown),
      container);
    const table = openTable(container, {
      signal, label: "Assets", columns: COLUMNS, rowKey: (asset) => asset.id, href: (asset) => `/assets/${asset.id}`,
      onSort: (column, descending) => setQuery({ sort: column, descending: descending ? "1" : null }),
    });
    const sort = COLUMNS.find(({ id }) => id === query.get("sort"))?.id;
    if (sort) table.setSort(sort, query.get("descending") === "1");

    const filter = () => {
      const wanted = text.trim().toLowerCase();
      table.setFilter((asset) => FILTERS[kind](asset) && (!wanted || searched(asset).includes(wanted)));
      setText(shown, `${count(table.shownCount())} of ${plural(fleet.assets.size, "asset")}`);
      if (fleet.assets.size > 0) table.setState(table.shownCount() ? { kind: "ready" } : { kind: "empty", message: "No asset matches." });
    };
    const applySearch = throttle(() => { text = search.value; setQuery({ q: text.trim() || null }); filter(); }, 120, signal);
    const load = () => {
      if (fleet.assetsStatus === "loading") table.setState({ kind: "loading", message: "Loading assets …" });
      else if (fleet.assetsStatus === "error") table.setState({ kind: "error", message: fleet.assetsError.message });
      else if (fleet.assets.size === 0) table.setState({ kind: "empty", message: "This fleet has no assets that you may see." });
      table.setRows([...fleet.assets.values()]);
      filter();
      countKinds();
    };
    fleet.on("assets", load, signal);
    load();
    followValues(table, () => { countKinds(); if (kind) filter(); }, signal);
  },
};

const texts = new WeakMap();

function searched(asset) {
  let found = texts.get(asset);
  if (found === undefined) {
    found = `${asset.name} ${asset.site_name} ${asset.location} ${asset.id}`.toLowerCase();
    texts.set(asset, found);
  }
  return found;
}

/** Repaints what has changed four times a second, and the ages of all that is shown once a second. */
function followValues(table, refilter, signal) {
  const changed = new Set();
  const paint = throttle(() => {
    table.update(changed);
    changed.clear();
  }, 250, signal);
  const refilterSoon = throttle(refilter, 2000, signal);
  fleet.on("telemetry", (ids) => {
    if (ids === null) table.update();
    else for (const id of ids) changed.add(id);
    paint();
    refilterSoon();
  }, signal);
  fleet.on("dispatch", throttle(() => table.update(table.visibleKeys()), 500, signal), signal);
  const timer = setInterval(() => { if (!document.hidden) table.update(table.visibleKeys()); }, 1000);
  signal.addEventListener("abort", () => clearInterval(timer));
}
