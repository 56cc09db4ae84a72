// Charts with the same key: they share the crosshair, the range that was selected, and the widths of their axes.

/** @type {Map<string, Set<Member>>} */
const groups = new Map();

/**
 * @typedef {{showCursor(time: number|null): void, showRange(range: [number, number]|null): void,
 *   margins: {left: number, right: number}, marginsChanged(): void}} Member
 */

/**
 * @param {string|undefined} key none: a group of its own
 * @param {Member} member
 * @param {AbortSignal} signal
 * @returns {{others(): Member[], margins(): {left: number, right: number}}}
 */
export function joinGroup(key, member, signal) {
  const group = (key !== undefined && groups.get(key)) || new Set();
  group.add(member);
  if (key !== undefined) groups.set(key, group);
  signal.addEventListener("abort", () => {
    group.delete(member);
    if (group.size === 0 && groups.get(key) === group) groups.delete(key);
  });
  return {
    others: () => [...group].filter((other) => other !== member),
    margins: () => ({
      left: Math.max(...Array.from(group, (each) => each.margins.left)),
      right: Math.max(...Array.from(group, (each) => each.margins.right)),
    }),
  };
}
