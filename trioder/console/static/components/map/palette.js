/**
 * The map's colours: CSS custom properties of the page, resolved for a canvas, and read again when the theme
 * changes.
 */

/** Properties, the first that the page defines, and what stands for them where it defines none. */
const PROPERTIES = {
  land: ["--map-land", "#e4e7ea"],
  water: ["--map-water", "#f4f6f8"],
  border: ["--map-border", "#b9c0c7"],
  ink: ["--ink", "#1b2127"],
  inkMuted: ["--ink-muted", "#5c6670"],
  surface: ["--surface-raised", "--surface", "#ffffff"],
  charge: ["--charge", "#2f6fb3"],
  discharge: ["--discharge", "#1d8a5b"],
  idle: ["--idle", "#7b858f"],
  warning: ["--warning", "#b36b00"],
  critical: ["--critical", "#c62828"],
  accent: ["--accent", "#7a3fc4"],
};

/** @typedef {Record<keyof typeof PROPERTIES | "abroad", string>} Palette `abroad`: between land and water */

/**
 * Resolves the colours as the container has them. A probe element resolves what a canvas does not know: var(),
 * light-dark(), color-mix().
 * @param {HTMLElement} container
 * @returns {Palette}
 */
export function readPalette(container) {
  const probe = document.createElement("span");
  probe.hidden = true;
  probe.style.transition = "none";
  container.append(probe);
  const palette = {};
  const resolve = (color) => {
    probe.style.color = color;
    return getComputedStyle(probe).color;
  };
  for (const [name, values] of Object.entries(PROPERTIES)) {
    palette[name] = resolve(values.reduceRight((rest, property) => `var(${property}, ${rest})`));
  }
  palette.abroad = resolve(`color-mix(in srgb, ${palette.land}, ${palette.water})`);
  probe.remove();
  return /** @type {Palette} */ (palette);
}

/**
 * Calls `onChange` when the theme changes: by the system, or by `data-theme` or a class of <html>.
 * @param {() => void} onChange
 * @param {AbortSignal} signal
 */
export function watchTheme(onChange, signal) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onChange, { signal });
  const observer = new MutationObserver(onChange);
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme", "class"] });
  signal.addEventListener("abort", () => observer.disconnect(), { once: true });
}
