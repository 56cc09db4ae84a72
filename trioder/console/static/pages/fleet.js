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
    const grid = h("div", { class: "fleet-grid" });
    view.append(h("h1", { class: "visually-hidden" }, "Fleet"), openFleetFigures(signal), grid);
    openFleetMap(grid, signal);
    openRecentPower(grid, { path: "/fleet/power", title: "Power, last 15 minutes", signal, now: newestPoint });
    grid.append(h("div", { class: "fleet-side" }, openAttention(signal), openLastCommands(signal)));
  },
};

/** The newest point of the curve, from the sums of the live feed. */
const newestPoint = (state) => state.fleet && {
  at: state.fleet.at, current_mw: state.fleet.live_assets ? state.fleet.current_mw : null, requested_mw: state.fleet.requested_mw ?? null,
};
