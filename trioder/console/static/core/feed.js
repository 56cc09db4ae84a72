/**
 * A tab's end of the live feed: passes events on, and decides whether values are live. While a tab is hidden
 * it receives nothing; when it is shown again it begins with a snapshot.
 */

/** Without any event for so long the feed is lost, whatever the worker says (it sends one every 2 s). */
const SILENCE_MS = 4000;

/**
 * @typedef {object} Link
 * @property {"connecting" | "live" | "lost" | "unauthorized"} status
 * @property {number} since   epoch ms by this machine: when the last value was received, if lost
 * @property {string} reason  why it is lost
 */

/**
 * Connects this tab to the live feed, until `signal`.
 *
 * @param {{onSnapshot: (state: object, complete: boolean) => void,
 *          onEvent: (name: string, data: any) => void,
 *          onLink: (link: Link) => void,
 *          signal: AbortSignal}} options
 */
export function openFeed({ onSnapshot, onEvent, onLink, signal }) {
  const port = connect();
  let lastEventAt = 0;
  let link = { status: "connecting", since: Date.now(), reason: "" };
  onLink(link);

  const setLink = (status, reason, since = Date.now()) => {
    if (link.status === status && link.reason === reason) return;
    link = { status, reason, since: link.status === "lost" && status === "lost" ? link.since : since };
    onLink(link);
  };
  const followLink = ({ status, reason, since }) => {
    if (status === "open") setLink("live", "");
    else if (status === "lost") setLink("lost", reason, lastEventAt || since);
    else if (status === "unauthorized") setLink("unauthorized", "");
    else if (link.status === "unauthorized") setLink("connecting", "");
  };

  port.onmessage = ({ data: message }) => {
    if (message.kind === "link") return followLink(message.link);
    lastEventAt = Date.now();
    if (message.kind === "snapshot") {
      // The worker keeps the last values of a feed that is lost.
      if (message.link.status === "lost") lastEventAt = message.link.since;
      onSnapshot(message.state, message.complete);
      return followLink(message.link);
    }
    onEvent(message.name, message.data);
    if (link.status === "lost" && link.reason === SILENT) setLink("live", "");
    return undefined;
  };
  port.start?.();

  const watch = setInterval(() => {
    if (document.hidden || link.status !== "live" || Date.now() - lastEventAt < SILENCE_MS) return;
    setLink("lost", SILENT, lastEventAt);
  }, 250);
  const showOrHide = () => port.postMessage({ kind: document.hidden ? "hide" : "show" });
  document.addEventListener("visibilitychange", showOrHide, { signal });
  window.addEventListener("pagehide", () => port.postMessage({ kind: "hide" }), { signal });
  window.addEventListener("pageshow", (event) => event.persisted && showOrHide(), { signal });
  showOrHide();
  signal.addEventListener("abort", () => {
    clearInterval(watch);
    port.postMessage({ kind: "hide" });
  });
}

const SILENT = "nothing was received for 4 s";

// The only script URL that this policy makes.
const WORKER = "/static/core/feed-worker.js";

function connect() {
  const policy = self.trustedTypes?.createPolicy("trioder", { createScriptURL: () => WORKER });
  const url = policy ? policy.createScriptURL(WORKER) : WORKER;
  if ("SharedWorker" in self) return new SharedWorker(url, { type: "module", name: "trioder-feed" }).port;
  return new Worker(url, { type: "module" });
}
