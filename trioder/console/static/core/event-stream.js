/**
 * Reads server-sent events with fetch. EventSource would not do: it gives up for good at the 502 that a proxy
 * answers while the headend is away, and it does not show a status of 401.
 */

/**
 * Follows a stream until it ends, and calls `receive` with each event.
 *
 * @param {string} url
 * @param {{signal: AbortSignal, lastEventId: string, receive: (event: {name: string, data: string, id: string}) => void}} options
 * @returns {Promise<void>} when the other side has ended the stream
 * @throws {StreamRefused} for a status other than 200
 * @throws {Error} when there is no connection, or it is lost
 */
export async function followEvents(url, { signal, lastEventId, receive }) {
  const headers = { Accept: "text/event-stream" };
  if (lastEventId) headers["Last-Event-ID"] = lastEventId;
  const response = await fetch(url, { headers, signal, cache: "no-store", credentials: "same-origin" });
  if (!response.ok) throw new StreamRefused(response.status);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventParser(receive);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    parser.feed(value);
  }
}

/** The server answered, but not with a stream. */
export class StreamRefused extends Error {
  /** @param {number} status */
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

/** The line format of server-sent events: lines end with LF, as the headend sends them. */
class EventParser {
  #receive;
  #rest = "";
  #name = "";
  #data = [];
  #id = "";

  /** @param {(event: {name: string, data: string, id: string}) => void} receive */
  constructor(receive) {
    this.#receive = receive;
  }

  /** @param {string} text  a part of the stream, cut anywhere */
  feed(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === "") {
      if (this.#data.length > 0) {
        this.#receive({ name: this.#name || "message", data: this.#data.join("\n"), id: this.#id });
      }
      this.#name = "";
      this.#data = [];
      this.#id = "";
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "event") this.#name = value;
    else if (field === "data") this.#data.push(value);
    else if (field === "id") this.#id = value;
  }
}
