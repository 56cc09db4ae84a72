/**
 * The map of a fleet: boundaries, one symbol a site, pan and zoom. It draws only when something has changed.
 *
 * @typedef {import("./map/sites.js").Site} Site
 * @typedef {import("./map/sites.js").SiteState} SiteState
 * @typedef {{
 *   signal: AbortSignal,
 *   state: (siteId: string) => SiteState | undefined,
 *   onSelect?: (siteId: string) => void,
 *   onHover?: (siteId: string | null) => void,
 * }} MapOptions `state` is called for each site when it draws after `update()`; the map ends with `signal`
 * @typedef {{
 *   setSites: (sites: Site[]) => void,
 *   update: () => void,
 *   select: (siteId: string | null) => void,
 *   zoomToFleet: () => void,
 *   element: HTMLElement,
 * }} FleetMap
 */

import { loadBoundaries } from "./map/boundaries.js";
import { describe, openCallout } from "./map/callout.js";
import { addButtons, addLegend, addNote } from "./map/controls.js";
import { KEY_ZOOM, watchGestures } from "./map/gestures.js";
import { readPalette, watchTheme } from "./map/palette.js";
import { EARTH_RADIUS_KM, projectionFor } from "./map/projection.js";
import { SiteLayer, hitTest } from "./map/sites.js";
import { openPen } from "./map/symbols.js";
import { View, boxAround } from "./map/view.js";

/** How far the coarse data of neighbouring countries may lie from the borders of the states. */
const SEAM_WIDTH = 60 / EARTH_RADIUS_KM;
const KEYS = "Arrow keys pan, plus and minus zoom, 0 shows the whole fleet, N and P go from site to site, " +
  "with Shift only to those that need attention, Enter opens the site.";

/**
 * Opens a map that fills a container. The page links styles/map.css.
 * @param {HTMLElement} container
 * @param {MapOptions} options
 * @returns {FleetMap}
 */
export function openMap(container, { signal, state, onSelect = () => {}, onHover = () => {} }) {
  const element = document.createElement("div");
  element.className = "map";
  element.tabIndex = 0;
  element.setAttribute("role", "application");
  const base = addCanvas(element);
  const surface = addCanvas(element);
  container.append(element);

  const layer = new SiteLayer(state);
  const view = new View();
  const callout = openCallout(element);
  const legend = addLegend(element);
  const note = addNote(element);
  const spoken = addSpoken(element);
  let projection = projectionFor([]);
  let boundaries = null;
  let loading = new AbortController();
  let palette = readPalette(element);
  let fontFamily = getComputedStyle(element).fontFamily;
  let pen = null;
  /** @type {import("./map/sites.js").Item[]} */
  let drawn = [];
  /** What the callout is about: the item under the pointer, or the site that the keyboard has reached. */
  let pointer = null;
  let hovered = null;
  let reachedId = null;
  let selectedId = null;
  let frame = 0;
  let isBaseOld = true;
  let isStateOld = true;
  /** Until somebody pans or zooms, the map shows the whole fleet at any size. */
  let isMoved = false;

  function redraw({ withBase = false, withState = false } = {}) {
    isBaseOld ||= withBase;
    isStateOld ||= withState;
    if (frame === 0 && !signal.aborted) frame = requestAnimationFrame(draw);
  }

  function draw() {
    frame = 0;
    if (element.clientWidth === 0 || element.clientHeight === 0) return;
    const ratio = window.devicePixelRatio || 1;
    if (resizeCanvas(surface, view, ratio) || pen === null) {
      pen = openPen(surface.getContext("2d"), palette, fontFamily);
      resizeCanvas(base, view, ratio);
      legend.draw(palette, fontFamily, ratio);
      isBaseOld = true;
    }
    if (isStateOld) {
      isStateOld = false;
      layer.refresh();
      const label = summary(layer);
      if (element.getAttribute("aria-label") !== label) element.setAttribute("aria-label", label);
    }
    if (isBaseOld) {
      isBaseOld = false;
      drawBase(base.getContext("2d"), ratio, view, boundaries, palette);
    }
    drawSymbols();
  }

  function drawSymbols() {
    const context = surface.getContext("2d");
    context.clearRect(0, 0, view.width, view.height);
    drawn = layer.visible(view);
    for (const item of drawn) pen.draw(item);
    const selected = itemOf(selectedId);
    if (selected) pen.mark(selected, false);
    const reached = itemOf(reachedId);
    if (reached) pen.mark(reached, true);
    hover();
    if (hovered) callout.show(hovered, view);
    else if (reached) callout.show(calloutOf(reached, reachedId), view);
    else callout.hide();
  }

  /** Returns the drawn item that is a site or contains it. */
  function itemOf(siteId) {
    const site = siteId === null ? undefined : layer.find(siteId);
    if (!site) return null;
    return drawn.find((item) => item === site || (item.kind === "cluster" && item.members.includes(site))) ?? null;
  }

  /** The site itself, even if a cluster stands for it. */
  function calloutOf(item, siteId) {
    return item.kind === "cluster" ? { ...layer.find(siteId), x: item.x, y: item.y, r: item.r, unit: item.unit } : item;
  }

  /** Finds what is under the pointer now; returns whether that is another item than before. */
  function hover() {
    const item = pointer === null ? null : hitTest(drawn, pointer.x, pointer.y);
    if (item === hovered) return false;
    const before = hovered?.kind === "site" ? hovered.site.id : null;
    hovered = item;
    const now = item?.kind === "site" ? item.site.id : null;
    surface.style.cursor = item ? "pointer" : "";
    if (now !== before) onHover(now);
    return true;
  }

  function movePointer(position) {
    pointer = position;
    if (hover()) redraw();
  }

  function openItem(item) {
    if (item.kind === "site") {
      onSelect(item.site.id);
      return;
    }
    const box = boxAround(item.members.map(({ planeX, planeY }) => ({ x: planeX, y: planeY })));
    const before = view.scale;
    isMoved = true;
    view.fit(box, { margin: 80 });
    // Sites at one place do not separate; others do with at least one step.
    if (view.scale < before * KEY_ZOOM) view.zoomAt((before * KEY_ZOOM) / view.scale);
    redraw({ withBase: true });
  }

  function step(isForward, onlyAttention) {
    const items = onlyAttention ? layer.items.filter((item) => item.attention) : layer.items;
    if (items.length === 0) return;
    const place = items.findIndex((item) => item.site.id === reachedId);
    const first = isForward ? 0 : items.length - 1;
    const next = place < 0 ? first : (place + (isForward ? 1 : -1) + items.length) % items.length;
    reachedId = items[next].site.id;
    movePointer(null);
    bringIntoView(items[next]);
    spoken.textContent = describe(items[next]).join(", ");
    redraw();
  }

  function bringIntoView({ planeX, planeY }) {
    const { x, y } = view.toScreen(planeX, planeY);
    const margin = Math.min(60, view.width / 4, view.height / 4);
    if (x >= margin && y >= margin && x <= view.width - margin && y <= view.height - margin) return;
    isMoved = true;
    view.centre(planeX, planeY);
    redraw({ withBase: true });
  }

  const zoom = (factor, x, y) => {
    isMoved = true;
    view.zoomAt(factor, x, y);
    redraw({ withBase: true });
  };

  function zoomToFleet() {
    const box = boxAround(layer.items.map(({ planeX, planeY }) => ({ x: planeX, y: planeY })));
    if (box) view.fit(box);
    view.fitScale = view.scale;
    isMoved = false;
    redraw({ withBase: true });
  }

  async function load() {
    loading.abort();
    loading = new AbortController();
    const { signal: current } = loading;
    try {
      const loaded = await loadBoundaries(projection, current);
      if (current.aborted) return;
      boundaries = loaded;
      note.fault("");
      redraw({ withBase: true });
    } catch (error) {
      if (current.aborted) return;
      console.warn("map: boundaries are not shown:", error);
      note.fault("Boundaries could not be loaded");
    }
  }

  function setSites(sites) {
    const positions = sites.filter(({ lat, lon }) => Number.isFinite(lat) && Number.isFinite(lon));
    const chosen = projectionFor(/** @type {any} */ (positions));
    const isOther = chosen.name !== projection.name;
    projection = chosen;
    layer.setSites(sites, projection);
    note.count(layer.withoutPosition);
    if (isOther) {
      boundaries = null;
      load();
    }
    if (isOther || !isMoved) zoomToFleet();
    redraw({ withBase: true, withState: true });
  }

  function select(siteId) {
    selectedId = siteId;
    const item = siteId === null ? undefined : layer.find(siteId);
    if (item) bringIntoView(item);
    redraw();
  }

  addButtons(element, { zoomIn: () => zoom(KEY_ZOOM), zoomOut: () => zoom(1 / KEY_ZOOM), fit: zoomToFleet }, signal);
  watchGestures(
    surface,
    element,
    {
      pan(dx, dy) {
        isMoved = true;
        view.pan(dx, dy);
        redraw({ withBase: true });
      },
      zoom,
      fit: zoomToFleet,
      hover: (x, y) => movePointer({ x, y }),
      leave: () => movePointer(null),
      tap(x, y) {
        const item = hitTest(drawn, x, y, 12);
        if (item) openItem(item);
      },
      step,
      open() {
        if (reachedId !== null && layer.find(reachedId)) onSelect(reachedId);
      },
      dismiss() {
        reachedId = null;
        movePointer(null);
        redraw();
      },
    },
    signal,
  );
  element.addEventListener(
    "blur",
    () => {
      reachedId = null;
      redraw();
    },
    { signal },
  );
  watchTheme(() => {
    palette = readPalette(element);
    fontFamily = getComputedStyle(element).fontFamily;
    pen = null;
    redraw({ withBase: true });
  }, signal);
  const observer = new ResizeObserver(() => {
    view.resize(Math.max(1, element.clientWidth), Math.max(1, element.clientHeight));
    if (!isMoved) zoomToFleet();
    redraw({ withBase: true });
  });
  observer.observe(element);
  signal.addEventListener(
    "abort",
    () => {
      observer.disconnect();
      loading.abort();
      cancelAnimationFrame(frame);
      element.remove();
    },
    { once: true },
  );
  view.resize(Math.max(1, element.clientWidth), Math.max(1, element.clientHeight));
  load();
  redraw({ withBase: true });
  return { setSites, update: () => redraw({ withState: true }), select, zoomToFleet, element };
}

function drawBase(context, ratio, view, boundaries, palette) {
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = palette.water;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  if (boundaries === null) return;
  const scale = view.scale * ratio;
  context.setTransform(scale, 0, 0, scale, view.left * ratio, view.top * ratio);
  context.lineJoin = "round";
  context.fillStyle = palette.abroad;
  context.strokeStyle = palette.abroad;
  context.lineWidth = SEAM_WIDTH;
  context.fill(boundaries.abroad, "evenodd");
  context.stroke(boundaries.seams);
  context.fillStyle = palette.land;
  context.fill(boundaries.land, "evenodd");
  context.strokeStyle = palette.border;
  context.lineWidth = 1 / view.scale;
  context.stroke(boundaries.borders);
  context.stroke(boundaries.coasts);
}

function addCanvas(parent) {
  const canvas = document.createElement("canvas");
  canvas.className = "map-canvas";
  canvas.setAttribute("aria-hidden", "true");
  parent.append(canvas);
  return canvas;
}

/** Makes a canvas as large as the view in device pixels; returns whether that is a change. */
function resizeCanvas(canvas, view, ratio) {
  const width = Math.round(view.width * ratio);
  const height = Math.round(view.height * ratio);
  if (canvas.width === width && canvas.height === height) return false;
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
  return true;
}

function addSpoken(parent) {
  const spoken = document.createElement("div");
  spoken.className = "map-spoken";
  spoken.setAttribute("aria-live", "polite");
  parent.append(spoken);
  return spoken;
}

function summary({ items, totals, withoutPosition }) {
  const parts = [`Map of ${items.length} sites: ${totals.notGood} not good, ${totals.alarms} with open alarms, ` +
    `${totals.stopped} stopped.`];
  if (withoutPosition > 0) parts.push(`${withoutPosition} without a position.`);
  return [...parts, KEYS].join(" ");
}
