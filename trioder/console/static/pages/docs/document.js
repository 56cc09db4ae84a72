/** Reads an OpenAPI 3.1 document: operations by group, references, the types of schemas. */

const METHODS = ["get", "post", "put", "patch", "delete"];

/**
 * @typedef {{key: string, method: string, path: string, summary: string, description: string, role: string | null,
 *   parameters: object[], body: object | null, responses: [string, object][], searched: string}} Operation
 */

/**
 * Returns the operations by the first segment of their paths, in the document's order.
 * @param {any} document @returns {{name: string, operations: Operation[]}[]}
 */
export function operationsOf(document) {
  const groups = new Map();
  for (const [path, item] of Object.entries(document.paths)) {
    for (const method of METHODS) {
      const operation = item[method];
      if (!operation) continue;
      const name = path.split("/")[1] || "root";
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(described(method.toUpperCase(), path, operation, item.parameters ?? []));
    }
  }
  return [...groups].map(([name, operations]) => ({ name, operations })).sort((a, b) => (a.name < b.name ? -1 : 1));
}

function described(method, path, operation, shared) {
  const role = /role (\w+)/.exec(operation.description ?? "")?.[1] ?? null;
  return {
    key: `${method} ${path}`, method, path, role,
    summary: operation.summary ?? "",
    description: operation.description ?? "",
    parameters: [...shared, ...(operation.parameters ?? [])],
    body: operation.requestBody?.content?.["application/json"]?.schema ?? null,
    responses: Object.entries(operation.responses ?? {}),
    searched: `${method} ${path} ${operation.summary ?? ""} ${role ?? ""}`.toLowerCase(),
  };
}

/**
 * Follows a reference within the document.
 * @param {any} document @param {any} schema @returns {{schema: any, name: string | null}}
 */
export function resolve(document, schema) {
  if (!schema?.$ref) return { schema: schema ?? {}, name: null };
  const name = schema.$ref.split("/").at(-1);
  return { schema: document.components?.schemas?.[name] ?? {}, name };
}

/**
 * Splits a schema into what it is and whether it may be null.
 * @param {any} schema @returns {{variants: any[], nullable: boolean}}
 */
function variantsOf(schema) {
  const all = schema.anyOf ?? schema.oneOf ?? [schema];
  return { variants: all.filter(({ type }) => type !== "null"), nullable: all.some(({ type }) => type === "null") };
}

/**
 * The type of a schema in a few words, such as "integer, 1 to 30" or "one of ack, end".
 * @param {any} document @param {any} schema @returns {string}
 */
export function typeText(document, schema) {
  const { variants, nullable } = variantsOf(schema);
  const text = variants.map((variant) => simpleType(document, variant)).join(" or ");
  return nullable ? `${text || "any"} or null` : text || "any";
}

function simpleType(document, schema) {
  if (schema.$ref) return resolve(document, schema).name;
  if (schema.enum) return schema.enum.length === 1 ? JSON.stringify(schema.enum[0]) : `one of ${schema.enum.join(", ")}`;
  if (schema.type === "array") return `list of ${typeText(document, schema.items ?? {})}`;
  if (schema.type === "object" && schema.additionalProperties) return `object of ${typeText(document, schema.additionalProperties)}`;
  return [schema.format ?? schema.type ?? "any", bounds(schema)].filter(Boolean).join(", ");
}

function bounds({ minimum, maximum, exclusiveMinimum, maxLength }) {
  const low = minimum !== undefined ? String(minimum) : exclusiveMinimum !== undefined ? `above ${exclusiveMinimum}` : null;
  if (low !== null && maximum !== undefined) return `${low} to ${maximum}`;
  if (low !== null) return minimum !== undefined ? `at least ${low}` : low;
  if (maximum !== undefined) return `at most ${maximum}`;
  return maxLength === undefined ? "" : `at most ${maxLength} characters`;
}

/**
 * The object schema that a schema contains: itself, its items or its only variant; null without one.
 * @param {any} document @param {any} schema @returns {any}
 */
export function objectOf(document, schema) {
  for (const variant of variantsOf(schema).variants) {
    const { schema: found } = resolve(document, variant);
    if (found.properties) return found;
    const inner = found.items ?? (typeof found.additionalProperties === "object" ? found.additionalProperties : null);
    const nested = inner && objectOf(document, inner);
    if (nested) return nested;
    if (found !== schema && found.anyOf) return objectOf(document, found);
  }
  return null;
}

/** The description of a schema, or of its only variant. */
export const descriptionOf = (schema) => schema.description ?? variantsOf(schema).variants.find(({ description }) => description)?.description ?? "";

/**
 * An example body: the required properties, with plausible values.
 * @param {any} document @param {any} schema
 */
export function exampleOf(document, schema) {
  const object = objectOf(document, schema);
  if (!object) return {};
  const names = object.required?.length ? object.required : Object.keys(object.properties).slice(0, 1);
  return Object.fromEntries(names.map((name) => [name, exampleValue(document, object.properties[name])]));
}

function exampleValue(document, schema) {
  const { schema: variant } = resolve(document, variantsOf(schema).variants[0] ?? {});
  if (variant.examples?.length) return variant.examples[0];
  if (variant.enum) return variant.enum[0];
  switch (variant.type) {
    case "integer": return variant.minimum ?? 1;
    case "number": return variant.minimum ?? 1.0;
    case "boolean": return true;
    case "array": return [];
    case "object": return {};
    default: return variant.format === "date-time" ? "2030-01-01T00:00:00Z" : variant.format === "uuid" ? "00000000-0000-0000-0000-000000000000" : "";
  }
}
