/**
 * Pages by path. A page lives as long as its AbortSignal: leaving it aborts the signal, which ends its
 * listeners, timers and requests.
 */

/**
 * @typedef {object} PageContext
 * @property {Record<string, string>} params  of the path's pattern
 * @property {URLSearchParams} query
 * @property {AbortSignal} signal  aborted when the page is left
 * @property {(query: Record<string, string | null>) => void} setQuery  changes the query in place; null removes
 * @property {(title: string) => void} setTitle
 *
 * @typedef {object} Page
 * @property {string} title
 * @property {(view: HTMLElement, context: PageContext) => void} open  fills the view, and returns at once
 *
 * @typedef {{pattern: string, load: () => Promise<{page: Page}>, nav?: string}} Route
 */

/**
 * Shows the page of the location, and follows links and history until `signal`.
 *
 * @param {{routes: Route[], view: HTMLElement, signal: AbortSignal, onOpen: (route: Route | null) => void,
 *          notFound: Page, failed: (error: Error) => Page}} options
 * @returns {{navigate: (path: string, options?: {replace?: boolean}) => void, reload: () => void}}
 */
export function openRouter({ routes, view, signal, onOpen, notFound, failed }) {
  const compiled = routes.map((route) => ({ route, expression: expressionOf(route.pattern) }));
  let current = null;

  const show = async ({ focus }) => {
    current?.abort();
    const controller = new AbortController();
    current = controller;
    const { route, params } = match(compiled, location.pathname);
    onOpen(route);
    let page = notFound;
    if (route) {
      try {
        ({ page } = await route.load());
      } catch (error) {
        page = failed(error);
      }
    }
    if (controller.signal.aborted) return;
    const setTitle = (title) => (document.title = `${title} · trioder`);
    setTitle(page.title);
    view.replaceChildren();
    try {
      page.open(view, { params, query: new URLSearchParams(location.search), signal: controller.signal, setQuery, setTitle });
    } catch (error) {
      view.replaceChildren();
      failed(error).open(view, {});
      throw error;
    } finally {
      if (focus) view.focus({ preventScroll: true });
    }
  };

  const navigate = (path, { replace = false } = {}) => {
    const url = new URL(path, location.href);
    if (url.href === location.href && !replace) return;
    history[replace ? "replaceState" : "pushState"](null, "", url);
    window.scrollTo(0, 0);
    void show({ focus: true });
  };

  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
    if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (link.target || link.hasAttribute("download") || link.origin !== location.origin || link.pathname.startsWith("/api/")) return;
    if (link.hash && link.pathname === location.pathname && link.search === location.search) return;
    event.preventDefault();
    navigate(link.href);
  }, { signal });
  window.addEventListener("popstate", () => void show({ focus: true }), { signal });
  signal.addEventListener("abort", () => current?.abort());
  void show({ focus: false });
  return { navigate, reload: () => void show({ focus: false }) };
}

function setQuery(changes) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  history.replaceState(history.state, "", text ? `?${text}` : location.pathname);
}

function expressionOf(pattern) {
  return new RegExp(`^${pattern.replace(/\{(\w+)\}/g, "(?<$1>[^/]+)")}/?$`);
}

function match(compiled, path) {
  for (const { route, expression } of compiled) {
    const found = expression.exec(path);
    if (!found) continue;
    const params = decodeAll(found.groups ?? {});
    if (params) return { route, params };
  }
  return { route: null, params: {} };
}

/**
 * Decodes segments of a path.
 * @param {Record<string, string>} segments  percent-encoded
 * @returns {Record<string, string> | null}  null where one is not UTF-8
 */
export function decodeAll(segments) {
  try {
    return Object.fromEntries(Object.entries(segments).map(([name, value]) => [name, decodeURIComponent(value)]));
  } catch (error) {
    if (error instanceof URIError) return null;
    throw error;
  }
}

let opened = null;

/** Makes the router of the shell available to pages. */
export function setRouter(router) {
  opened = router;
}

/** Opens the present page anew, as what it is about has changed. */
export const reopen = () => opened.reload();

/**
 * Opens a page.
 * @param {string} path @param {{replace?: boolean}} [options]
 */
export const navigate = (path, options) => opened.navigate(path, options);
