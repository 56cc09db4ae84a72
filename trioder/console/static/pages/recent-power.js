/** Power of the last 15 minutes, moving: what was delivered against what was asked. */

import { openChart } from "../components/chart.js";
import { panel } from "../components/page.js";
import { ApiError, get } from "../core/api.js";
import { h, scaled } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";

const WINDOW_MS = 15 * 60_000;
/** A longer step between points is a gap in the curve. */
const GAP_MS = 30_000;

/**
 * @param {HTMLElement} parent  in the document: a canvas needs its colours and size
 * @param {{path: string, title: string, signal: AbortSignal,
 *   now: (state: typeof fleet) => {at: string, current_mw: number | null, requested_mw: number | null} | null}} options
 *   path: of the recent points; now: the newest point, once a second
 */
export function openRecentPower(parent, { path, title, signal, now }) {
  const container = h("div", { class: "recent-power live" });
  parent.append(panel({ title, class: "recent-power-panel" }, container));
  const chart = openChart(container, {
    signal, label: title, height: scaled(158), yUnit: "MW", gapMs: GAP_MS, now: () => fleet.now(),
    series: [
      { id: "requested", label: "asked", kind: "step", axis: "left", color: "--ink-muted", dash: true, unit: "MW", digits: 1 },
      { id: "power", label: "delivered", kind: "line", axis: "left", color: "--series-1", unit: "MW", digits: 1 },
    ],
  });
  chart.setFollowing(WINDOW_MS);
  const load = async () => {
    try {
      const { points, step_s: stepS } = await get(path, { query: { minutes: 15 }, signal });
      const gapMs = Math.max(GAP_MS, 3000 * stepS);
      const times = points.map(({ at }) => Date.parse(at));
      chart.setData("power", times, points.map((point) => point.current_mw), { gapMs });
      chart.setData("requested", times, points.map((point) => point.requested_mw), { gapMs });
    } catch (error) {
      // The curve begins now.
      if (!(error instanceof ApiError) && error.name !== "AbortError") throw error;
    }
  };
  const append = () => {
    const point = fleet.live ? now(fleet) : null;
    if (!point) return;
    const at = Date.parse(point.at);
    chart.append("power", at, point.current_mw);
    chart.append("requested", at, point.requested_mw);
  };
  fleet.on("fleet", append, signal);
  fleet.on("snapshot", () => void load(), signal);
  void load();
}
