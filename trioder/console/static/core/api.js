/**
 * REST requests through the console's server, which adds the token of the cookie.
 */

/** The headend's refusal, or that it cannot be reached. */
export class ApiError extends Error {
  /**
   * @param {number} status  HTTP status; 0 when there is no answer
   * @param {string} code    the headend's stable code, or "unreachable"
   * @param {string} message
   */
  constructor(status, code, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }
}

const DOT_SEGMENT = /\/\.{1,2}(?=[/?]|$)/;
const listeners = new Set();

/**
 * Calls `listener` when a request is refused because nobody is logged in.
 * @param {() => void} listener
 */
export function onUnauthorized(listener) {
  listeners.add(listener);
}

/**
 * Sends a request and returns its decoded JSON body, null without one.
 *
 * @param {string} method
 * @param {string} path  of the headend, with its query, such as "/dispatch?limit=5"
 * @param {{body?: any, signal?: AbortSignal, idempotencyKey?: string}} [options]
 * @returns {Promise<any>}
 * @throws {ApiError}
 */
export async function send(method, path, { body, signal, idempotencyKey } = {}) {
  // Browsers remove such segments, percent-encoded or not, with their neighbours: another resource would answer.
  if (DOT_SEGMENT.test(path)) throw new ApiError(404, "not_found", `There is nothing at ${path}.`);
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (idempotencyKey) headers["Idempotency-Key"] = idempotencyKey;
  const response = await fetched(`/api${path}`, {
    method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 401) for (const listener of listeners) listener();
  return decoded(response);
}

/** @param {string} path @param {{signal?: AbortSignal, query?: Record<string, any>}} [options] */
export const get = (path, { query, signal } = {}) => send("GET", withQuery(path, query), { signal });

/**
 * Sends a command. Its Idempotency-Key lets the headend recognise a repetition: pass the same one to repeat.
 * @param {string} path @param {any} body @param {{signal?: AbortSignal, idempotencyKey?: string}} [options]
 */
export const post = (path, body, options = {}) => send("POST", path, { ...options, body });

/** @param {string} path @param {{signal?: AbortSignal}} [options] */
export const remove = (path, options = {}) => send("DELETE", path, options);

/**
 * Appends a query; null, undefined and "" are left out, a list is repeated.
 * @param {string} path @param {Record<string, any>} [query]
 */
export function withQuery(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const item of [value].flat()) {
      if (item !== null && item !== undefined && item !== "") parameters.append(name, String(item));
    }
  }
  const text = parameters.toString();
  return text ? `${path}?${text}` : path;
}

/** Who is logged in, as REST's whoami, and the headend's address as `headend_url`. @returns {Promise<any>} */
export async function whoAmI() {
  return decoded(await fetched("/session"));
}

/** @param {string} token @returns {Promise<any>} as `whoAmI` */
export async function logIn(token) {
  return decoded(await fetched("/session", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }),
  }));
}

export async function logOut() {
  await fetched("/session", { method: "DELETE" });
}

async function fetched(url, options) {
  try {
    return await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The console's server cannot be reached.");
  }
}

async function decoded(response) {
  const text = await response.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    throw new ApiError(response.status, "bad_response", `The answer is not JSON (status ${response.status}).`);
  }
  if (!response.ok) throw new ApiError(response.status, body?.error ?? "error", body?.message ?? response.statusText);
  return body;
}
