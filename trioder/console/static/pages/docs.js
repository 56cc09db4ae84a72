/** The REST API, rendered from the headend's own OpenAPI document. */

import { pageHeader } from "../components/page.js";
import { showLoaded } from "../components/states.js";
import { get } from "../core/api.js";
import { h, replace } from "../core/dom.js";
import { plural } from "../core/format.js";
import { operationsOf } from "./docs/document.js";
import { operationView } from "./docs/operation.js";

export const page = {
  title: "API",
  open(view, { query, signal, setQuery }) {
    const body = h("div");
    view.append(body);
    void showLoaded(body, {
      what: "the OpenAPI document", signal, load: () => get("/openapi.json", { signal }),
      show: (document) => content(document, { query, signal, setQuery }),
    });
  },
};

function content(document, { query, signal, setQuery }) {
  const groups = operationsOf(document);
  const operations = groups.flatMap((group) => group.operations);
  const shown = h("div", { class: "api-operation" });
  const index = h("nav", { class: "api-index", "aria-label": "Operations" });
  const search = h("input", { class: "input", type: "search", id: "api-search", placeholder: "Path, summary or role", autocomplete: "off", signal, on: { input: () => list() } });
  let selected = operations.find(({ key }) => key === query.get("operation")) ?? operations[0];

  const select = (operation) => {
    selected = operation;
    setQuery({ operation: operation.key });
    list();
    replace(shown, operationView(document, operation, signal));
    shown.scrollTo(0, 0);
  };
  const list = () => {
    const text = search.value.trim().toLowerCase();
    const found = groups
      .map(({ name, operations: all }) => ({ name, found: all.filter(({ searched }) => searched.includes(text)) }))
      .filter((group) => group.found.length > 0);
    replace(index, found.length === 0 ? h("p", { class: "muted panel-note" }, "No operation matches.") : found.map((group) => [
      h("h2", { class: "api-group" }, group.name),
      h("ul", null, group.found.map((operation) => h("li", null,
        h("button", { type: "button", class: "api-link", "aria-current": operation === selected ? "true" : null, on: { click: () => select(operation) } },
          methodBadge(operation.method), h("span", { class: "mono" }, operation.path))))),
    ]));
  };
  list();
  replace(shown, operationView(document, selected, signal));
  return [
    pageHeader({
      title: "API", detail: `${document.info.title} ${document.info.version} · ${plural(operations.length, "operation")}. ${document.info.description ?? ""}`,
      actions: [h("a", { class: "button", href: "/api/openapi.json", target: "_blank", rel: "noopener" }, "openapi.json")],
    }),
    h("div", { class: "api-columns" },
      h("div", { class: "panel api-side" }, h("div", { class: "api-search" }, h("label", { class: "visually-hidden", for: "api-search" }, "Search operations"), search), index),
      h("div", { class: "panel" }, shown)),
  ];
}

const methodBadge = (method) => h("span", { class: `api-method api-method-${method.toLowerCase()}` }, method);
