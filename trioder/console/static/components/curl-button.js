/** "Copy as curl": a command for a terminal that does what the console does. */

import { curlCommand } from "../core/curl.js";
import { h } from "../core/dom.js";
import { session } from "../core/session.js";
import { copyText } from "./dialog.js";

/**
 * @param {{request: () => {method?: string, path: string, body?: any} | null, signal: AbortSignal}} options  request: what
 *   the command sends, when it is pressed
 * @returns {HTMLButtonElement}
 */
export function curlButton({ request, signal }) {
  const copy = () => {
    const wanted = request();
    if (wanted === null) return;
    const token = !session.open;
    const message = token ? "Copied. Set TRIODER_TOKEN to a token first." : "Copied.";
    void copyText(curlCommand({ method: "GET", ...wanted, token }), { message });
  };
  return h("button", { type: "button", class: "button", signal, title: "Copies a command for a terminal that sends this to the headend", on: { click: copy } }, "Copy as curl");
}
