/** One asset: what it does now, back in time, its nameplate, dispatches, alarms and sessions. */

import { directionOf, qualityBadge } from "../components/badges.js";
import { facts, figure, pageHeader, panel } from "../components/page.js";
import { showLoaded } from "../components/states.js";
import { stopButton } from "../components/stop.js";
import { resumeButton } from "../components/stop-banner.js";
import { get } from "../core/api.js";
import { every, h, nameOf } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { digitsOf, duration, mw, mwh, number, percent, plural, power, time } from "../core/format.js";
import { reopen } from "../core/router.js";
import { session } from "../core/session.js";
import { openHistory } from "./history-panel.js";
import { openLivePower } from "./live-power.js";
import { openRecords } from "./records.js";

export const page = {
  title: "Asset",
  open(view, { params, query, signal, setQuery, setTitle }) {
    const body = h("div");
    view.append(body);
    void showLoaded(body, {
      what: "the asset", signal, load: () => get(`/assets/${encodeURIComponent(params.id)}`, { signal }),
      show: (asset) => {
        setTitle(asset.name.slice(0, 80));
        // The charts need the document: they open when this was inserted.
        const content = h("div");
        queueMicrotask(() => { if (!signal.aborted) openAsset(content, asset, { query, signal, setQuery }); });
        return content;
      },
    });
  },
};

function openAsset(content, asset, { query, signal, setQuery }) {
  const state = h("span", { class: "page-state live" });
  const operator = session.may("operator");
  content.append(pageHeader({
    title: h("span", null, nameOf(asset.name)), back: { href: `/sites/${asset.site_id}`, text: asset.site_name.slice(0, 80) },
    detail: h("span", null, nameOf(asset.location, "no place named"), " · ", h("span", { class: "mono" }, asset.id)),
    actions: [
      operator ? h("a", { class: "button button-primary", href: `/dispatch?asset_id=${asset.id}` }, "Dispatch …") : null,
      operator ? resumeButton({ target: { kind: "asset", id: asset.id }, signal }) : null,
      operator ? stopButton({ target: { kind: "asset", id: asset.id }, label: "Stop asset …", signal }) : null,
    ],
  }));
  const figures = [
    figure({ label: "Power", unit: "MW", size: "xl" }),
    figure({ label: "Setpoint", unit: "MW", size: "l" }),
    figure({ label: "State of charge", unit: "%", size: "l" }),
    figure({ label: "Available discharge", unit: "MW", size: "l", title: "What it can hold for one pulse." }),
    figure({ label: "Available charge", unit: "MW", size: "l", title: "What it can hold for one pulse." }),
    figure({ label: "Age of these values", size: "l" }),
  ];
  const grid = h("div", { class: "panels" });
  content.append(h("section", { class: "panel figures-strip", "aria-label": "Now" }, h("div", { class: "figures" }, figures.map(({ element }) => element)), state), grid);
  const show = () => showNow(asset, figures, state);
  fleet.on("telemetry", (ids) => { if (ids === null || ids.includes(asset.id)) show(); }, signal);
  fleet.on(["snapshot", "dispatch", "alarms"], show, signal);
  every(1000, show, signal);
  show();
  fleet.on("assets", () => {
    // The fleet file was reloaded: it has left, or has another name or rating.
    if (fleet.assetsStatus === "ready" && JSON.stringify(fleet.assets.get(asset.id)) !== JSON.stringify(asset)) reopen();
  }, signal);

  openLivePower(grid, { signal, assetId: asset.id });
  grid.append(panel({ title: "Nameplate", class: "span-4" }, nameplate(asset)));
  openHistory(grid, {
    path: `/telemetry/${asset.id}/history`, resolutions: ["1m", "5m", "15m", "30m", "1h", "2h", "6h", "1d"], read: readBucket,
    range: query.get("range") ?? "24h", onRange: (range) => setQuery({ range }), signal,
  });
  openRecords(grid, { signal, filter: { asset_id: asset.id } });
}

const readBucket = ({ current_mw: power_, setpoint_mw: setpoint, soc_pct: soc }) => ({
  power: power_.mean, low: power_.min, high: power_.max, setpoint: setpoint.mean, soc: soc.mean,
});

function showNow(asset, [powerNow, setpoint, soc, discharge, charge, age], state) {
  const row = fleet.rows.get(asset.id);
  const quality = fleet.qualityOf(asset.id);
  const scale = asset.max_mw;
  const direction = directionOf(row?.current_mw ?? null);
  powerNow.set(power(row?.current_mw, scale), row ? `${direction.symbol} ${direction.label}` : "no sample");
  setpoint.set(power(row?.setpoint_mw, scale), row?.ends_at ? `until ${time(row.ends_at)}` : row?.dispatch_id ? "without an end" : "no dispatch");
  soc.set(number(row?.soc_pct, 1), row ? `${mwh(row.soc_mwhr, asset.capacity_mwhr)} of ${mwh(asset.capacity_mwhr)}` : "");
  discharge.set(power(row?.available_discharge_mw, scale), `rated ${mw(asset.max_mw)}`);
  charge.set(power(row?.available_charge_mw, scale), `rated ${mw(-asset.min_mw, scale)}`);
  const old = quality !== "good" && quality !== "synthesized";
  age.set(duration(fleet.ageOf(row)), row ? (row.connected ? "agent connected" : "agent not connected") : "", old || !row?.connected ? "warning" : "");
  const stop = fleet.stopOf({ assetId: asset.id });
  const alarms = [...fleet.alarms.values()].filter(({ asset_id: id }) => id === asset.id).length;
  state.replaceChildren(
    qualityBadge(quality),
    ...(stop ? [h("a", { class: "tone-warning", href: `/dispatch/${stop.dispatch_id}` }, "■ held by an emergency stop")]
      : row?.dispatch_id ? [h("a", { href: `/dispatch/${row.dispatch_id}` }, "under a dispatch")] : []),
    ...(alarms ? [h("a", { class: "tone-critical", href: `/alarms?asset_id=${asset.id}` }, `▲ ${plural(alarms, "open alarm")}`)] : []));
}

function nameplate(asset) {
  const efficiency = (value) => percent(100 * value, 1);
  return facts([
    ["Power", `${number(asset.min_mw, digitsOf(asset.max_mw))} … ${mw(asset.max_mw)}`],
    ["Capacity", mwh(asset.capacity_mwhr)],
    ["Ramp rate", `${number(asset.ramp_rate_mw_per_min, 1)} MW/min`],
    ["Efficiency charging", efficiency(asset.charge_efficiency)],
    ["Efficiency discharging", efficiency(asset.discharge_efficiency)],
    ["Usable charge", `${number(asset.min_soc_pct, 0)} … ${number(asset.max_soc_pct, 0)} %`],
    ["Auxiliary load", mw(asset.aux_load_mw)],
    ["Self-discharge", `${number(asset.self_discharge_pct_per_day, 2)} % a day`],
    ["Site", h("a", { href: `/sites/${asset.site_id}` }, nameOf(asset.site_name))],
  ]);
}
