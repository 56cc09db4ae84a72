/** The form of a dispatch: each change is a new draft, whose body is previewed, and sent when it is confirmed. */

import { choice, panel } from "../../components/page.js";
import { targetField } from "../../components/target-field.js";
import { bodyOf, DURATIONS, parseNumber } from "../../core/dispatch-body.js";
import { STRATEGIES } from "../../core/dispatch-texts.js";
import { h, setText } from "../../core/dom.js";
import { fleet } from "../../core/fleet-state.js";
import { mw } from "../../core/format.js";
import { openDryRuns } from "../../core/dry-run.js";
import { confirmDispatch } from "./confirm.js";
import { openPreview } from "./preview.js";

/** Above so many batteries the answers are without a row for each, until they are asked for. */
const WITH_ALLOCATIONS = 2000;

/**
 * Opens form and preview in `element`, until `signal`.
 * @param {HTMLElement} element
 * @param {{draft: import("../../core/dispatch-body.js").Draft, signal: AbortSignal}} options
 */
export function openForm(element, { draft, signal }) {
  let wantsAllocations = false;
  const runs = openDryRuns({
    signal,
    withAllocations: (body) => wantsAllocations || sizeOf(body) <= WITH_ALLOCATIONS,
    onChange: (state) => {
      preview.show(state);
      submit.disabled = !canDispatch(state);
    },
  });
  const message = h("p", { class: "form-error", role: "alert" });
  const submit = h("button", { type: "submit", class: "button button-primary", disabled: true }, "Dispatch …");
  const fields = formFields(draft, changed, signal);
  const form = h("form", { class: "dispatch-form", novalidate: true, "aria-label": "New dispatch", signal, on: { submit: (event) => {
    event.preventDefault();
    if (!submit.disabled) void confirmed();
  } } }, fields.element, message, h("div", { class: "form-actions" }, submit));
  const previewPlace = h("div", { class: "dispatch-preview-place" });
  element.append(panel({ title: "New dispatch", class: "dispatch-form-panel" }, form), previewPlace);
  const preview = openPreview(previewPlace, { signal, onAllocations: () => {
    wantsAllocations = true;
    return runs.ask();
  } });

  function changed() {
    const { body, problems } = bodyOf(draft);
    fields.showProblems(problems);
    setText(message, "");
    wantsAllocations = false;
    submit.disabled = true;
    runs.setBody(body);
    preview.show(runs.preview);
    submit.disabled = !canDispatch(runs.preview);
  }
  async function confirmed() {
    submit.disabled = true;
    try {
      await confirmDispatch({ runs, signal, onProblem: (text) => setText(message, text) });
    } finally {
      submit.disabled = !canDispatch(runs.preview);
    }
  }
  changed();
}

const canDispatch = ({ status, answer }) => status === "ready" && answer.members > 0;

function sizeOf(body) {
  if (body.fleet) return fleet.assets.size || Infinity;
  return body.site_id ? (fleet.sites.get(body.site_id)?.assetIds.length ?? 0) : (body.asset_ids?.length ?? 1);
}

function formFields(draft, changed, signal) {
  const set = (changes) => {
    Object.assign(draft, changes);
    showDependent();
    changed();
  };
  const target = targetField({ kind: draft.kind, ids: draft.ids, signal, onChange: ({ kind, ids }) => set({ kind, ids }) });

  const direction = choice({ label: "Direction", value: draft.direction, signal, options: [["discharge", "▲ Discharge"], ["charge", "▼ Charge"]],
    onChange: (value) => set({ direction: value }) });
  const magnitude = numberField({ id: "magnitude", label: "Power in MW", value: draft.magnitude, signal, onInput: (text) => {
    // A typed sign says the direction.
    const sign = /^\s*([+\-−])/.exec(text)?.[1];
    if (sign) {
      draft.direction = sign === "+" ? "discharge" : "charge";
      direction.set(draft.direction);
      magnitude.input.value = text.replace(/^\s*[+\-−]/, "");
    }
    set({ magnitude: magnitude.input.value });
  } });
  const signed = h("output", { class: "signed-power number", for: "magnitude" });

  const duration = choice({ label: "Duration", value: draft.duration, options: DURATIONS, signal, onChange: (value) => {
    set({ duration: value });
    if (value === "own") own.input.focus();
  } });
  const own = numberField({ id: "own-duration", label: "Own duration", value: draft.ownDuration, signal, onInput: (text) => set({ ownDuration: text }) });
  const unit = h("select", { class: "select", id: "own-unit", "aria-label": "Unit of the own duration", signal, on: { change: () => set({ ownUnit: unit.value }) } },
    [["s", "seconds"], ["min", "minutes"], ["h", "hours"]].map(([value, text]) => h("option", { value, selected: value === draft.ownUnit }, text)));
  const ownRow = h("div", { class: "own-duration" }, own.element, unit);
  const noEnd = h("p", { class: "field-note muted" }, "Held until the next dispatch to these assets. What is allocated lasts for 15 minutes at least.");

  const reversion = numberField({ id: "reversion", label: "Reversion in MW", value: draft.reversion, signal, onInput: (text) => set({ reversion: text }),
    note: "What follows the end; − charges. Of many assets, the total." });
  const strategy = h("select", { class: "select", id: "strategy", signal, on: { change: () => set({ strategy: strategy.value }) } },
    Object.entries(STRATEGIES).map(([value, text]) => h("option", { value, selected: value === draft.strategy }, text)));
  const resplit = h("input", { type: "checkbox", id: "resplit", checked: draft.resplit, signal, on: { change: () => set({ resplit: resplit.checked }) } });
  const group = h("div", { class: "group-fields" },
    h("div", { class: "field" }, h("label", { for: "strategy" }, "Split"), strategy),
    h("label", { class: "check" }, resplit, "Reallocate the power of an asset that drops out"));
  const isUsual = Number(draft.reversion || 0) === 0 && draft.strategy === "headroom" && draft.resplit;
  const more = h("details", { class: "more", open: !isUsual }, h("summary", null, "More"), h("div", { class: "more-fields" }, reversion.element, group));

  function showDependent() {
    ownRow.hidden = draft.duration !== "own";
    noEnd.hidden = draft.duration !== "none";
    group.hidden = draft.kind === "asset";
    const value = parseNumber(draft.magnitude);
    setText(signed, value === null ? "" : `= ${draft.direction === "charge" || value <= 0 ? "" : "+"}${mw(draft.direction === "charge" ? -value : value)}`);
  }
  showDependent();
  return {
    element: h("div", { class: "form-fields" }, target.element,
      h("div", { class: "power-row" }, h("div", { class: "field" }, h("span", { class: "field-label" }, "Direction"), direction.element), magnitude.element), signed,
      h("div", { class: "field" }, h("span", { class: "field-label" }, "Duration"), duration.element), ownRow, noEnd, more),
    showProblems(problems) {
      magnitude.showProblem(problems.magnitude);
      own.showProblem(problems.duration);
      reversion.showProblem(problems.reversion);
    },
  };
}

function numberField({ id, label, value, onInput, note = "", signal }) {
  const problem = h("p", { class: "form-error", id: `${id}-problem` });
  const input = h("input", { type: "text", inputmode: "decimal", id, class: "input number", value, autocomplete: "off", "aria-describedby": `${id}-problem`, signal,
    on: { input: () => onInput(input.value) } });
  return {
    input,
    element: h("div", { class: "field" }, h("label", { for: id }, label), input, note ? h("p", { class: "field-note muted" }, note) : null, problem),
    showProblem(text = "") {
      setText(problem, text);
      if (text) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    },
  };
}
