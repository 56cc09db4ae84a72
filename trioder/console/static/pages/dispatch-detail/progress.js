/** The lifecycle of a dispatch: steps with their times and counts, and how many batteries are in which state. */

import { stateBar } from "../../components/state-bar.js";
import { stepsOf } from "../../core/dispatch-progress.js";
import { h, replace, setText } from "../../core/dom.js";
import { count, dateTime, plural, time, wholeTime } from "../../core/format.js";
import { isOpen } from "../../core/lifecycle.js";

const LABELS = { sent: "Sent", acknowledged: "Acknowledged", tracking: "Tracking", ended: "Ended" };

/**
 * @param {{signal: AbortSignal, chosen: string | null, onChoose: (state: string | null) => void}} options
 * @returns {{element: HTMLElement, show: (dispatch: object, allocations: object[] | null) => void}}
 */
export function openProgress({ signal, chosen, onChoose }) {
  let last = null;
  const choose = (state) => {
    chosen = state;
    onChoose(state);
    bar.show(last, chosen);
  };
  const bar = stateBar({ onChoose: choose, signal });
  const line = h("ol", { class: "step-line", "aria-label": "Lifecycle" });
  const sentence = h("p", { class: "progress-text", role: "status" });
  return {
    element: h("div", { class: "live progress" }, line, sentence, bar.element),
    show(dispatch, allocations) {
      last = dispatch;
      const members = dispatch.members;
      const steps = stepsOf(dispatch, allocations);
      replace(line,
        step({ label: "Requested", state: "done", when: "", title: wholeTime(dispatch.dispatched_at), text: dateTime(dispatch.dispatched_at) }),
        steps.map((each) => step({
          label: LABELS[each.step],
          state: each.count >= members && members > 0 ? "done" : each.count > 0 ? "partly" : "none",
          when: timesText(each, dispatch.resplits.length > 0 && ["sent", "acknowledged"].includes(each.step)), title: each.last ? wholeTime(each.last) : "",
          text: each.step === "ended" && isOpen(dispatch) && each.count === 0 ? endText(dispatch) : `${count(each.count)} of ${count(members)}`,
        })));
      setText(sentence, sentenceOf(dispatch, steps));
      bar.show(dispatch, chosen);
    },
  };
}

const SYMBOLS = { done: "●", partly: "◐", none: "○" };

function step({ label, state, when, title, text }) {
  return h("li", { class: "step", dataset: { state } },
    h("span", { class: "step-symbol", "aria-hidden": "true" }, SYMBOLS[state]),
    h("span", { class: "step-label" }, label),
    h("span", { class: "step-count number" }, text),
    h("span", { class: "step-time number muted", title: title || null }, when));
}

/** "14:03:22", or from the first to the last; of setpoints that were sent anew with other shares, the last. */
function timesText({ first, last }, anew) {
  if (first === null) return "";
  if (anew) return `last at ${time(last)}`;
  return time(first) === time(last) ? time(first) : `${time(first)} to ${time(last)}`;
}

/** "8,412 of 10,000 batteries acknowledged, 3 deferred". */
function sentenceOf(dispatch, steps) {
  const { by_state: byState, members } = dispatch;
  if (members === 0) return "No asset takes part";
  const acknowledged = steps.find(({ step: name }) => name === "acknowledged").count;
  const waiting = ["deferred", "queued"].filter((state) => byState[state] > 0).map((state) => `, ${count(byState[state])} ${state}`);
  return `${count(acknowledged)} of ${plural(members, "asset")} acknowledged${waiting.join("")}`;
}

const endText = ({ ends_at: endsAt }) => (endsAt ? `due ${time(endsAt)}` : "no end");
