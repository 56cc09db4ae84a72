/** What surrounds every page: navigation, the state of the feed, the clock, who is logged in. */

import { toast } from "./components/dialog.js";
import { stopBanner } from "./components/stop-banner.js";
import { stopButton, targetOfPage } from "./components/stop.js";
import { ApiError, logOut } from "./core/api.js";
import { every, h, replace, setText } from "./core/dom.js";
import { fleet, SEVERITIES } from "./core/fleet-state.js";
import { count, duration, time, wholeTime, zoneName } from "./core/format.js";
import { session } from "./core/session.js";
import { announceSessionChange } from "./core/session-change.js";
import { chosenTheme, nextTheme } from "./core/theme.js";

const NAVIGATION = [
  ["/", "Fleet"],
  ["/assets", "Assets"],
  ["/dispatch", "Dispatch"],
  ["/schedules", "Schedules"],
  ["/alarms", "Alarms"],
  ["/events", "Events"],
  ["/agents", "Agents"],
  ["/audit", "Audit", "admin"],
  ["/docs", "API"],
];

/**
 * Builds the shell.
 * @param {{signal: AbortSignal}} options
 * @returns {{element: HTMLElement, view: HTMLElement, show: (route: {nav?: string} | null) => void, refresh: () => void}}
 */
export function openShell({ signal }) {
  const view = h("main", { class: "view", id: "view", tabindex: "-1" });
  const navigation = h("nav", { class: "nav", "aria-label": "Pages" });
  const user = h("div", { class: "user" });
  const stop = h("span", { class: "stop-place" });
  const stopControl = stopButton({ target: targetOfPage, signal });
  const menu = h("button", {
    type: "button", class: "menu-button", "aria-expanded": "false", "aria-controls": "navigation", signal,
    on: { click: () => toggle(document.documentElement.dataset.menu !== "open") },
  }, "Menu");
  const toggle = (open) => {
    document.documentElement.dataset.menu = open ? "open" : "closed";
    menu.setAttribute("aria-expanded", String(open));
  };
  let current = null;

  const refresh = () => {
    replace(navigation, NAVIGATION.filter(([, , role]) => !role || session.may(role)).map(([href, text]) =>
      h("a", { href, class: "nav-link", "aria-current": current === href ? "page" : null },
        h("span", null, text), href === "/alarms" ? alarmCount : null)));
    replace(user, userControls(signal));
    if (session.may("operator") !== stop.contains(stopControl)) replace(stop, session.may("operator") ? stopControl : null);
  };
  const alarmCount = h("span", { class: "nav-count" });
  showAlarmCount(alarmCount, signal);

  const element = h("div", { class: "shell" },
    h("a", { class: "skip-link", href: "#view" }, "Skip to the page"),
    h("header", { class: "topbar" },
      menu,
      h("a", { class: "brand", href: "/" }, "trioder"),
      linkStatus(signal),
      h("span", { class: "topbar-space" }),
      stop,
      clock(signal),
      themeButton(signal),
      user),
    banners(signal),
    h("div", { class: "columns" }, h("div", { id: "navigation", class: "nav-column" }, navigation), view));
  return {
    element,
    view,
    refresh,
    show(route) {
      current = route?.nav ?? null;
      element.classList.toggle("shell-bare", route !== null && !route.nav);
      toggle(false);
      refresh();
    },
  };
}

function userControls(signal) {
  if (session.user === null) return null;
  if (session.open) {
    return h("span", { class: "muted", title: "No access control is configured: everybody on this machine may command." }, "open access");
  }
  const { name, role, tenant } = session.user;
  return [
    h("span", { class: "user-name", title: `tenant: ${tenant}` }, h("bdi", { class: "name" }, name), h("span", { class: "muted" }, ` · ${role}`)),
    h("button", { type: "button", class: "button button-quiet", signal, on: { click: () => void leave() } }, "Log out"),
  ];
}

async function leave() {
  try {
    await logOut();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return toast(`Not logged out: ${error.message}`, { kind: "error" });
  }
  announceSessionChange();
  // Another user's values must not stay in this tab's memory.
  return location.assign("/login");
}

function themeButton(signal) {
  const button = h("button", { type: "button", class: "button button-quiet", signal, on: { click: () => label(nextTheme()) } });
  const label = (theme) => {
    setText(button, { system: "◐", light: "○", dark: "●" }[theme]);
    button.setAttribute("aria-label", `Colours: ${theme}. Change`);
    button.title = `Colours: ${theme}`;
  };
  label(chosenTheme());
  return button;
}

/** The time by the headend's clock, local, with its zone. */
function clock(signal) {
  const element = h("span", { class: "clock number" });
  const show = () => {
    const now = new Date(fleet.now());
    setText(element, `${time(now)} ${zoneName(now)}`);
    element.title = wholeTime(now);
  };
  show();
  every(1000, show, signal);
  return element;
}

function linkStatus(signal) {
  const symbol = h("span", { class: "link-symbol", "aria-hidden": "true" });
  const text = h("span");
  const element = h("span", { class: "link-status" }, symbol, text);
  const show = () => {
    const status = fleet.link.status === "live" && !fleet.complete ? "connecting" : fleet.link.status;
    document.documentElement.dataset.link = status;
    element.dataset.status = status;
    setText(symbol, { live: "●", connecting: "◌", lost: "✕", unauthorized: "⊘" }[status]);
    setText(text, { live: "live", connecting: "connecting …", lost: "feed lost", unauthorized: "not logged in" }[status]);
  };
  show();
  fleet.on(["link", "snapshot"], show, signal);
  return element;
}

function lostBanner(signal) {
  const text = h("span");
  const element = h("div", { class: "banner banner-lost", role: "alert", hidden: true }, h("span", { "aria-hidden": "true" }, "✕ "), text);
  const show = () => {
    const lost = fleet.link.status === "lost";
    if (lost) {
      const age = duration(Math.round((Date.now() - fleet.link.since) / 1000));
      setText(text, `Feed lost since ${time(fleet.link.since)} (${age}): nothing here is live. ${sentence(fleet.link.reason)} Connecting again.`);
    }
    element.hidden = !lost;
  };
  fleet.on("link", show, signal);
  every(1000, show, signal);
  return element;
}

/** The banners, whose height the navigation leaves free at the top. */
function banners(signal) {
  const element = h("div", { class: "banners" }, lostBanner(signal), stopBanner({ signal }));
  const resized = new ResizeObserver(() => document.documentElement.style.setProperty("--banners", `${element.offsetHeight}px`));
  resized.observe(element);
  signal.addEventListener("abort", () => resized.disconnect());
  return element;
}

const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "");

function showAlarmCount(element, signal) {
  const show = () => {
    const open = [...fleet.alarms.values()];
    const worst = open.reduce((most, { severity }) => Math.max(most, SEVERITIES.indexOf(severity)), -1);
    element.hidden = open.length === 0;
    element.dataset.severity = SEVERITIES[worst] ?? "";
    setText(element, count(open.length));
    element.setAttribute("aria-label", `${open.length} open`);
  };
  show();
  fleet.on(["alarms", "snapshot"], show, signal);
}
