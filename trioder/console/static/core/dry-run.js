/**
 * Previews of a dispatch while it is typed: one dry run at a time, of the newest body. What is shown is never the
 * answer to an earlier body.
 */

import { ApiError, post } from "./api.js";

const DEBOUNCE_MS = 250;
/** What batteries can hold changes all the time: a preview is made again after so long. */
const REPEAT_MS = 10_000;

/**
 * @typedef {object} Preview
 * @property {"none" | "asking" | "ready" | "error"} status
 * @property {object | null} body    what is asked, or was answered
 * @property {object | null} answer  of `body` if ready; of an earlier one, to be shown as outdated, while asking
 * @property {ApiError | null} error
 */

/**
 * Opens the dry runs of a form, until `signal`.
 *
 * @param {{onChange: (preview: Preview) => void, signal: AbortSignal, debounceMs?: number,
 *   withAllocations: (body: object) => boolean,
 *   send?: (path: string, body: object, options: {signal: AbortSignal}) => Promise<object>}} options
 *   withAllocations: whether the answer is to have a row for each battery
 * @returns {{preview: Preview, setBody: (body: object | null) => void, ask: () => Promise<Preview>}}  ask: at once,
 *   with the present body; resolves when it is answered, or replaced
 */
export function openDryRuns({ onChange, signal, withAllocations, debounceMs = DEBOUNCE_MS, send = post }) {
  /** @type {Preview} */
  let preview = { status: "none", body: null, answer: null, error: null };
  let asking = null;
  let timer = 0;
  const change = (next) => {
    preview = next;
    onChange(preview);
  };

  const ask = async () => {
    clearTimeout(timer);
    asking?.abort();
    const { body } = preview;
    if (body === null || signal.aborted) return preview;
    const request = new AbortController();
    asking = request;
    try {
      const query = withAllocations(body) ? "" : "?allocations=false";
      const answer = await send(`/dispatch${query}`, { ...body, dry_run: true }, { signal: request.signal });
      if (!request.signal.aborted) change({ status: "ready", body, answer, error: null });
    } catch (error) {
      if (request.signal.aborted || error.name === "AbortError") return preview;
      if (!(error instanceof ApiError)) throw error;
      change({ status: "error", body, answer: null, error });
    }
    if (asking === request) timer = setTimeout(repeat, REPEAT_MS);
    return preview;
  };
  const repeat = () => {
    if (document.hidden || document.querySelector("dialog[open]")) timer = setTimeout(repeat, REPEAT_MS);
    else void ask();
  };

  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    asking?.abort();
  });
  return {
    get preview() {
      return preview;
    },
    setBody(body) {
      if (JSON.stringify(body) === JSON.stringify(preview.body)) return;
      clearTimeout(timer);
      // Its answer would be to what is no longer typed.
      asking?.abort();
      if (body === null) return change({ status: "none", body: null, answer: null, error: null });
      change({ status: "asking", body, answer: preview.answer, error: null });
      timer = setTimeout(() => void ask(), debounceMs);
      return undefined;
    },
    ask,
  };
}
