"""Carries out bodies of `POST /dispatch`: within what the caller sees, and once for an Idempotency-Key."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from trioder.api.access import principal
from trioder.api.asset_query import FleetIndex, FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.idempotency import IdempotencyKeys
from trioder.api.parsing import checked_id, checked_time_ms
from trioder.api.schemas.dispatch import DispatchBody
from trioder.domain.access import ALL_TENANTS
from trioder.domain.dispatch import (
    DispatchRecord,
    DispatchRefusedError,
    DispatchRequest,
    DispatchTarget,
    GroupRequest,
)
from trioder.domain.text import preview
from trioder.events.counters import TenantCounters
from trioder.process.slices import Steps, parts_of, run_in_slices

_STATUS_OF_REFUSAL = {"bad_request": 400, "out_of_bounds": 400, "not_found": 404}
_TARGETS = ("asset_id", "asset_ids", "site_id", "fleet")
# The cost of checking an id.
_ID_US = 1.0
# ... and of finding an asset's site.
_TENANT_US = 0.2


class Commands:
    """Commands of callers; `counters` count those that were carried out."""

    def __init__(self, headend: Headend, indexes: FleetIndexes, counters: TenantCounters) -> None:
        self._dispatcher = headend.dispatcher
        self._indexes = indexes
        self._counters = counters
        self._keys = IdempotencyKeys(store=headend.store, find=self._dispatcher.find_in_slices)

    async def carry_out(self, body: DispatchBody) -> DispatchRecord:
        """Dispatch what the current request's body says, or return the record of when it was dispatched.

        Raises:
            ApiError: it is refused, or its Idempotency-Key was used for another; nothing was dispatched.
        """
        caller = principal()

        async def execute(key: str | None, digest: str | None) -> DispatchRecord:
            # Not before the key was looked up: meanwhile a reload may give a site to another tenant.
            request = await run_in_slices(_request_steps(body, self._indexes.of(caller.scope)))
            return await self._execute(
                replace(request, idempotency_key=key, request_digest=digest, requested_by=caller.name),
                dry_run=body.dry_run,
            )

        if body.dry_run:
            return await execute(None, None)
        return await self._keys.execute_once(body, execute, scope=caller.scope)

    async def _execute(self, request: DispatchRequest | GroupRequest, *, dry_run: bool) -> DispatchRecord:
        dispatcher = self._dispatcher
        try:
            if isinstance(request, GroupRequest):
                record = await dispatcher.dispatch_group_in_slices(request, dry_run=dry_run)
            else:
                record = dispatcher.record_of(dispatcher.dispatch(request, dry_run=dry_run))
        except DispatchRefusedError as refusal:
            raise ApiError(_STATUS_OF_REFUSAL[refusal.code], refusal.message, code=refusal.code) from None
        if not dry_run:
            self._counters.dispatches[record.tenant] += 1
        return record


def _request_steps(body: DispatchBody, index: FleetIndex) -> Steps[DispatchRequest | GroupRequest]:
    """Convert a body in steps: one of the maximum size names 25,000 assets.

    Raises:
        ApiError: 400 unless there is exactly one target; 404 when it is not in the fleet.
    """
    targets = [name for name in _TARGETS if getattr(body, name) is not None]
    if len(targets) != 1:
        found = "none" if not targets else f"{len(targets)}: {', '.join(targets)}"
        names = ", ".join(f"`{name}`" for name in _TARGETS)
        raise ApiError(400, f"the body must name exactly one of {names}; it names {found}")
    if body.fleet is False:
        raise ApiError(400, "fleet is false; it must be true, or one of the other targets is named instead")
    if body.asset_id is None:
        target, keys = yield from _target_steps(body, index)
        tenant = yield from _tenant_steps(target, keys, index)
        return GroupRequest(
            tenant=tenant,
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
    for name in ("strategy", "resplit"):
        if getattr(body, name) is not None:
            raise ApiError(400, f"{name} is given with asset_id; it is for commands to many assets")
    asset_id = checked_id("asset_id", body.asset_id)
    return DispatchRequest(
        tenant=index.tenant_of(index.key_of(asset_id)),
        asset_id=asset_id,
        mw=body.mw,
        duration_s=body.duration_s,
        valid_until_ms=_valid_until_ms(body),
        reversion_mw=body.reversion_mw,
        expires_in_s=body.expires_in_s,
    )


def _target_steps(body: DispatchBody, index: FleetIndex) -> Steps[tuple[DispatchTarget, Sequence[int]]]:
    if body.asset_ids is not None:
        ids: list[str] = []
        for part in parts_of(body.asset_ids):
            ids += [
                checked_id(f"asset_ids[{position}]", text) for position, text in enumerate(part, len(ids))
            ]
            yield _ID_US * len(part)
        if not ids:
            raise ApiError(400, "asset_ids is empty; a group has at least one asset")
        if len(set(ids)) < len(ids):
            [(repeated, _)] = Counter(ids).most_common(1)
            raise ApiError(400, f"asset_ids names {repeated} more than once")
        return DispatchTarget(kind="assets"), sorted(index.keys_of(ids))
    if body.site_id is not None:
        site_id = checked_id("site_id", body.site_id)
        keys = index.keys_of_site(site_id)
        if not keys:
            raise ApiError(400, f"site {preview(site_id)} has no assets; a group has at least one")
        return DispatchTarget(kind="site", id=site_id), keys
    return DispatchTarget(kind="fleet"), index.all_keys


def _tenant_steps(target: DispatchTarget, keys: Sequence[int], index: FleetIndex) -> Steps[str]:
    """Return whose assets these are, in steps; `ALL_TENANTS` for those of several."""
    if index.scope.tenant != ALL_TENANTS:
        return index.scope.tenant
    if target.kind == "fleet":
        tenants = {site.tenant for site in index.sites if index.keys_by_site[site.id]}
    else:
        tenants = set()
        for part in parts_of(keys):
            tenants |= index.tenants_of(part)
            yield _TENANT_US * len(part)
    return tenants.pop() if len(tenants) == 1 else ALL_TENANTS


def described_target(body: DispatchBody) -> str:
    """Describe what a request names, for the audit; it may be malformed."""
    if body.asset_id is not None:
        return f"asset {preview(body.asset_id)}"
    if body.site_id is not None:
        return f"site {preview(body.site_id)}"
    return "fleet" if body.asset_ids is None else f"{len(body.asset_ids)} assets"


def _valid_until_ms(body: DispatchBody) -> int | None:
    return None if body.valid_until is None else checked_time_ms("valid_until", body.valid_until)
