"""Carries out bodies of `POST /dispatch`: within what the caller sees, and once for an Idempotency-Key."""

from dataclasses import replace

from trioder.api.access import principal
from trioder.api.asset_query import FleetIndex, FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.idempotency import IdempotencyKeys
from trioder.api.parsing import checked_id, checked_time_ms
from trioder.api.targets import check_one_target, target_steps, tenant_steps
from trioder.domain.dispatch import (
    DispatchRecord,
    DispatchRefusedError,
    DispatchRequest,
    GroupRequest,
)
from trioder.events.counters import TenantCounters
from trioder.process.slices import Steps, run_in_slices
from trioder.schemas.dispatch import DispatchBody

_STATUS_OF_REFUSAL = {"bad_request": 400, "out_of_bounds": 400, "not_found": 404}


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
    check_one_target(body)
    if body.asset_id is None:
        target, keys = yield from target_steps(body, index)
        tenant = yield from tenant_steps(target, keys, index)
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


def _valid_until_ms(body: DispatchBody) -> int | None:
    return None if body.valid_until is None else checked_time_ms("valid_until", body.valid_until)
