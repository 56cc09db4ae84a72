/** A new schedule: validated by the headend as it is typed, with its next occurrences and overlaps. */

import { curlButton } from "../../components/curl-button.js";
import { toast } from "../../components/dialog.js";
import { choice, facts, panel } from "../../components/page.js";
import { targetField } from "../../components/target-field.js";
import { ApiError, post } from "../../core/api.js";
import { CommandKeys, isOutcomeUnknown } from "../../core/command-keys.js";
import { parseNumber } from "../../core/dispatch-body.js";
import { h, replace, setText, throttle } from "../../core/dom.js";
import { fleet } from "../../core/fleet-state.js";
import { dateMinute, plural, zoneId, zoneName } from "../../core/format.js";
import { navigate } from "../../core/router.js";
import { stepsText } from "./occurrences.js";
import { DAYS, recurrenceText, ruleOf } from "./recurrence.js";

/** Also of forms that were left since. */
const keys = new CommandKeys();
const UNITS = { min: 60, h: 3600, s: 1 };
const ZONES = () => (Intl.supportedValuesOf ? [...new Set([zoneId(), "UTC", ...Intl.supportedValuesOf("timeZone")])] : [zoneId(), "UTC"]);

/**
 * @param {HTMLElement} parent @param {{signal: AbortSignal, target: {kind: string, ids: string[]}}} options
 */
export function openScheduleForm(parent, { signal, target }) {
  const draft = {
    target, start: nextHour(), zone: zoneId(), recurrence: { kind: "once", days: ["MO"], rule: "FREQ=DAILY;COUNT=10" },
    steps: [{ mw: "", duration: "60", unit: "min" }],
  };
  const problem = h("p", { class: "form-error", role: "alert" });
  const preview = h("div", { class: "schedule-preview", role: "status" });
  const submit = h("button", { type: "submit", class: "button button-primary", disabled: true }, "Create schedule");
  let checked = null;
  let asking = null;

  const ask = throttle(async () => {
    const own = asking = new AbortController();
    const body = bodyOf(draft);
    if (body === null) return replace(preview, h("p", { class: "muted" }, "Choose a target and type a power for each step: the next occurrences are shown here before anything is created."));
    try {
      const answer = await post("/schedules", { ...body, dry_run: true }, { signal: AbortSignal.any([signal, own.signal]) });
      if (own.signal.aborted) return undefined;
      checked = body;
      submit.disabled = false;
      setText(problem, "");
      replace(preview, previewOf(answer));
    } catch (error) {
      if (error.name === "AbortError") return undefined;
      if (!(error instanceof ApiError)) throw error;
      replace(preview, h("p", { class: "form-error" }, h("bdi", null, error.message.slice(0, 1000))));
    }
    return undefined;
  }, 300, signal);
  // At once: what is created is what the form has, not what it had.
  const check = () => {
    asking?.abort();
    checked = null;
    submit.disabled = true;
    ask();
  };

  const create = async (event) => {
    event.preventDefault();
    if (checked === null) return;
    submit.disabled = true;
    try {
      const schedule = await post("/schedules", checked, { idempotencyKey: keys.keyOf(checked) });
      keys.answered();
      toast("The schedule is created.");
      if (!signal.aborted) navigate(`/schedules/${schedule.schedule_id}`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const unknown = isOutcomeUnknown(error);
      if (!unknown && error.status !== 503) keys.answered();
      setText(problem, unknown
        ? `Whether it was created is not known: ${error.message} Creating the same again is safe: it is created once.`
        : error.message);
      submit.disabled = false;
    }
  };
  const form = h("form", { class: "schedule-form", novalidate: true, "aria-label": "New schedule", signal, on: { submit: (event) => void create(event) } },
    targetField({ ...target, signal, onChange: (chosen) => { draft.target = chosen; check(); } }).element,
    whenFields(draft, check, signal), stepFields(draft, check, signal), problem,
    h("div", { class: "form-actions" }, submit, curlButton({ request: () => (checked ? { method: "POST", path: "/schedules", body: checked } : null), signal })));
  parent.append(h("div", { class: "schedule-form-columns" },
    panel({ title: "New schedule" }, form), panel({ title: "What it will do" }, preview)));
  check();
}

/** The next full hour, as `datetime-local` has it. */
function nextHour() {
  const date = new Date(Math.ceil((fleet.now() + 60_000) / 3_600_000) * 3_600_000);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}T${two(date.getHours())}:00`;
}

const two = (value) => String(value).padStart(2, "0");

/** The body of the draft; null while something is missing. */
function bodyOf({ target: { kind, ids }, start, zone, recurrence, steps }) {
  if (kind !== "fleet" && ids.length === 0) return null;
  const all = steps.map(({ mw, duration, unit }) => ({ mw: parseNumber(mw), duration_s: Math.round((parseNumber(duration) ?? NaN) * UNITS[unit]) }));
  if (!start || all.some((step) => step.mw === null || !(step.duration_s > 0))) return null;
  const rule = ruleOf(recurrence);
  return {
    ...(kind === "fleet" ? { fleet: true } : kind === "site" ? { site_id: ids[0] } : kind === "asset" ? { asset_id: ids[0] } : { asset_ids: ids }),
    start: start.length === 16 ? `${start}:00` : start, timezone: zone, ...(rule ? { recurrence: rule } : {}), steps: all,
  };
}

function previewOf({ steps, next_occurrences: next, overlaps, recurrence, timezone }) {
  return [
    facts([["Power", stepsText(steps)], ["Recurrence", recurrenceText(recurrence)], ["Clock", timezone]]),
    h("h3", { class: "small-heading" }, `Next occurrences, ${zoneName()}`),
    next.length ? h("ol", { class: "occurrence-list" }, next.slice(0, 5).map(({ start, local_start: local }) => h("li", { class: "number", title: local }, dateMinute(start))))
      : h("p", { class: "muted" }, "None is to come."),
    overlaps.length ? h("div", { class: "note-warning" }, h("p", null, `▲ Overlaps with ${plural(overlaps.length, "schedule")} within a month: the occurrence that starts later has the shared assets.`),
      h("ul", null, overlaps.slice(0, 5).map((overlap) => h("li", null,
        overlap.schedule_id ? h("a", { href: `/schedules/${overlap.schedule_id}` }, "schedule") : "a schedule that you do not see",
        ` at ${dateMinute(overlap.start)}, ${plural(overlap.assets, "asset")}`)))) : null,
  ];
}

function whenFields(draft, check, signal) {
  const start = h("input", { type: "datetime-local", step: 1, class: "input", id: "start", value: draft.start, required: true, signal, on: { input: () => { draft.start = start.value; check(); } } });
  const zone = h("select", { class: "select", id: "zone", signal, on: { change: () => { draft.zone = zone.value; check(); } } }, ZONES().map((name) => h("option", { value: name, selected: name === draft.zone }, name)));
  const rule = h("input", { class: "input mono", id: "rule", value: draft.recurrence.rule, autocomplete: "off", spellcheck: "false", signal, on: { input: () => { draft.recurrence.rule = rule.value; check(); } } });
  const ruleField = h("div", { class: "field" }, h("label", { for: "rule" }, "Rule (RRULE of RFC 5545)"), rule);
  const days = h("fieldset", { class: "field" }, h("legend", null, "On"), h("div", { class: "day-checks" }, DAYS.map(([key, text]) => {
    const box = h("input", { type: "checkbox", checked: draft.recurrence.days.includes(key), signal, on: { change: () => {
      draft.recurrence.days = box.checked ? [...draft.recurrence.days, key] : draft.recurrence.days.filter((name) => name !== key);
      check();
    } } });
    return h("label", { class: "check" }, box, text);
  })));
  const showKind = () => {
    ruleField.hidden = draft.recurrence.kind !== "rule";
    days.hidden = draft.recurrence.kind !== "weekly";
  };
  const kinds = choice({
    label: "Recurrence", signal, value: draft.recurrence.kind,
    options: [["once", "Once"], ["daily", "Daily"], ["workdays", "Mon to Fri"], ["weekly", "Weekly"], ["rule", "Rule"]],
    onChange: (kind) => { draft.recurrence.kind = kind; showKind(); check(); },
  });
  showKind();
  return h("div", { class: "form-fields" },
    h("div", { class: "form-row" }, h("div", { class: "field" }, h("label", { for: "start" }, "Start"), start), h("div", { class: "field" }, h("label", { for: "zone" }, "Time zone of the clock"), zone)),
    h("div", { class: "field" }, h("span", { class: "field-label" }, "Recurrence"), kinds.element), days, ruleField);
}

function stepFields(draft, check, signal) {
  const list = h("ol", { class: "step-list" });
  const show = () => replace(list, draft.steps.map((step, index) => {
    const change = (name) => (event) => { step[name] = event.target.value; check(); };
    const label = `step ${index + 1}`;
    return h("li", { class: "step-row" },
      h("input", { class: "input number", inputmode: "decimal", value: step.mw, "aria-label": `MW of ${label}`, placeholder: "MW", autocomplete: "off", signal, on: { input: change("mw") } }),
      h("span", { class: "unit" }, "MW for"),
      h("input", { class: "input number", inputmode: "decimal", value: step.duration, "aria-label": `Duration of ${label}`, autocomplete: "off", signal, on: { input: change("duration") } }),
      h("select", { class: "select", "aria-label": `Unit of the duration of ${label}`, signal, on: { change: change("unit") } }, [["min", "min"], ["h", "h"], ["s", "s"]].map(([value, text]) => h("option", { value, selected: value === step.unit }, text))),
      draft.steps.length > 1 ? h("button", { type: "button", class: "button button-quiet", "aria-label": `Remove ${label}`, on: { click: () => { draft.steps.splice(index, 1); show(); check(); } } }, "Remove") : null);
  }));
  const add = h("button", { type: "button", class: "button", signal, on: { click: () => { draft.steps.push({ ...draft.steps.at(-1) }); show(); check(); } } }, "Add a step");
  show();
  return h("fieldset", { class: "field" }, h("legend", null, "Steps, one after the other. + discharges to the grid, − charges."), list, h("div", null, add));
}

