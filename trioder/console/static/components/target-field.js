/** The field for what is commanded: the fleet, a site, one asset or several assets, found by their names. */

import { h, nameOf, replace } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { mw, plural } from "../core/format.js";
import { combobox } from "./combobox.js";
import { choice } from "./page.js";

/**
 * @typedef {{kind: "fleet" | "site" | "asset" | "assets", ids: string[]}} Target
 *
 * @param {{kind: Target["kind"], ids: string[], several?: boolean, onChange: (target: Target) => void, signal: AbortSignal}} options
 *   several: whether several assets can be chosen
 * @returns {{element: HTMLElement, set: (target: Target) => void}}
 */
export function targetField({ kind, ids, several = true, onChange, signal }) {
  let target = { kind, ids };
  const body = h("div", { class: "target-body" });
  let fields = new AbortController();
  signal.addEventListener("abort", () => fields.abort());

  const changed = (next) => {
    target = next;
    onChange(target);
  };
  const kinds = choice({
    label: "Target", value: kind, signal,
    options: [["fleet", "Fleet"], ["site", "Site"], ["asset", "Asset"], ["assets", "Several assets"]].filter(([key]) => several || key !== "assets"),
    onChange: (chosen) => {
      const keeps = ["asset", "assets"].includes(chosen) && ["asset", "assets"].includes(target.kind);
      changed({ kind: chosen, ids: keeps ? target.ids.slice(0, chosen === "asset" ? 1 : undefined) : [] });
      show();
      body.querySelector("input")?.focus();
    },
  });

  function show() {
    fields.abort();
    fields = new AbortController();
    if (target.kind === "fleet") return replace(body, fleetNote());
    const shown = { site: siteField, asset: assetField, assets: assetsField }[target.kind];
    return replace(body, shown(fields.signal));
  }

  function siteField(fieldSignal) {
    const note = h("p", { class: "field-note muted" });
    const describe = () => replace(note, siteNote(target.ids[0]));
    const field = combobox({
      label: "Site", placeholder: "Part of a name", signal: fieldSignal, search: searchSites,
      onChoose: ({ key }) => {
        changed({ kind: "site", ids: [key] });
        describe();
      },
    });
    if (target.ids[0]) field.setText(fleet.siteName(target.ids[0]));
    describe();
    return [field.element, note];
  }

  function assetField(fieldSignal) {
    const note = h("p", { class: "field-note muted" });
    const describe = () => replace(note, assetNote(target.ids[0]));
    const field = combobox({
      label: "Asset", placeholder: "Part of a name", signal: fieldSignal, search: searchAssets,
      onChoose: ({ key }) => {
        changed({ kind: "asset", ids: [key] });
        describe();
      },
    });
    if (target.ids[0]) field.setText(fleet.assetName(target.ids[0]));
    describe();
    return [field.element, note];
  }

  function assetsField(fieldSignal) {
    const list = h("ul", { class: "chips", "aria-label": "Assets" });
    const showChips = () => replace(list, target.ids.slice(0, 100).map((id) =>
      h("li", { class: "chip" }, nameOf(fleet.assetName(id)),
        h("button", { type: "button", class: "chip-remove", "aria-label": `Remove ${fleet.assetName(id).slice(0, 100)}`, signal: fieldSignal,
          on: { click: () => { changed({ kind: "assets", ids: target.ids.filter((each) => each !== id) }); showChips(); field.input.focus(); } } }, "×"))),
    target.ids.length > 100 ? h("li", { class: "muted" }, `and ${plural(target.ids.length - 100, "more", "more")}`) : null);
    const field = combobox({
      label: "Add an asset", placeholder: "Part of a name", clearOnChoose: true, signal: fieldSignal,
      search: (text) => searchAssets(text).filter(({ key }) => !target.ids.includes(key)),
      onChoose: ({ key }) => {
        changed({ kind: "assets", ids: [...target.ids, key] });
        showChips();
      },
    });
    showChips();
    return [field.element, list];
  }

  show();
  // Names come later than the page; a field that is being used stays as it is.
  fleet.on("assets", () => body.contains(document.activeElement) || show(), signal);
  return {
    element: h("div", { class: "target-field" }, h("div", { class: "field" }, h("span", { class: "field-label" }, "Target"), kinds.element), body),
    set(next) {
      target = next;
      kinds.set(next.kind);
      show();
    },
  };
}

function fleetNote() {
  return h("p", { class: "field-note muted" }, fleet.assets.size > 0 ? `All ${plural(fleet.assets.size, "asset")} that you see.` : "All assets that you see.");
}

function siteNote(id) {
  if (!id) return "Type a part of the site's name.";
  const site = fleet.sites.get(id);
  if (!site) return fleet.assetsStatus === "ready" ? "This site is not in the fleet." : "";
  const limits = [["export", site.export_limit_mw], ["import", site.import_limit_mw]]
    .filter(([, limit]) => limit !== null && limit !== undefined).map(([name, limit]) => `${name} limit ${mw(limit)}`);
  return [plural(site.assetIds.length, "asset"), ...limits].join(" · ");
}

function assetNote(id) {
  if (!id) return "Type a part of the asset's or its site's name.";
  const asset = fleet.assets.get(id);
  if (!asset) return fleet.assetsStatus === "ready" ? "This asset is not in the fleet." : "";
  return [h("bdi", { class: "name" }, asset.site_name.slice(0, 200)), ` · ${mw(asset.min_mw)} to ${mw(asset.max_mw)}`];
}

function searchSites(text) {
  return matching(fleet.sites.values(), text, (site) => [site.name, site.location])
    .map((site) => ({ key: site.id, text: site.name || site.id, detail: `${plural(site.assetIds.length, "asset")} · ${site.location}` }));
}

function searchAssets(text) {
  return matching(fleet.assets.values(), text, (asset) => [asset.name, asset.site_name])
    .map((asset) => ({ key: asset.id, text: asset.name || asset.id, detail: `${asset.site_name} · ${mw(asset.max_mw)}` }));
}

/** Those of which each part of the text is in the names or the id; those whose own name begins with it first. */
function matching(items, text, namesOf) {
  const parts = text.toLowerCase().split(/\s+/).filter(Boolean);
  const first = [];
  const others = [];
  for (const item of items) {
    const names = namesOf(item).join("\n").toLowerCase();
    if (!parts.every((part) => names.includes(part) || item.id === part)) continue;
    (parts.length > 0 && names.startsWith(parts[0]) ? first : others).push(item);
  }
  return [...first, ...others];
}

/** Sites and assets together, for a filter: the keys are "site:<id>" and "asset:<id>". @param {string} text */
export const searchTargets = (text) => [
  ...searchSites(text).map((option) => ({ ...option, key: `site:${option.key}`, detail: `site · ${option.detail}` })),
  ...searchAssets(text).map((option) => ({ ...option, key: `asset:${option.key}` })),
];
