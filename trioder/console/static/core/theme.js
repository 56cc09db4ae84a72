/** Light or dark: as the system has it, unless chosen here. `data-theme` of the document is "light" or "dark". */

const KEY = "trioder.theme";
const CHOICES = ["system", "light", "dark"];
const systemDark = matchMedia("(prefers-color-scheme: dark)");

/** @returns {"system" | "light" | "dark"} */
export function chosenTheme() {
  const chosen = localStorage.getItem(KEY);
  return CHOICES.includes(chosen) ? chosen : "system";
}

/** Chooses the next of system, light and dark. @returns {"system" | "light" | "dark"} */
export function nextTheme() {
  const next = CHOICES[(CHOICES.indexOf(chosenTheme()) + 1) % CHOICES.length];
  localStorage.setItem(KEY, next);
  apply();
  return next;
}

/** Applies the choice, also when the system's or another tab's changes, until `signal`. @param {AbortSignal} signal */
export function openTheme(signal) {
  apply();
  systemDark.addEventListener("change", apply, { signal });
  window.addEventListener("storage", apply, { signal });
}

function apply() {
  const theme = chosenTheme();
  const dark = theme === "dark" || (theme === "system" && systemDark.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}
