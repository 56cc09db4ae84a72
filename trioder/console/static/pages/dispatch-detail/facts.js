/** What was requested, by whom, on which terms. */

import { reasonNode } from "../../components/dispatch-reason.js";
import { facts } from "../../components/page.js";
import { priorityText, STRATEGIES } from "../../core/dispatch-texts.js";
import { h, nameOf } from "../../core/dom.js";
import { dateTime, duration, mw, plural, wholeTime, zoneName } from "../../core/format.js";

/** @param {object} dispatch  as `GET /dispatch/{id}` @param {string | null} reason  of its state */
export function factsOf(dispatch, reason) {
  const group = dispatch.target.kind !== "asset";
  const stop = dispatch.priority === "emergency";
  const at = (value) => h("span", { class: "number", title: wholeTime(value) }, `${dateTime(value)} ${zoneName(new Date(value))}`);
  return facts([
    ["Reason", reason ? reasonNode(reason) : null],
    ["Requested by", nameOf(dispatch.requested_by, "not known")],
    ["Priority", priorityText(dispatch.priority)],
    ["Requested", at(dispatch.dispatched_at)],
    ["Lasts", stop ? "until it is resumed" : dispatch.duration_s === null && !dispatch.ends_at ? "until the next dispatch" : dispatch.duration_s === null ? "until a time" : duration(dispatch.duration_s)],
    ["Ends", dispatch.ends_at ? at(dispatch.ends_at) : null],
    ["Reversion", stop ? null : mw(dispatch.reversion_mw)],
    ["Assets", `${plural(dispatch.members, "member")}${dispatch.left_out ? `, ${dispatch.left_out} left out` : ""}`],
    ["Split", group && !stop ? (STRATEGIES[dispatch.strategy]?.split(":")[0] ?? dispatch.strategy) : null],
    ["Reallocates", group && !stop ? (dispatch.resplit ? "when an asset drops out" : "no") : null],
    ["Waits for a connection", stop ? null : duration(dispatch.expires_in_s)],
    ["Tenant", dispatch.tenant === "default" ? null : dispatch.tenant === "*" ? "all tenants" : nameOf(dispatch.tenant)],
  ]);
}
