/**
 * The allocations of one dispatch. Up to 100 setpoints each change comes with the feed; of larger groups they are
 * read page by page, and again while the counts change.
 */

import { ApiError, get } from "../../core/api.js";
import { throttle } from "../../core/dom.js";
import { fleet } from "../../core/fleet-state.js";

const PAGE = 1000;
/** The feed has the setpoints of dispatches up to this size. */
const IN_FEED = 100;
/** How often a large group is read anew while it changes: by its size, so that reading stays a small part. */
const AGAIN_MS = { 1000: 3000, 10_000: 15_000 };

/**
 * @param {{id: string, dispatch: () => object, signal: AbortSignal, onChange: () => void}} options
 * @returns {{rows: object[], complete: boolean, live: boolean, readAt: number | null, error: ApiError | null,
 *   apply: (setpoints: object[] | null) => void, reload: () => void}}  readAt: epoch ms by the headend's clock; live:
 *   rows are kept up to date by the feed
 */
export function openAllocations({ id, dispatch, signal, onChange }) {
  const { members, left_out: leftOut } = dispatch();
  const live = members <= IN_FEED;
  const store = { rows: [], complete: false, live, readAt: null, error: null, apply, reload: () => void read() };
  let reading = null;
  const interval = members + leftOut <= 1000 ? AGAIN_MS[1000] : AGAIN_MS[10_000];
  const again = throttle(() => void read(), interval, signal);

  async function read() {
    reading?.abort();
    const request = new AbortController();
    reading = request;
    try {
      const rows = [];
      const readAt = fleet.now();
      for (;;) {
        const part = await get(`/dispatch/${encodeURIComponent(id)}/allocations`, { signal: request.signal, query: { limit: PAGE, after: rows.at(-1)?.asset_id } });
        rows.push(...part);
        // The first reading shows what there is; a later one replaces all at once.
        if (!store.complete) publish(rows.slice(), part.length < PAGE, readAt);
        if (part.length < PAGE) break;
      }
      publish(rows, true, readAt);
    } catch (error) {
      if (request.signal.aborted || error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      store.error = error;
      onChange();
    }
  }

  function publish(rows, complete, readAt) {
    Object.assign(store, { rows, complete, readAt, error: null });
    onChange();
  }

  /** Applies what an event of the feed has: the setpoints that have changed, or null for too many. */
  function apply(setpoints) {
    if (setpoints === null) return again();
    const changed = new Map(setpoints.map((row) => [row.asset_id, row]));
    store.rows = store.rows.map((row) => changed.get(row.asset_id) ?? row);
    if (!store.complete) return undefined;
    const known = new Set(store.rows.map((row) => row.asset_id));
    const { members: present, left_out: without } = dispatch();
    // Others take part than were read.
    if (present + without !== known.size || setpoints.some((row) => !known.has(row.asset_id))) again();
    return undefined;
  }

  signal.addEventListener("abort", () => reading?.abort());
  void read();
  return store;
}
