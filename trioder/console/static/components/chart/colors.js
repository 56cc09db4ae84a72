// The colours of custom properties as a canvas needs them, read again when the theme changes.

/**
 * @param {HTMLElement} element whose custom properties count
 * @param {() => void} onChange the theme is another: draw again
 * @param {AbortSignal} signal
 * @returns {(property: string) => string} "--ink" -> "rgb(20, 24, 28)"
 */
export function openColors(element, onChange, signal) {
  const known = new Map();
  // A custom property may be light-dark() or color-mix(): only a real property is resolved to a colour.
  const probe = document.createElement("span");
  probe.hidden = true;
  element.append(probe);
  const forget = () => {
    known.clear();
    onChange();
  };
  for (const query of ["(prefers-color-scheme: dark)", "(prefers-contrast: more)", "(forced-colors: active)"]) {
    matchMedia(query).addEventListener("change", forget, { signal });
  }
  const observer = new MutationObserver(forget);
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["class", "data-theme", "style"] });
  signal.addEventListener("abort", () => {
    observer.disconnect();
    probe.remove();
  });
  return (property) => {
    let color = known.get(property);
    if (color === undefined) {
      probe.style.color = `var(${property}, currentColor)`;
      color = getComputedStyle(probe).color;
      known.set(property, color);
    }
    return color;
  };
}
