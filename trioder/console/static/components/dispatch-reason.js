/** The reasons of states as the headend words them; dispatches that they name are shown by their time and target. */

import { h } from "../core/dom.js";
import { fleet } from "../core/fleet-state.js";
import { dateTime, sensible } from "../core/format.js";

const ID = /\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g;

/**
 * A reason as text.
 * @param {string} reason
 * @returns {string}
 */
export const reasonText = (reason) => sensible(reason).replace(ID, (id) => nameOfDispatch(id) ?? id);

/**
 * A reason with links to the dispatches that it names.
 * @param {string} reason
 * @returns {HTMLElement}
 */
export function reasonNode(reason) {
  const shown = sensible(reason).slice(0, 1000);
  const ids = shown.match(ID) ?? [];
  const rest = shown.split(ID);
  return h("bdi", null, rest.map((text, index) => [text, ids[index] ? named(ids[index]) : null]));
}

function named(id) {
  const name = nameOfDispatch(id);
  return name ? h("a", { href: `/dispatch/${id}`, title: id }, name) : id;
}

function nameOfDispatch(id) {
  const dispatch = fleet.dispatches.get(id);
  if (!dispatch) return null;
  const what = dispatch.priority === "emergency" ? "the emergency stop" : "the dispatch";
  return `${what} of ${dateTime(dispatch.dispatched_at)} (${fleet.targetOf(dispatch.target, dispatch.members).text.slice(0, 60)})`;
}
