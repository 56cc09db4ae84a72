/** One alarm: what, where, since when, what it concerns, and its acknowledgement with a comment. */

import { severityBadge } from "../components/badges.js";
import { reasonNode } from "../components/dispatch-reason.js";
import { facts, pageHeader, panel } from "../components/page.js";
import { showLoaded } from "../components/states.js";
import { get } from "../core/api.js";
import { h, nameOf } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { dateTime, duration, plural, wholeTime, words, zoneName } from "../core/format.js";
import { session } from "../core/session.js";
import { acknowledgeButton } from "./acknowledge.js";
import { agentLink, alarmSource, alarmSourceText, assetLink } from "./sources.js";

const MOST_ASSETS = 200;

export const page = {
  title: "Alarm",
  open(view, { params, signal, setTitle }) {
    const path = `/alarms/${encodeURIComponent(params.id)}`;
    const body = h("div");
    // One for all contents: what is typed stays when the alarm changes.
    const comment = h("input", { class: "input", id: "comment", maxlength: 500, autocomplete: "off" });
    view.append(body);
    const load = () => showLoaded(body, {
      what: "the alarm", signal, load: () => get(path, { signal }),
      show: (alarm) => {
        setTitle(`Alarm: ${words(alarm.kind)}`);
        return content(alarm, comment, signal, () => void load());
      },
    });
    fleet.on("alarms", ({ alarm }) => alarm.alarm_id === params.id && void load(), signal);
    // The names of assets may come later than the alarm.
    if (fleet.assetsStatus === "loading") fleet.on("assets", () => void load(), signal);
    void load();
  },
};

const capital = (text) => text[0].toUpperCase() + text.slice(1);

function content(alarm, comment, signal, reload) {
  const ended = alarm.cleared_at ? Date.parse(alarm.cleared_at) : fleet.now();
  const at = (value) => (value ? h("time", { datetime: value, title: wholeTime(value) }, `${dateTime(value)} ${zoneName(new Date(value))}`) : null);
  return [
    pageHeader({
      title: h("span", null, `${capital(words(alarm.kind))}: `, nameOf(alarmSourceText(alarm))), back: { href: "/alarms", text: "Alarms" },
      detail: h("span", null, severityBadge(alarm.severity), " ", alarm.state === "open" ? "open" : "cleared", alarm.acknowledged_at ? ", acknowledged" : ", not acknowledged", " · ", alarmSource(alarm)),
    }),
    h("div", { class: "panels" },
      panel({ title: "Alarm", class: "span-7" },
        h("p", { class: "alarm-reason" }, reasonNode(alarm.reason)),
        facts([
          ["Raised", at(alarm.raised_at)],
          ["Cleared", at(alarm.cleared_at) ?? "still open"],
          [alarm.cleared_at ? "Lasted" : "Open for", duration(Math.round((ended - Date.parse(alarm.raised_at)) / 1000))],
          ["Concerns", plural(alarm.assets, "asset")],
          ["Agent", alarm.agent_id ? agentLink(alarm.agent_id) : null],
          ["Dispatch", dispatchOf(alarm)],
          ["Detail", alarm.detail ? nameOf(alarm.detail) : null],
          ["Tenant", nameOf(alarm.tenant, "–")],
        ])),
      panel({ title: "Acknowledgement", class: "span-5" }, acknowledgement(alarm, comment, signal, reload, at)),
      panel({ title: "Assets" }, assets(alarm))),
  ];
}

/** The dispatch that the reason of an alarm names. */
function dispatchOf({ kind, reason }) {
  const id = kind.startsWith("dispatch") ? /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/.exec(reason)?.[0] : null;
  return id ? h("a", { class: "mono", href: `/dispatch/${id}` }, id) : null;
}

function acknowledgement(alarm, comment, signal, reload, at) {
  if (alarm.acknowledged_at) {
    return facts([["At", at(alarm.acknowledged_at)], ["By", nameOf(alarm.acknowledged_by ?? "–")], ["Comment", alarm.comment ? h("bdi", null, alarm.comment) : null]]);
  }
  if (!session.may("operator")) return h("p", { class: "muted" }, "Not acknowledged.");
  return h("div", { class: "form-row" },
    h("div", { class: "field" }, h("label", { for: "comment" }, "Comment (optional)"), comment),
    acknowledgeButton(alarm, { signal, comment: () => comment.value, done: reload, small: false }));
}

function assets(alarm) {
  if (alarm.asset_ids === null) return h("p", { class: "muted" }, `${plural(alarm.assets, "asset")}: too many to list.`);
  if (alarm.asset_ids.length === 0) return h("p", { class: "muted" }, "This alarm concerns no single asset.");
  return [
    h("ul", { class: "link-list" }, alarm.asset_ids.slice(0, MOST_ASSETS).map((id) => h("li", null, assetLink(id)))),
    alarm.asset_ids.length > MOST_ASSETS ? h("p", { class: "muted" }, `and ${alarm.asset_ids.length - MOST_ASSETS} more`) : null,
  ];
}
