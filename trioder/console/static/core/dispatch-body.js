/**
 * The form of a dispatch as the body of `POST /dispatch`, and back. One body is previewed (with `dry_run`) and
 * then sent: nothing else is between the two.
 */

import { count, plural } from "./format.js";

/**
 * @typedef {object} Draft  what the form holds
 * @property {"fleet" | "site" | "asset" | "assets"} kind
 * @property {string[]} ids           of the site, the asset or the assets
 * @property {"discharge" | "charge"} direction
 * @property {string} magnitude       MW, as typed
 * @property {string} duration        seconds as a number of DURATIONS, "none" or "own"
 * @property {string} ownDuration     as typed
 * @property {"s" | "min" | "h"} ownUnit
 * @property {string} reversion       MW, signed, as typed
 * @property {string} strategy
 * @property {boolean} resplit
 */

/** Presets in s, and their labels. */
export const DURATIONS = [["300", "5 min"], ["900", "15 min"], ["3600", "1 h"], ["14400", "4 h"], ["own", "Own"], ["none", "No end"]];
const UNIT_S = { s: 1, min: 60, h: 3600 };
const MAX_DURATION_S = 366 * 86_400;

/** @returns {Draft} */
const emptyDraft = () => ({
  kind: "fleet", ids: [], direction: "discharge", magnitude: "", duration: "900", ownDuration: "", ownUnit: "min",
  reversion: "0", strategy: "headroom", resplit: true,
});

/**
 * Reads a number as people type it: a sign, digits and a point.
 * @param {string} text
 * @returns {number | null}  null when it is none
 */
export function parseNumber(text) {
  const plain = text.trim().replace("−", "-");
  const value = /^[+-]?(\d+\.?\d*|\.\d+)$/.test(plain) ? Number(plain) : null;
  // JSON has no infinity.
  return Number.isFinite(value) ? value : null;
}

/**
 * The body that a draft stands for.
 * @param {Draft} draft
 * @returns {{body: object | null, problems: Record<string, string>}}  problems: by field; body is null with any, or
 *   while something is not filled in
 */
export function bodyOf(draft) {
  const problems = {};
  const target = targetOf(draft);
  const magnitude = numberOf(draft.magnitude, "magnitude", problems);
  const reversion = numberOf(draft.reversion === "" ? "0" : draft.reversion, "reversion", problems);
  const duration = durationOf(draft, problems);
  if (magnitude !== null && magnitude < 0) problems.magnitude = "The direction is chosen beside it: a magnitude has no sign.";
  if (target === null || magnitude === null || reversion === null || duration === undefined || Object.keys(problems).length) {
    return { body: null, problems };
  }
  const body = { ...target, mw: draft.direction === "charge" ? -magnitude + 0 : magnitude };
  if (duration !== null) body.duration_s = duration;
  if (reversion !== 0) body.reversion_mw = reversion;
  if (!("asset_id" in target)) {
    if (draft.strategy !== "headroom") body.strategy = draft.strategy;
    if (!draft.resplit) body.resplit = false;
  }
  return { body, problems };
}

function targetOf({ kind, ids }) {
  if (kind === "fleet") return { fleet: true };
  if (ids.length === 0) return null;
  if (kind === "site") return { site_id: ids[0] };
  return kind === "asset" ? { asset_id: ids[0] } : { asset_ids: ids };
}

function numberOf(text, field, problems) {
  if (text.trim() === "") return null;
  const value = parseNumber(text);
  if (value === null) problems[field] = `${text.trim().slice(0, 40)} is not a number; write it as 12.5`;
  return value;
}

function durationOf({ duration, ownDuration, ownUnit }, problems) {
  if (duration === "none") return null;
  if (duration !== "own") return Number(duration);
  const value = numberOf(ownDuration, "duration", problems);
  if (value === null) return undefined;
  const seconds = Math.round(value * UNIT_S[ownUnit]);
  if (seconds >= 1 && seconds <= MAX_DURATION_S) return seconds;
  problems.duration = "A dispatch lasts 1 s to 366 days.";
  return undefined;
}

/**
 * The draft that a body stands for; fields that it does not have are those of an empty form.
 * @param {object} body  as of `POST /dispatch`, perhaps incomplete
 * @returns {Draft}
 */
export function draftOfBody(body) {
  const draft = emptyDraft();
  if (body.site_id) Object.assign(draft, { kind: "site", ids: [body.site_id] });
  else if (body.asset_id) Object.assign(draft, { kind: "asset", ids: [body.asset_id] });
  else if (body.asset_ids) Object.assign(draft, { kind: "assets", ids: body.asset_ids });
  if (Number.isFinite(body.mw)) Object.assign(draft, { direction: body.mw < 0 ? "charge" : "discharge", magnitude: String(Math.abs(body.mw)) });
  if (body.duration_s === null) draft.duration = "none";
  else if (body.duration_s !== undefined) Object.assign(draft, draftDuration(body.duration_s));
  if (body.reversion_mw) draft.reversion = String(body.reversion_mw);
  if (["headroom", "capacity", "equal"].includes(body.strategy)) draft.strategy = body.strategy;
  if (body.resplit === false) draft.resplit = false;
  return draft;
}

function draftDuration(seconds) {
  if (DURATIONS.some(([preset]) => preset === String(seconds))) return { duration: String(seconds) };
  const unit = seconds % 3600 === 0 ? "h" : seconds % 60 === 0 ? "min" : "s";
  return { duration: "own", ownDuration: String(seconds / UNIT_S[unit]), ownUnit: unit };
}

/**
 * The draft of a link to the form: `?site_id=` or `?asset_id=` (repeated for several), `&mw=`, `&duration_s=`.
 * @param {URLSearchParams} query
 * @returns {Draft}
 */
export function draftOfQuery(query) {
  const assets = query.getAll("asset_id");
  const seconds = parseNumber(query.get("duration_s") ?? "");
  const mw = parseNumber(query.get("mw") ?? "");
  return draftOfBody({
    site_id: query.get("site_id"),
    ...(assets.length > 1 ? { asset_ids: assets } : { asset_id: assets[0] }),
    ...(mw === null ? {} : { mw }),
    ...(seconds === null ? {} : { duration_s: seconds }),
  });
}

/**
 * The body that repeats a dispatch, now. With an end at a time, the time that was left when it was requested.
 * @param {object} dispatch  as `GET /dispatch/{id}`
 * @param {string[] | null} assetIds  of its allocations, for a dispatch to several assets
 * @returns {object | null}  null for several assets that are not known
 */
export function bodyOfDispatch(dispatch, assetIds) {
  const { kind, id } = dispatch.target;
  if (!["fleet", "site", "asset"].includes(kind) && !assetIds) return null;
  const body = kind === "fleet" ? { fleet: true } : kind === "site" ? { site_id: id } : kind === "asset" ? { asset_id: id } : { asset_ids: assetIds };
  body.mw = dispatch.mw;
  const lasted = dispatch.valid_until ? Math.round((Date.parse(dispatch.valid_until) - Date.parse(dispatch.dispatched_at)) / 1000) : null;
  const duration = dispatch.duration_s ?? lasted;
  if (duration !== null) body.duration_s = Math.max(1, duration);
  if (dispatch.reversion_mw) body.reversion_mw = dispatch.reversion_mw;
  if (kind !== "asset") {
    if (dispatch.strategy && dispatch.strategy !== "headroom") body.strategy = dispatch.strategy;
    if (!dispatch.resplit) body.resplit = false;
  }
  return body;
}

/**
 * How what was commanded differs from its preview; null when it does not.
 *
 * @param {object} preview  the answer of the dry run @param {object} dispatch  the answer of the dispatch
 * @returns {{text: string, material: boolean} | null}  material: not only shares that have moved with the values
 */
export function differenceOf(preview, dispatch) {
  const changes = [];
  const differs = (a, b) => Math.abs(a - b) >= 0.0005;
  const shown = (value) => value.toFixed(3);
  if (differs(preview.allocated_mw, dispatch.allocated_mw)) {
    changes.push(`${shown(dispatch.allocated_mw)} MW are allocated, not ${shown(preview.allocated_mw)} MW`);
  }
  if (preview.members !== dispatch.members) changes.push(`${plural(dispatch.members, "asset")} instead of ${count(preview.members)}`);
  const material = changes.length > 0;
  if (!material && preview.allocations && dispatch.allocations) {
    const before = new Map(preview.allocations.map((row) => [row.asset_id, row.mw]));
    const moved = dispatch.allocations.filter(({ asset_id: id, mw }) => differs(before.get(id) ?? 0, mw ?? 0));
    if (moved.length > 0) {
      const most = Math.max(...moved.map(({ asset_id: id, mw }) => Math.abs((before.get(id) ?? 0) - (mw ?? 0))));
      changes.push(`${plural(moved.length, "share")} moved by up to ${shown(most)} MW, with the state of charge`);
    }
  }
  return changes.length ? { text: changes.join("; "), material } : null;
}
