/** The last 15 minutes of one asset, sample by sample. */

import { openChart } from "../components/chart.js";
import { panel } from "../components/page.js";
import { ApiError, get } from "../core/api.js";
import { h, scaled } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";

const WINDOW_MS = 15 * 60_000;
/** A sample comes every 4 s: a longer step is a gap in the curve. */
const GAP_MS = 12_000;
const POINTS = 1000;

/** @param {HTMLElement} parent  in the document @param {{signal: AbortSignal, assetId: string}} options */
export function openLivePower(parent, { signal, assetId }) {
  const container = h("div", { class: "live" });
  parent.append(panel({ title: "Power, last 15 minutes", class: "span-8" }, container));
  const chart = openChart(container, {
    signal, label: "Power of the last 15 minutes", height: scaled(220), yUnit: { left: "MW", right: "%" }, gapMs: GAP_MS, now: () => fleet.now(), axes: { right: { min: 0, max: 100 } },
    series: [
      { id: "setpoint", label: "setpoint", kind: "step", axis: "left", color: "--ink-muted", dash: true, unit: "MW", digits: 2 },
      { id: "power", label: "power", kind: "line", axis: "left", color: "--series-1", unit: "MW", digits: 2 },
      { id: "soc", label: "state of charge", kind: "line", axis: "right", color: "--series-3", unit: "%", digits: 1 },
    ],
  });
  chart.setFollowing(WINDOW_MS);
  const append = () => {
    const row = fleet.rows.get(assetId);
    if (!row) return;
    const at = Date.parse(row.sampled_at);
    chart.append("power", at, row.current_mw);
    chart.append("setpoint", at, row.setpoint_mw);
    chart.append("soc", at, row.soc_pct);
  };
  const load = async () => {
    try {
      const start = new Date(fleet.now() - WINDOW_MS).toISOString();
      const samples = (await get(`/telemetry/${assetId}/history`, { query: { start, limit: POINTS }, signal })).reverse();
      const times = samples.map(({ timestamp }) => Date.parse(timestamp));
      chart.setData("power", times, samples.map(({ current_mw: value }) => value));
      chart.setData("setpoint", times, samples.map(({ setpoint_mw: value }) => value));
      chart.setData("soc", times, samples.map(({ soc_pct: value }) => value));
      append();
    } catch (error) {
      // The curve begins now.
      if (!(error instanceof ApiError) && error.name !== "AbortError") throw error;
    }
  };
  fleet.on("telemetry", (ids) => { if (ids !== null && fleet.complete && ids.includes(assetId)) append(); }, signal);
  fleet.on("snapshot", () => void load(), signal);
  void load();
}
