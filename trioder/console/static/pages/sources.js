/** Links to what an alarm or an event is about. */

import { h, nameOf } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { plural } from "../core/format.js";

/**
 * The source of an alarm: an asset, a site, an agent, or the headend.
 * @param {{source_kind: string, source_id: string, asset_id: string | null, site_id: string | null, agent_id: string | null, assets: number}} alarm
 * @returns {HTMLElement}
 */
export function alarmSource(alarm) {
  if (alarm.asset_id) return assetLink(alarm.asset_id);
  if (alarm.source_kind === "site" || (alarm.site_id && alarm.source_kind !== "agent")) return siteLink(alarm.site_id ?? alarm.source_id);
  if (alarm.source_kind === "agent") return h("span", null, "agent ", agentLink(alarm.source_id));
  return h("span", null, alarm.assets ? `headend, ${plural(alarm.assets, "asset")}` : "headend");
}

/** The text of `alarmSource`, for sorting and searching. */
export function alarmSourceText(alarm) {
  if (alarm.asset_id) return fleet.assetName(alarm.asset_id);
  if (alarm.source_kind === "site") return fleet.siteName(alarm.source_id);
  return alarm.source_kind === "agent" ? `agent ${alarm.source_id}` : "headend";
}

export const assetLink = (id) => h("a", { href: `/assets/${id}` }, nameOf(fleet.assetName(id)));
export const siteLink = (id) => h("a", { href: `/sites/${id}` }, nameOf(fleet.siteName(id)));
export const agentLink = (id) => h("a", { href: `/agents?agent_id=${encodeURIComponent(id)}` }, nameOf(id));
