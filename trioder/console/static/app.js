/** The console: log-in, shell and routes. */

import { onUnauthorized } from "./core/api.js";
import { fleet } from "./core/fleet-state.js";
import { navigate, openRouter, setRouter } from "./core/router.js";
import { session } from "./core/session.js";
import { onSessionChange } from "./core/session-change.js";
import { openTheme } from "./core/theme.js";
import { failedPage, notFoundPage } from "./pages/errors.js";
import { openShell } from "./shell.js";

const ROUTES = [
  { pattern: "/", nav: "/", load: () => import("./pages/fleet.js") },
  { pattern: "/assets", nav: "/assets", load: () => import("./pages/assets.js") },
  { pattern: "/assets/{id}", nav: "/assets", load: () => import("./pages/asset.js") },
  { pattern: "/sites/{id}", nav: "/assets", load: () => import("./pages/site.js") },
  { pattern: "/dispatch", nav: "/dispatch", load: () => import("./pages/dispatch.js") },
  { pattern: "/dispatch/{id}", nav: "/dispatch", load: () => import("./pages/dispatch-detail.js") },
  { pattern: "/schedules", nav: "/schedules", load: () => import("./pages/schedules.js") },
  { pattern: "/schedules/{id}", nav: "/schedules", load: () => import("./pages/schedule.js") },
  { pattern: "/alarms", nav: "/alarms", load: () => import("./pages/alarms.js") },
  { pattern: "/alarms/{id}", nav: "/alarms", load: () => import("./pages/alarm.js") },
  { pattern: "/events", nav: "/events", load: () => import("./pages/events.js") },
  { pattern: "/agents", nav: "/agents", load: () => import("./pages/agents.js") },
  { pattern: "/audit", nav: "/audit", load: () => import("./pages/audit.js") },
  { pattern: "/docs", nav: "/docs", load: () => import("./pages/docs.js") },
  { pattern: "/login", load: () => import("./pages/login.js") },
];

// The console lives as long as the tab.
const signal = new AbortController().signal;
openTheme(signal);
// A new document: nothing of the user before is left in memory.
onSessionChange(() => location.reload());
const shell = openShell({ signal });
document.body.append(shell.element);
await start();

async function start() {
  if ((await session.load()) === "login") return open(location.pathname === "/login" ? null : "/login");
  fleet.open(signal);
  fleet.on("link", ({ status }) => {
    if (status === "unauthorized") toLogin();
    // The headend was away when the console was opened.
    else if (status === "live" && session.user === null) void session.load().then(() => shell.refresh());
  }, signal);
  void fleet.loadAssets();
  return open(null);
}

function open(path) {
  if (path !== null) history.replaceState(null, "", `${path}?next=${encodeURIComponent(location.pathname + location.search)}`);
  setRouter(openRouter({
    routes: ROUTES, view: shell.view, signal, onOpen: (route) => shell.show(route), notFound: notFoundPage, failed: failedPage,
  }));
  onUnauthorized(toLogin);
  shell.refresh();
}

function toLogin() {
  if (location.pathname === "/login") return;
  session.user = null;
  navigate(`/login?next=${encodeURIComponent(location.pathname + location.search)}`, { replace: true });
}
