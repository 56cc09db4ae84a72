/**
 * A log-in or a log-out in any tab of this browser: tabs, and the worker of the live feed, share one cookie, so
 * that nothing of the user before may stay in any of them.
 */

// One for this document or worker: it does not receive what it sends itself.
const channel = new BroadcastChannel("trioder.session");

/** Lets all others know that another user, or nobody, is logged in now. */
export function announceSessionChange() {
  channel.postMessage(null);
}

/**
 * Calls `listener` when the user has changed elsewhere.
 * @param {() => void} listener
 */
export function onSessionChange(listener) {
  channel.addEventListener("message", listener);
}
