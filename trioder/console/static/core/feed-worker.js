/**
 * One live feed for all tabs of a browser (HTTP/1.1 permits six connections to a host), shared as a
 * SharedWorker; where browsers lack that, a worker of one tab.
 *
 * From a tab: {kind: "show"}, {kind: "hide"}.
 * To a tab: {kind: "snapshot", state, link, complete}, {kind: "event", name, data, id}, {kind: "link", link}.
 * `link` is {status: "connecting" | "open" | "lost" | "unauthorized", since: epoch ms by this machine, reason}.
 */

import { followEvents, StreamRefused } from "./event-stream.js";
import { Mirror } from "./mirror.js";
import { onSessionChange } from "./session-change.js";

const RETRY_MS = { first: 500, most: 2000 };
/** The stream ends this long after the last tab was hidden: moving between tabs keeps it. */
const IDLE_MS = 5000;
/** A heartbeat comes every 2 s: without anything for so long the connection is dead, whatever TCP says. */
const SILENCE_MS = 4500;

const visible = new Set();
const mirror = new Mirror();
let link = { status: "connecting", since: Date.now(), reason: "" };
let complete = false;
let lastEventId = "";
let following = null;
let idleTimer = 0;

if ("onconnect" in self) self.onconnect = ({ ports }) => addTab(ports[0]);
else addTab(self);
onSessionChange(restart);

function addTab(port) {
  port.onmessage = ({ data }) => {
    if (data.kind === "show") show(port);
    else if (data.kind === "hide") hide(port);
  };
  port.addEventListener?.("close", () => hide(port));
  port.start?.();
}

function show(port) {
  clearTimeout(idleTimer);
  visible.add(port);
  port.postMessage({ kind: "snapshot", state: mirror.snapshot(), link, complete });
  if (following === null) follow();
}

function hide(port) {
  visible.delete(port);
  if (visible.size > 0) return;
  clearTimeout(idleTimer);
  idleTimer = setTimeout(end, IDLE_MS);
}

/** Begins anew, as another user. */
function restart() {
  end();
  forget();
  if (visible.size > 0) follow();
}

function forget() {
  lastEventId = "";
  complete = false;
  mirror.clear();
  for (const port of visible) port.postMessage({ kind: "snapshot", state: mirror.snapshot(), link, complete });
}

function end() {
  following?.abort();
  following = null;
  setLink("connecting", "");
}

async function follow() {
  const controller = new AbortController();
  following = controller;
  let delay = RETRY_MS.first;
  while (!controller.signal.aborted) {
    const reason = await once(controller.signal, () => (delay = RETRY_MS.first));
    if (controller.signal.aborted) return;
    if (reason === "unauthorized") {
      setLink("unauthorized", "");
      forget();
      following = null;
      return;
    }
    setLink("lost", reason);
    await pause(delay, controller.signal);
    delay = Math.min(RETRY_MS.most, delay * 1.5);
  }
}

/** Follows one connection to its end, and returns why it ended. */
async function once(outer, received) {
  const connection = new AbortController();
  const stop = () => connection.abort();
  outer.addEventListener("abort", stop);
  let reason = "the headend ended the stream";
  let watchdog = setTimeout(stop, SILENCE_MS);
  try {
    await followEvents("/api/stream", {
      signal: connection.signal,
      lastEventId,
      receive: (event) => {
        clearTimeout(watchdog);
        watchdog = setTimeout(stop, SILENCE_MS);
        received();
        receive(event);
      },
    });
  } catch (error) {
    if (error instanceof StreamRefused && error.status === 401) return "unauthorized";
    if (error instanceof StreamRefused && error.status === 400) lastEventId = "";
    reason = error instanceof StreamRefused ? refusal(error.status) : connection.signal.aborted ? "nothing was received for 4.5 s" : "the connection was lost";
  } finally {
    clearTimeout(watchdog);
    outer.removeEventListener("abort", stop);
  }
  return reason;
}

const refusal = (status) => (status === 502 ? "the headend cannot be reached" : `the headend refused the stream (${status})`);

function receive({ name, data, id }) {
  const value = JSON.parse(data);
  if (name === "begin") complete = false;
  if (name === "complete") complete = true;
  mirror.apply(name, value);
  if (id) lastEventId = id;
  // Before `begin` the mirror is what was received earlier: not live yet.
  if (link.status !== "open" && (name === "complete" || complete)) setLink("open", "");
  for (const port of visible) port.postMessage({ kind: "event", name, data: value, id });
}

function setLink(status, reason) {
  const since = link.status === status ? link.since : Date.now();
  link = { status, since, reason };
  for (const port of visible) port.postMessage({ kind: "link", link });
}

const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
