/** Commands for a shell, that do what a page does. */

/** The address of the headend's REST port, for people's commands; pages themselves use the console's server. */
let headendUrl = `http://${location.hostname}:3001`;

/** @param {string} url  as the console's server knows it */
export function setHeadendUrl(url) {
  headendUrl = url;
}

/**
 * A curl command, safe to paste for any value: everything variable is within single quotes.
 * @param {{method: string, path: string, body?: any, token?: boolean}} request  token: whether one is needed
 * @returns {string}
 */
export function curlCommand({ method, path, body = null, token = false }) {
  const parts = ["curl -s"];
  if (method !== "GET" && !(method === "POST" && body !== null)) parts.push(`-X ${method}`);
  parts.push(quoted(`${headendUrl}${path}`));
  if (token) parts.push(`-H "Authorization: Bearer $TRIODER_TOKEN"`);
  if (body !== null) parts.push("-H 'content-type: application/json'", `-d ${quoted(JSON.stringify(body))}`);
  return parts.join(" ");
}

/** Quotes a value for a POSIX shell. */
export const quoted = (value) => `'${String(value).replaceAll("'", `'\\''`)}'`;
