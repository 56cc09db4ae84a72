/** What needs somebody: open alarms, those that nobody has acknowledged first, and sites whose values are not good. */

import { qualityBadge, severityBadge } from "../../components/badges.js";
import { panel } from "../../components/page.js";
import { empty } from "../../components/states.js";
import { h, nameOf, replace, throttle } from "../../core/dom.js";
import { fleet, QUALITY_ORDER, SEVERITIES } from "../../core/fleet-state.js";
import { count, dateMinute, duration, plural, wholeTime, words } from "../../core/format.js";
import { alarmSourceText } from "../sources.js";

const MOST_SOURCES = 6;
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
  if (fleet.assets.size === 0) return empty("No assets.", "The fleet has none that you may see.");
  const sources = alarmSources();
  const sites = notGood();
  if (fleet.alarms.size === 0 && sites.length === 0) {
    return empty("Nothing needs attention.", `All ${plural(fleet.assets.size, "asset")} report good values, and no alarm is open.`);
  }
  return [
    sources.length ? group("Open alarms", fleet.alarms.size, "alarm", sources.slice(0, MOST_SOURCES).map(sourceItem), "/alarms", sources.length > MOST_SOURCES) : null,
    sites.length ? group("Values not good", sites.length, "site", sites.slice(0, MOST_SITES).map(siteItem), "/assets?quality=not-good", sites.length > MOST_SITES) : null,
  ];
}

/** The open alarms by what they are of, each with the worst first: what nobody has acknowledged comes first. */
function alarmSources() {
  const sources = new Map();
  for (const alarm of [...fleet.alarms.values()].sort(byUrgency)) {
    const key = alarm.asset_id ?? `${alarm.source_kind} ${alarm.source_id}`;
    if (sources.has(key)) sources.get(key).push(alarm);
    else sources.set(key, [alarm]);
  }
  return [...sources.values()];
}

const byUrgency = (a, b) =>
  Number(Boolean(a.acknowledged_at)) - Number(Boolean(b.acknowledged_at)) ||
  SEVERITIES.indexOf(b.severity) - SEVERITIES.indexOf(a.severity) || (a.raised_at < b.raised_at ? 1 : -1);

function notGood() {
  const sites = [];
  for (const site of fleet.sites.values()) {
    const sums = fleet.siteSums(site.id);
    if (sums.quality !== "good" && sums.assets > 0) sites.push({ site, sums });
  }
  return sites.sort((a, b) =>
    QUALITY_ORDER.indexOf(b.sums.quality) - QUALITY_ORDER.indexOf(a.sums.quality) || b.sums.maxMw - a.sums.maxMw);
}

function group(title, total, noun, items, href, more) {
  return h("section", { class: "attention-group" },
    h("h3", { class: "attention-title" }, `${title} `, h("span", { class: "muted" }, plural(total, noun))),
    h("ul", null, items),
    more ? h("a", { class: "attention-more", href }, `All ${count(total)}`) : null);
}

function siteItem({ site, sums }) {
  return h("li", null,
    h("a", { class: "attention-item", href: `/sites/${site.id}` },
      h("span", { class: "attention-sign" }, qualityBadge(sums.quality)),
      h("span", { class: "attention-name" }, nameOf(site.name)),
      h("span", { class: "attention-when muted" }, siteNote(sums))));
}

/** How many of several assets, and how old: what is suspect, bad or synthesized may be of this moment. */
function siteNote({ assets, notGood: n, quality, ageS }) {
  return [assets > 1 ? `${count(n)} of ${count(assets)}` : null, quality === "stale" && ageS !== null ? duration(Math.round(ageS)) : null]
    .filter(Boolean).join(" · ");
}

function sourceItem(alarms) {
  const [worst] = alarms;
  const kinds = [...new Set(alarms.map(({ kind }) => words(kind)))].join(", ");
  const href = alarms.length > 1 && worst.asset_id ? `/alarms?asset_id=${worst.asset_id}` : `/alarms/${worst.alarm_id}`;
  return h("li", null,
    h("a", { class: ["attention-item attention-alarm", worst.acknowledged_at && "attention-seen"], href, title: alarms.map(({ reason }) => reason.slice(0, 300)).join("\n") },
      h("span", { class: "attention-sign" }, severityBadge(worst.severity)),
      h("span", { class: "attention-name" }, nameOf(alarmSourceText(worst))),
      h("time", { class: "attention-when muted", datetime: worst.raised_at, title: wholeTime(worst.raised_at) }, dateMinute(worst.raised_at)),
      h("span", { class: "attention-detail" }, worst.acknowledged_at ? "✓ acknowledged · " : "", kinds)));
}
