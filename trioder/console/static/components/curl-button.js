/** "Copy as curl": a command for a terminal that does what the console does. */

import { h } from "../core/dom.js";
import { session } from "../core/session.js";
import { curlCommand } from "../core/shell-command.js";
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
    const note = token ? "Copied. Set TRIODER_TOKEN to a token first." : "Copied.";
    void copyText(curlCommand({ ...wanted, token }), { message: `${note} It uses port 3001 of this host.` });
  };
  return h("button", { type: "button", class: "button", signal, title: "Copies a command that sends this to the headend, at port 3001 of this host", on: { click: copy } }, "Copy as curl");
}
