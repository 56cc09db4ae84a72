/** A text field that searches a list: the combobox pattern of ARIA, with the focus always in the field. */

import { h, replace, setText } from "../core/dom.js";

const SHOWN = 60;
let opened = 0;

/**
 * @typedef {{key: string, text: string, detail?: string}} Option
 */

/**
 * @param {{label: string, placeholder?: string, search: (text: string) => Option[], onChoose: (option: Option) => void,
 *   clearOnChoose?: boolean, signal: AbortSignal}} options  search: all that match, the best first; clearOnChoose:
 *   the field is empty again, for the next choice
 * @returns {{element: HTMLElement, input: HTMLInputElement, setText: (text: string) => void}}
 */
export function combobox({ label, placeholder = "", search, onChoose, clearOnChoose = false, signal }) {
  opened += 1;
  const id = `combobox-${opened}`;
  let options = [];
  let active = -1;
  let chosenText = "";

  const list = h("ul", { class: "combobox-list", id: `${id}-list`, role: "listbox", "aria-label": label, hidden: true, signal,
    on: { pointerdown: (event) => event.preventDefault(), click: (event) => choose(Number(event.target.closest("[role=option]")?.dataset.index ?? -1)) } });
  const found = h("span", { class: "visually-hidden", role: "status" });
  const more = h("div", { class: "combobox-more muted", hidden: true });
  const popup = h("div", { class: "combobox-popup", hidden: true }, list, more);
  const input = h("input", {
    type: "text", id, class: "input", role: "combobox", autocomplete: "off", spellcheck: "false", placeholder,
    "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id, signal,
    on: {
      input: () => open(input.value),
      keydown: (event) => pressed(event),
      click: () => list.hidden && open(""),
      focus: () => input.select(),
      blur: () => close(true),
    },
  });

  function open(text) {
    const all = search(text.trim());
    options = all.slice(0, SHOWN);
    active = options.length > 0 && text.trim() ? 0 : -1;
    replace(list, options.map((option, index) =>
      h("li", { id: `${id}-${index}`, role: "option", class: "combobox-option", "aria-selected": String(index === active), dataset: { index } },
        h("bdi", { class: "name" }, option.text.slice(0, 200)),
        option.detail ? h("span", { class: "combobox-detail muted" }, option.detail.slice(0, 200)) : null)));
    const rest = all.length - options.length;
    setText(more, options.length === 0 ? "Nothing has this in its name." : `${rest.toLocaleString("en-US")} more: type a part of the name.`);
    more.hidden = options.length > 0 && rest === 0;
    setText(found, `${all.length} found`);
    list.hidden = options.length === 0;
    popup.hidden = false;
    input.setAttribute("aria-expanded", String(options.length > 0));
    mark();
  }

  function close(restore) {
    list.hidden = true;
    popup.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    if (restore) input.value = chosenText;
  }

  function mark() {
    for (const [index, element] of [...list.children].entries()) {
      element.setAttribute("aria-selected", String(index === active));
      if (index === active) element.scrollIntoView({ block: "nearest" });
    }
    if (active >= 0) input.setAttribute("aria-activedescendant", `${id}-${active}`);
    else input.removeAttribute("aria-activedescendant");
  }

  function choose(index) {
    const option = options[index];
    if (!option) return;
    chosenText = clearOnChoose ? "" : option.text.slice(0, 200);
    close(true);
    onChoose(option);
  }

  function pressed(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) return open("");
      const step = event.key === "ArrowDown" ? 1 : -1;
      active = (active + step + options.length + (active < 0 && step < 0 ? 1 : 0)) % options.length;
      return mark();
    }
    if (event.key === "Enter" && !popup.hidden) {
      // Not to the form: the key chooses.
      event.preventDefault();
      return choose(active);
    }
    if (event.key === "Escape" && !popup.hidden) {
      // Closes this list only, not the dialog that it is in.
      event.preventDefault();
      event.stopPropagation();
      return close(true);
    }
    return undefined;
  }

  return {
    element: h("div", { class: "field combobox" }, h("label", { for: id }, label), input, popup, found),
    input,
    setText(text) {
      chosenText = text.slice(0, 200);
      input.value = chosenText;
    },
  };
}
