/** The states of a dispatch, as `trioder/domain/lifecycle.py` defines them (docs/dispatch.md). */

export const TERMINAL = new Set(["rejected", "completed", "not_tracked", "superseded", "expired", "failed", "cancelled"]);

/** States that are no success: something has to be understood, or done. */
export const UNWANTED = new Set(["rejected", "not_tracked", "expired", "failed", "deviating", "clamped"]);

/** @param {{state: string}} dispatch */
export const isOpen = ({ state }) => !TERMINAL.has(state);
