/** The fleet: where it is, what it does, what it can do, and what needs somebody. */

import { openFleetMap } from "./fleet/map.js";
import { openAttention } from "./fleet/attention.js";
import { openFleetFigures } from "./fleet/figures.js";
import { openLastCommands } from "./fleet/commands.js";
import { openRecentPower } from "./recent-power.js";
import { h } from "../core/dom.js";

export const page = {
  title: "Fleet",
  open(view, { signal }) {
    view.append(
      h("h1", { class: "visually-hidden" }, "Fleet"),
      openFleetFigures(signal),
      h("div", { class: "fleet-grid" },
        openFleetMap(signal),
        openRecentPower({ path: "/fleet/power", title: "Power, last 15 minutes", signal, now: fleetPoint }),
        h("div", { class: "fleet-side" }, openAttention(signal), openLastCommands(signal))));
  },
};

/** The newest point of the curve, from the sums of the live feed. */
const fleetPoint = (state) => state.fleet && {
  at: state.fleet.at, current_mw: state.fleet.live_assets ? state.fleet.current_mw : null, requested_mw: state.fleet.requested_mw ?? null,
};
