/** Shell commands that repeat what this console sends, for people to paste and to put into scripts. */

/**
 * Quotes a value for a POSIX shell: nothing in it is expanded or executed.
 * @param {string} value
 * @returns {string}
 */
export function shellQuote(value) {
  if (/^[\w@%+=:,./-]+$/.test(value)) return value;
  return `'${value.replaceAll("'", "'\\''")}'`;
}

/**
 * Where programs reach the headend: on the console's host, at the default port of its REST (HEADEND_HTTP_ADDR).
 * @param {{protocol: string, hostname: string}} [page]
 */
export function headendUrl({ protocol, hostname } = location) {
  return `${protocol === "https:" ? "https" : "http"}://${hostname}:3001`;
}

/**
 * A curl command for a request to the headend.
 *
 * @param {{method?: string, path: string, body?: any, token?: boolean, headend?: string}} options  token: whether
 *   the headend needs one; the command takes it from the environment, so that no secret is in it
 * @returns {string}
 */
export function curlCommand({ method = "GET", path, body, token = false, headend = headendUrl() }) {
  const parts = ["curl -s"];
  const implied = body === undefined ? "GET" : "POST";
  if (method !== implied) parts.push(`-X ${method}`);
  parts.push(shellQuote(headend + path));
  if (token) parts.push('-H "Authorization: Bearer $TRIODER_TOKEN"');
  if (body !== undefined) parts.push("-H 'content-type: application/json'", `-d ${shellQuote(JSON.stringify(body))}`);
  return parts.join(" ");
}
