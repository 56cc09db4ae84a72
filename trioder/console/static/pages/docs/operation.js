/** One operation: its parameters, bodies and responses, and how to call it. */

import { curlButton } from "../../components/curl-button.js";
import { h } from "../../core/dom.js";
import { session } from "../../core/session.js";
import { curlCommand } from "../../core/curl.js";
import { descriptionOf, exampleOf, objectOf, resolve, typeText } from "./document.js";

/** Schemas refer to each other: deeper ones are named, not unfolded. */
const MOST_DEPTH = 6;

/**
 * @param {any} document @param {import("./document.js").Operation} operation @param {AbortSignal} signal
 * @returns {HTMLElement}
 */
export function operationView(document, operation, signal) {
  const errors = operation.responses.filter(([status]) => Number(status) >= 400);
  const successes = operation.responses.filter(([status]) => !(Number(status) >= 400));
  return h("article", { class: "api-article" },
    h("h2", { class: "api-title" }, h("span", { class: `api-method api-method-${operation.method.toLowerCase()}` }, operation.method), h("span", { class: "mono" }, operation.path)),
    h("p", null, operation.summary),
    h("p", { class: "muted" }, operation.role ? `Needs the role ${operation.role}.` : "Needs no token."),
    curl(document, operation, signal),
    operation.parameters.length ? section("Parameters", parameters(document, operation.parameters)) : null,
    operation.body ? section("Request body", schemaView(document, operation.body, 0)) : null,
    successes.map(([status, response]) => section(`Response ${status}`, responseView(document, response))),
    errors.length ? section("Errors", errorsView(document, errors)) : null);
}

const section = (title, ...content) => h("section", { class: "api-section" }, h("h3", null, title), content);

function curl(document, { method, path, body }, signal) {
  const request = { method, path, body: body ? exampleOf(document, body) : undefined };
  const command = curlCommand({ ...request, token: !session.open });
  const button = curlButton({ request: () => request, signal });
  return h("div", { class: "api-curl" }, h("pre", { tabindex: "0", "aria-label": "curl command" }, command), button);
}

function parameters(document, all) {
  return propertyTable(all.map((parameter) => ({
    name: parameter.name, note: parameter.in === "query" ? "" : parameter.in, required: parameter.required,
    type: typeText(document, parameter.schema ?? {}), fallback: parameter.schema?.default,
    description: parameter.description ?? descriptionOf(parameter.schema ?? {}), nested: null,
  })));
}

function responseView(document, response) {
  return Object.entries(response.content ?? {}).map(([type, { schema, "x-events": events }]) => [
    h("p", { class: "muted" }, type, " · ", typeText(document, schema ?? {})),
    events ? Object.entries(events).map(([name, event]) => fold(`event ${name}`, () => schemaView(document, event, 1)))
      : schema ? schemaView(document, schema, 0) : null,
  ]);
}

function errorsView(document, errors) {
  const schema = errors[0][1].content?.["application/json"]?.schema;
  return [
    h("p", null, errors.map(([status]) => status).join(", "), schema ? ", each with this body:" : ""),
    schema ? schemaView(document, schema, 0) : null,
  ];
}

function schemaView(document, schema, depth) {
  const object = objectOf(document, schema);
  if (!object) return h("p", { class: "mono" }, typeText(document, schema));
  const required = new Set(object.required ?? []);
  return [
    object.description ? h("p", { class: "api-description" }, tidy(object.description)) : null,
    propertyTable(Object.entries(object.properties).map(([name, property]) => ({
      name, note: "", required: required.has(name), type: typeText(document, property), fallback: property.default,
      description: descriptionOf(property.$ref ? resolve(document, property).schema : property),
      nested: depth < MOST_DEPTH && objectOf(document, property) ? () => schemaView(document, property, depth + 1) : null,
    }))),
  ];
}

function propertyTable(rows) {
  return h("table", { class: "api-properties" },
    h("thead", null, h("tr", null, ["Name", "Type", "Description"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", null, rows.map((row) => h("tr", null,
      h("th", { scope: "row", class: "mono" }, row.name, row.required ? h("span", { class: "muted" }, " required") : null, row.note ? h("span", { class: "muted" }, ` ${row.note}`) : null),
      h("td", null, row.type, row.fallback === undefined || row.fallback === null ? null : h("span", { class: "muted" }, `, default ${JSON.stringify(row.fallback)}`)),
      h("td", null, row.nested ? fold(row.description ? tidy(row.description) : row.type, row.nested) : tidy(row.description))))));
}

/** Details that are built when they are opened. */
function fold(title, build) {
  const details = h("details", { on: { toggle: () => {
    if (details.open && details.childElementCount === 1) details.append(h("div", { class: "api-nested" }, build()));
  } } }, h("summary", null, title));
  return details;
}

const tidy = (text) => text.replace(/\s+/g, " ");

