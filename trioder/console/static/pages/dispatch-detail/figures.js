/** What was asked, what is delivered now, and the time that is left. */

import { figure } from "../../components/page.js";
import { deliveredBy } from "../../core/dispatch-progress.js";
import { every, h, throttle } from "../../core/dom.js";
import { fleet } from "../../core/fleet-state.js";
import { count, countdown, NONE, plural, power, time } from "../../core/format.js";
import { isOpen } from "../../core/lifecycle.js";

/**
 * @param {{id: string, dispatch: () => object, signal: AbortSignal}} options
 * @returns {{element: HTMLElement, show: (allocations: object[] | null) => void}}  allocations: all of them, or null
 */
export function openFigures({ id, dispatch, signal }) {
  const stop = dispatch().priority === "emergency";
  const delivered = figure({ label: "Delivered now", unit: "MW", size: "xl", title: "The sum of the power of the assets that are under this dispatch now" });
  const mean = figure({ label: "Delivered, mean", unit: "MW", size: "xl", title: "The sum of the assets' means, each from the end of its ramp to the end of its setpoint" });
  const asked = figure({ label: "Asked", unit: "MW", size: "xl" });
  const allocated = figure({ label: "Allocated", unit: "MW", size: "l" });
  const shortfall = figure({ label: "Shortfall", unit: "MW", size: "l" });
  const left = figure({ label: "Time left", size: "l" });
  const elements = stop ? [delivered, left] : [asked, delivered, mean, allocated, shortfall, left];

  function showDelivered() {
    const { mw: askedMw } = dispatch();
    const sum = deliveredBy(fleet.rows.values(), id);
    const note = sum.assets === 0 ? "no asset is under it now" : [`${count(sum.assets)} under it now`, sum.notGood ? `${count(sum.notGood)} not good` : null, sum.modelled ? `${count(sum.modelled)} by the headend's model` : null]
      .filter(Boolean).join(", ");
    delivered.set(sum.mw === null ? NONE : power(sum.mw, askedMw || sum.mw), note, sum.notGood ? "warning" : "");
  }
  function showMean(allocations) {
    const means = (allocations ?? []).map((row) => row.mean_mw).filter((value) => value !== null && value !== undefined);
    mean.set(means.length ? power(means.reduce((sum, value) => sum + value, 0), dispatch().mw) : NONE, means.length ? `of ${plural(means.length, "asset")}` : "no samples");
  }
  function showTime() {
    const present = dispatch();
    if (!isOpen(present)) return left.set(NONE, "it has ended");
    if (present.ends_at === null) return left.set("no end", stop ? "until it is resumed" : "until the next dispatch");
    const seconds = (Date.parse(present.ends_at) - fleet.now()) / 1000;
    return left.set(seconds > 0 ? countdown(seconds) : "ending", `ends ${time(present.ends_at)}`);
  }
  const deliveredSoon = throttle(showDelivered, 500, signal);
  fleet.on(["telemetry", "snapshot"], deliveredSoon, signal);
  every(1000, showTime, signal);

  return {
    element: h("div", { class: "figures" }, elements.map((each) => each.element)),
    show(allocations) {
      const ended = !stop && !isOpen(dispatch());
      delivered.element.hidden = ended;
      mean.element.hidden = !ended;
      showMean(allocations);
      const { mw: askedMw, allocated_mw: allocatedMw, shortfall_mw: shortMw } = dispatch();
      asked.set(power(askedMw), askedMw > 0 ? "discharge" : askedMw < 0 ? "charge" : "");
      allocated.set(power(allocatedMw, askedMw));
      shortfall.set(power(shortMw, askedMw), shortMw ? "▲ not allocated" : "none", shortMw ? "warning" : "");
      showDelivered();
      showTime();
    },
  };
}
