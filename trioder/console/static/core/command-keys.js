/** Idempotency-Keys: a command whose outcome is not known can be sent again, and is carried out once. */

export class CommandKeys {
  #text = "";
  #key = "";

  /**
   * The key of a command; the same for the same body until it is answered.
   * @param {object} body
   * @returns {string}
   */
  keyOf(body) {
    const text = JSON.stringify(body);
    if (this.#text !== text) {
      this.#text = text;
      this.#key = newKey();
    }
    return this.#key;
  }

  /** The outcome of the last command is known: the next one is another, also with the same body. */
  answered() {
    this.#text = "";
  }
}

/** Whether an error leaves open what became of a command. @param {import("./api.js").ApiError} error */
export const isOutcomeUnknown = ({ status }) => status === 0 || (status >= 500 && status !== 503);

/** Not `crypto.randomUUID`, which browsers do not have on plain HTTP. */
const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
