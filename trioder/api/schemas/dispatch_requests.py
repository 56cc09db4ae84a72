"""The body of a command, read as what the dispatcher takes: one target, and nothing that contradicts it."""

from collections import Counter
from collections.abc import Sequence

from trioder.api.asset_query import FleetIndex
from trioder.api.errors import ApiError, shown
from trioder.api.parsing import checked_id
from trioder.api.schemas.dispatch import DispatchBody
from trioder.control.requests import GroupRequest
from trioder.domain.dispatch import DispatchRequest, DispatchTarget
from trioder.process.rfc3339 import parse_ms
from trioder.process.slices import Steps, parts_of

# What it takes to check an id.
_ID_US = 1.0
_TARGETS = ("asset_id", "asset_ids", "site_id", "fleet")


def request_steps(body: DispatchBody, index: FleetIndex) -> Steps[DispatchRequest | GroupRequest]:
    """Return what the body asks, in steps: a body of the highest size names 25,000 assets.

    Raises:
        ApiError: not exactly one target, or one that is not in the fleet.
    """
    given = [name for name in _TARGETS if getattr(body, name) is not None]
    if len(given) != 1:
        found = "none" if not given else f"{len(given)}: {', '.join(given)}"
        raise ApiError(400, f"the body must name exactly one of {_names()}; it names {found}")
    if body.fleet is False:
        raise ApiError(400, "fleet is false; it must be true, or one of the other targets is named instead")
    if body.asset_id is not None:
        return _single(body, body.asset_id)
    target, keys = yield from _group_steps(body, index)
    return GroupRequest(
        target=target,
        keys=keys,
        mw=body.mw,
        duration_s=body.duration_s,
        valid_until_ms=_valid_until_ms(body),
        reversion_mw=body.reversion_mw,
        expires_in_s=body.expires_in_s,
        strategy=body.strategy or "headroom",
        resplit=body.resplit is not False,
    )


def _single(body: DispatchBody, asset_id: str) -> DispatchRequest:
    for name in ("strategy", "resplit"):
        if getattr(body, name) is not None:
            raise ApiError(400, f"{name} is given with asset_id; it is for commands to many assets")
    return DispatchRequest(
        asset_id=checked_id("asset_id", asset_id),
        mw=body.mw,
        duration_s=body.duration_s,
        valid_until_ms=_valid_until_ms(body),
        reversion_mw=body.reversion_mw,
        expires_in_s=body.expires_in_s,
    )


def _group_steps(body: DispatchBody, index: FleetIndex) -> Steps[tuple[DispatchTarget, Sequence[int]]]:
    if body.asset_ids is not None:
        ids: list[str] = []
        for texts in parts_of(body.asset_ids):
            ids += [
                checked_id(f"asset_ids[{position}]", text) for position, text in enumerate(texts, len(ids))
            ]
            yield _ID_US * len(texts)
        if not ids:
            raise ApiError(400, "asset_ids is empty; a group has at least one asset")
        if len(set(ids)) < len(ids):
            [(twice, _)] = Counter(ids).most_common(1)
            raise ApiError(400, f"asset_ids names {twice} more than once")
        return DispatchTarget(kind="assets"), sorted(index.keys_of(ids))
    if body.site_id is not None:
        site_id = checked_id("site_id", body.site_id)
        keys = index.keys_of_site(site_id)
        if not keys:
            raise ApiError(400, f"site {shown(site_id)} has no assets; a group has at least one")
        return DispatchTarget(kind="site", id=site_id), keys
    return DispatchTarget(kind="fleet"), index.all_keys


def _valid_until_ms(body: DispatchBody) -> int | None:
    if body.valid_until is None:
        return None
    try:
        return parse_ms(body.valid_until)
    except ValueError:
        rule = "it must be an RFC 3339 time such as 2026-01-02T03:04:05Z"
        raise ApiError(400, f"valid_until is {shown(body.valid_until)}; {rule}") from None


def _names() -> str:
    return ", ".join(f"`{name}`" for name in _TARGETS)
