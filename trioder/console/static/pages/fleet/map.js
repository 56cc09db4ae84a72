/** The map of the sites. */

import { openMap } from "../../components/map.js";
import { panel } from "../../components/page.js";
import { empty, failure, loading } from "../../components/states.js";
import { h, replace, throttle } from "../../core/dom.js";
import { fleet } from "../../core/fleet-state.js";
import { navigate } from "../../core/router.js";

/** @param {HTMLElement} parent  in the document: a canvas needs its colours and size @param {AbortSignal} signal */
export function openFleetMap(parent, signal) {
  const container = h("div", { class: "fleet-map live" });
  const note = h("div", { class: "fleet-map-note" }, loading("sites"));
  parent.append(panel({ title: "Sites", class: "panel-flush fleet-map-panel" }, container, note));
  let map = null;
  const setSites = () => {
    if (fleet.assetsStatus === "loading" && fleet.sites.size === 0) return;
    const failed = fleet.assetsStatus === "error";
    const none = !failed && fleet.sites.size === 0;
    container.hidden = failed || none;
    replace(note, failed ? failure(fleet.assetsError, () => void fleet.loadAssets()) : none ? empty("No sites.", "The fleet has none that you may see.") : null);
    if (container.hidden) return;
    // Not earlier: a map of no sites is one of the whole world.
    map ??= openMap(container, { signal, state: stateOf, onSelect: (id) => navigate(`/sites/${id}`) });
    map.setSites([...fleet.sites.values()].map((site) => ({
      id: site.id, name: site.name, lat: site.lat, lon: site.lon, maxMw: site.max_mw, minMw: site.min_mw,
    })));
  };
  fleet.on("assets", setSites, signal);
  fleet.on(["telemetry", "alarms", "dispatch", "snapshot"], throttle(() => map?.update(), 250, signal), signal);
  setSites();
}

function stateOf(siteId) {
  const { powerMw, socPct, quality, alarms, stopped, ageS } = fleet.siteSums(siteId);
  return { powerMw, socPct, quality: quality === "synthesized" ? "stale" : quality, alarms, stopped, ageS };
}
