/**
 * Builds elements. Text always becomes text nodes: no string is ever parsed as HTML.
 */

/**
 * Creates an element.
 *
 * Properties: `class` (string or list), `dataset` and `style` (objects), `on` (listeners by event name, all
 * removed by `signal`), `aria-*`, `role`, `for` and other attributes; null, undefined and false are left out.
 *
 * @param {string} tag
 * @param {Record<string, any> | null} [properties]
 * @param {...any} children  nodes, strings, numbers, lists of these; null and false are left out
 * @returns {HTMLElement}
 */
export function h(tag, properties = null, ...children) {
  return fill(document.createElement(tag), properties, children);
}

function fill(element, properties, children) {
  const { on, signal, dataset, style, ...attributes } = properties ?? {};
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.setAttribute("class", Array.isArray(value) ? value.filter(Boolean).join(" ") : value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "hidden") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const [name, value] of Object.entries(dataset ?? {})) element.dataset[name] = value;
  for (const [name, value] of Object.entries(style ?? {})) element.style.setProperty(name, value);
  for (const [name, listener] of Object.entries(on ?? {})) element.addEventListener(name, listener, { signal });
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Replaces the children of an element.
 * @param {Element} element
 * @param {...any} children
 */
export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/**
 * Sets the text of an element, if it differs: an unchanged text costs no layout.
 * @param {Element} element
 * @param {string | number} value
 */
export function setText(element, value) {
  const text = String(value);
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A name that people chose: isolated from the direction of its neighbours, shortened by the style sheet.
 * @param {string} value
 * @param {string} [fallback]
 * @returns {HTMLElement}
 */
export function nameOf(value, fallback = "unnamed") {
  const shown = value || fallback;
  return h("bdi", { class: "name", title: shown.length > 40 ? shown.slice(0, 500) : null }, shown.slice(0, 500));
}

/**
 * A height in CSS pixels, larger where the text is: for what is drawn, and not laid out.
 * @param {number} px  at a desk
 */
export function scaled(px) {
  return Math.round(px * (Number.parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--scale")) || 1));
}

/**
 * Calls `run` at most once in `intervalMs`, and once more after the last call; ends with `signal`.
 * @param {() => void} run
 * @param {number} intervalMs
 * @param {AbortSignal} signal
 * @returns {() => void}
 */
export function throttle(run, intervalMs, signal) {
  let timer = 0;
  let last = -Infinity;
  signal.addEventListener("abort", () => clearTimeout(timer));
  return () => {
    if (timer || signal.aborted) return;
    const wait = Math.max(0, last + intervalMs - performance.now());
    timer = setTimeout(() => {
      timer = 0;
      last = performance.now();
      run();
    }, wait);
  };
}

/**
 * Calls `run` every `intervalMs` while the page is visible, until `signal`.
 * @param {() => void} run
 * @param {number} intervalMs
 * @param {AbortSignal} signal
 */
export function every(intervalMs, run, signal) {
  const timer = setInterval(() => {
    if (!document.hidden) run();
  }, intervalMs);
  signal.addEventListener("abort", () => clearInterval(timer));
}
