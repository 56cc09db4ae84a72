/** One site: sums over its assets, live and back in time, its limits, and its assets. */

import { renderName } from "../components/asset-name.js";
import { directionOf, qualityBadge } from "../components/badges.js";
import { facts, figure, pageHeader, panel } from "../components/page.js";
import { showLoaded } from "../components/states.js";
import { stopButton } from "../components/stop.js";
import { resumeButton } from "../components/stop-banner.js";
import { openTable } from "../components/table.js";
import { ApiError, get } from "../core/api.js";
import { every, h, nameOf, throttle } from "../core/dom.js";
import { fleet, QUALITY_ORDER } from "../core/fleet-state.js";
import { age, count, dateTime, mw, mwh, NONE, number, plural, power } from "../core/format.js";
import { reopen } from "../core/router.js";
import { session } from "../core/session.js";
import { openHistory } from "./history-panel.js";
import { openRecentPower } from "./recent-power.js";
import { openRecords } from "./records.js";

export const page = {
  title: "Site",
  open(view, { params, query, signal, setQuery, setTitle }) {
    const body = h("div");
    view.append(body);
    void showLoaded(body, {
      what: "the site", signal, load: () => loadSite(params.id, signal),
      show: (site) => {
        setTitle(site.name.slice(0, 80));
        const content = h("div");
        // The charts need the document: they open when this was inserted.
        queueMicrotask(() => { if (!signal.aborted) openSite(content, site, { query, signal, setQuery }); });
        return content;
      },
    });
  },
};

/** REST has no route for one site: it is found in the list of sites. */
async function loadSite(id, signal) {
  if (!fleet.sites.has(id)) await fleet.loadAssets();
  if (signal.aborted) return null;
  const site = fleet.sites.get(id);
  if (site) return site;
  throw fleet.assetsError ?? new ApiError(404, "not_found", `The fleet has no site ${id}.`);
}

function openSite(content, site, { query, signal, setQuery }) {
  const operator = session.may("operator");
  const state = h("span", { class: "page-state live" });
  const figures = [
    figure({ label: "Power", unit: "MW", size: "xl" }), figure({ label: "Setpoint", unit: "MW", size: "l" }),
    figure({ label: "State of charge", unit: "%", size: "l" }), figure({ label: "Rating", unit: "MW", size: "l" }), figure({ label: "Assets", size: "l" }),
  ];
  const grid = h("div", { class: "panels" });
  content.append(
    pageHeader({
      title: h("span", null, nameOf(site.name)), back: { href: "/assets", text: "Assets" },
      detail: h("span", null, nameOf(site.location, "no place named"), " · ", h("span", { class: "mono" }, site.id)),
      actions: [
        operator ? h("a", { class: "button button-primary", href: `/dispatch?site_id=${site.id}` }, "Dispatch …") : null,
        operator ? resumeButton({ target: { kind: "site", id: site.id }, signal }) : null,
        operator ? stopButton({ target: { kind: "site", id: site.id }, label: "Stop site …", signal }) : null,
      ],
    }),
    h("section", { class: "panel figures-strip", "aria-label": "Now" }, h("div", { class: "figures" }, figures.map(({ element }) => element)), state),
    grid);
  const show = () => showNow(site.id, figures, state);
  const showSoon = throttle(show, 500, signal);
  fleet.on(["telemetry", "alarms", "dispatch", "assets", "snapshot"], showSoon, signal);
  show();
  fleet.on("assets", () => {
    // The fleet file was reloaded: it has left, or has another name.
    const now = fleet.sites.get(site.id);
    if (fleet.assetsStatus === "ready" && (now?.name !== site.name || now.location !== site.location)) reopen();
  }, signal);

  openAssets(grid, site.id, signal);
  openLimits(grid, site.id, signal);
  openRecentPower(grid, { path: `/sites/${site.id}/power`, title: "Power, last 15 minutes", signal, now: () => newestPoint(site.id) });
  openHistory(grid, {
    path: `/sites/${site.id}/history`, resolutions: ["5m", "15m", "30m", "1h", "2h", "6h", "1d"],
    read: ({ current_mw: value, setpoint_mw: setpoint, soc_pct: soc }) => ({ power: value, setpoint, soc }),
    range: query.get("range") ?? "24h", onRange: (range) => setQuery({ range }), signal,
  });
  openRecords(grid, { signal, filter: { site_id: site.id } });
}

function newestPoint(siteId) {
  const { powerMw, setpointMw, dispatched } = fleet.siteSums(siteId);
  return { at: new Date(fleet.now()).toISOString(), current_mw: powerMw, requested_mw: dispatched ? setpointMw : null };
}

function showNow(siteId, [powerNow, setpoint, energy, rating, assets], state) {
  const sums = fleet.siteSums(siteId);
  const direction = directionOf(sums.powerMw);
  const good = sums.assets - sums.notGood;
  powerNow.set(power(sums.powerMw, sums.maxMw), `${direction.symbol} ${direction.label}`);
  const stop = fleet.stopOf({ siteId });
  setpoint.set(power(sums.setpointMw, sums.maxMw), stop ? "emergency stop" : sums.dispatched ? `${plural(sums.dispatched, "asset")} under dispatch` : "no dispatch");
  energy.set(number(sums.socPct, 1), `${mwh(sums.socMwh, sums.capacityMwh)} of ${mwh(sums.capacityMwh)}`);
  rating.set(power(sums.maxMw), `charging ${mw(-sums.minMw, sums.maxMw)}`);
  assets.set(count(sums.assets), good === sums.assets ? "all good" : `${count(sums.notGood)} not good`, good === sums.assets ? "" : "warning");
  state.replaceChildren(
    qualityBadge(sums.quality),
    ...(stop ? [h("a", { class: "tone-warning", href: `/dispatch/${stop.dispatch_id}` }, "■ held by an emergency stop")] : []),
    ...(sums.alarms ? [h("a", { class: "tone-critical", href: `/alarms?site_id=${siteId}` }, `▲ ${plural(sums.alarms, "open alarm")}`)] : []));
}

const rowOf = (asset) => fleet.rows.get(asset.id);

function openAssets(grid, siteId, signal) {
  const container = h("div", { class: "live" });
  grid.append(panel({ title: "Assets", class: "span-8 panel-flush" }, container));
  const table = openTable(container, {
    signal, label: "Assets of the site", rowKey: (asset) => asset.id, href: (asset) => `/assets/${asset.id}`, maxVisibleRows: 9,
    columns: [
      { id: "name", label: "Asset", width: "1fr", value: (asset) => asset.name, text: (asset) => asset.name, render: (asset, cell) => renderName(asset.name, cell, asset.site_name) },
      { id: "quality", label: "Quality", width: 116, value: (asset) => QUALITY_ORDER.indexOf(fleet.qualityOf(asset.id)), render: (asset, cell) => cell.replaceChildren(qualityBadge(fleet.qualityOf(asset.id))) },
      { id: "age", label: "Age", width: 64, align: "end", value: (asset) => fleet.ageOf(rowOf(asset)), text: (asset) => age(fleet.ageOf(rowOf(asset))) },
      { id: "power", label: "Power", unit: "MW", width: 96, align: "end", value: (asset) => rowOf(asset)?.current_mw, text: (asset) => number(rowOf(asset)?.current_mw, 2) },
      { id: "setpoint", label: "Setpoint", unit: "MW", width: 114, align: "end", value: (asset) => rowOf(asset)?.setpoint_mw, text: (asset) => number(rowOf(asset)?.setpoint_mw, 2) },
      { id: "soc", label: "SOC", unit: "%", width: 78, align: "end", value: (asset) => rowOf(asset)?.soc_pct, text: (asset) => number(rowOf(asset)?.soc_pct, 1) },
      { id: "rating", label: "Rating", unit: "MW", width: 102, align: "end", value: (asset) => asset.max_mw, text: (asset) => number(asset.max_mw, 1) },
    ],
  });
  const setRows = () => table.setRows((fleet.sites.get(siteId)?.assetIds ?? []).map((id) => fleet.assets.get(id)));
  fleet.on("assets", setRows, signal);
  fleet.on("telemetry", throttle(() => table.update(), 500, signal), signal);
  every(1000, () => table.update(table.visibleKeys()), signal);
  setRows();
}

function openLimits(grid, siteId, signal) {
  const body = h("div");
  grid.append(panel({ title: "Limits of the site", class: "span-4" }, body));
  const load = () => get(`/sites/${siteId}/limits`, { signal });
  void showLoaded(body, { what: "limits", signal, load, show: limitFacts });
  fleet.on("dispatch", throttle(() => void load().then((limits) => body.replaceChildren(limitFacts(limits)), () => {}), 3000, signal), signal);
}

function limitFacts(limits) {
  const shown = (value) => (value === null ? "none" : mw(value));
  return facts([
    ["Export limit", shown(limits.export_limit_mw)],
    ["Import limit", shown(limits.import_limit_mw)],
    ["Setpoints exporting", mw(limits.export_mw)],
    ["Setpoints importing", mw(limits.import_mw)],
    ["Set by", limits.set_by ? nameOf(limits.set_by) : "the fleet file"],
    ["Until", limits.until ? dateTime(limits.until) : limits.set_by ? NONE : null],
  ]);
}
