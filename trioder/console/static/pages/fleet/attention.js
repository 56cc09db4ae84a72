/** What needs somebody: open alarms, and plants whose values are not good. */

import { qualityBadge, severityBadge } from "../../components/badges.js";
import { panel } from "../../components/page.js";
import { empty } from "../../components/states.js";
import { h, nameOf, replace, throttle } from "../../core/dom.js";
import { fleet, QUALITY_ORDER, SEVERITIES } from "../../core/fleet-state.js";
import { count, dateTime, duration, plural, words } from "../../core/format.js";
import { alarmSourceText } from "../sources.js";

const MOST_ALARMS = 6;
const MOST_SITES = 8;

/** @param {AbortSignal} signal @returns {HTMLElement} */
export function openAttention(signal) {
  const body = h("div", { class: "attention" });
  const show = throttle(() => replace(body, content()), 500, signal);
  fleet.on(["telemetry", "alarms", "assets", "snapshot"], show, signal);
  show();
  return panel({ title: "Needs attention", class: "panel-flush attention-panel", live: true }, body);
}

function content() {
  if (!fleet.complete || fleet.assetsStatus !== "ready") return h("p", { class: "panel-note muted" }, "Loading …");
  const alarms = [...fleet.alarms.values()].sort((a, b) =>
    SEVERITIES.indexOf(b.severity) - SEVERITIES.indexOf(a.severity) || (a.raised_at < b.raised_at ? 1 : -1));
  const sites = notGood();
  if (alarms.length === 0 && sites.length === 0) {
    return empty("Nothing needs attention.", `All ${plural(fleet.assets.size, "asset")} report good values, and no alarm is open.`);
  }
  return [
    sites.length ? group("Not good", sites.length, "site", sites.slice(0, MOST_SITES).map(siteItem), "/assets?quality=not-good") : null,
    alarms.length ? group("Open alarms", alarms.length, "alarm", alarms.slice(0, MOST_ALARMS).map(alarmItem), "/alarms") : null,
  ];
}

function notGood() {
  const sites = [];
  for (const site of fleet.sites.values()) {
    const sums = fleet.siteSums(site.id);
    if (sums.quality !== "good" && sums.assets > 0) sites.push({ site, sums });
  }
  return sites.sort((a, b) =>
    QUALITY_ORDER.indexOf(b.sums.quality) - QUALITY_ORDER.indexOf(a.sums.quality) || b.sums.maxMw - a.sums.maxMw);
}

function group(title, total, noun, items, href) {
  return h("section", { class: "attention-group" },
    h("h3", { class: "attention-title" }, `${title} `, h("span", { class: "muted" }, plural(total, noun))),
    h("ul", null, items),
    total > items.length ? h("a", { class: "attention-more", href }, `All ${count(total)}`) : null);
}

function siteItem({ site, sums }) {
  return h("li", null,
    h("a", { class: "attention-item", href: `/sites/${site.id}` },
      h("span", { class: "attention-sign" }, qualityBadge(sums.quality)),
      h("span", { class: "attention-name" }, nameOf(site.name)),
      h("span", { class: "attention-when muted" }, `${count(sums.notGood)} of ${count(sums.assets)} · ${duration(oldest(site))}`)));
}

/** The greatest age of a site's values that are not good, in s. */
function oldest(site) {
  let age = null;
  for (const id of site.assetIds) {
    const row = fleet.rows.get(id);
    if (row && row.quality !== "good") age = Math.max(age ?? 0, fleet.ageOf(row));
  }
  return age === null ? null : Math.round(age);
}

function alarmItem(alarm) {
  const source = alarmSourceText(alarm);
  return h("li", null,
    h("a", { class: "attention-item", href: `/alarms/${alarm.alarm_id}`, title: alarm.reason.slice(0, 500) },
      h("span", { class: "attention-sign" }, severityBadge(alarm.severity)),
      h("span", { class: "attention-name" }, nameOf(source)),
      h("span", { class: "attention-when muted" }, dateTime(alarm.raised_at)),
      h("span", { class: "attention-detail" }, words(alarm.kind), alarm.acknowledged_at ? " · acknowledged" : "")));
}
