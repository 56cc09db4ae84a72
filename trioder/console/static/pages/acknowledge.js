/** Acknowledges alarms. */

import { toast } from "../components/dialog.js";
import { ApiError, post } from "../core/api.js";
import { h } from "../core/dom.js";
import { session } from "../core/session.js";

/**
 * A button that acknowledges an alarm; null for who may not.
 * @param {{alarm_id: string, acknowledged_at: string | null}} alarm
 * @param {{signal: AbortSignal, comment?: () => string, done: (alarm: object) => void, small?: boolean}} options  small: for a row of a table
 */
export function acknowledgeButton(alarm, { signal, comment = () => "", done, small = true }) {
  if (!session.may("operator")) return null;
  const run = async () => {
    button.disabled = true;
    try {
      const text = comment().trim();
      done(await post(`/alarms/${alarm.alarm_id}/acknowledge`, text ? { comment: text } : {}, { signal }));
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      button.disabled = false;
      toast(`Not acknowledged: ${error.message}`, { kind: "error" });
    }
  };
  const button = h("button", { type: "button", class: ["button", small ? "button-small" : "button-primary"], signal, on: { click: (event) => { event.stopPropagation(); void run(); } } }, "Acknowledge");
  return button;
}
