"""Builds dispatches: from requests, which it checks, and after a restart from records or agents' reports.

The dispatcher starts what is built; a group's setpoints are added by `allocator`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import cast

from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.registry import LEFT_THE_FLEET
from trioder.domain.assets import Asset
from trioder.domain.dispatch import (
    EXPIRES_IN_S,
    MAX_DURATION_S,
    MAX_EXPIRES_IN_S,
    AssetSetpointRecord,
    DispatchRecord,
    DispatchRefusedError,
    DispatchRequest,
    DispatchTarget,
    GroupRequest,
    RequestTerms,
    StepTerms,
    Strategy,
)
from trioder.domain.fleet import Fleet
from trioder.domain.lifecycle import STATES, TERMINAL, DispatchState
from trioder.gateway.sessions import SessionRegistry
from trioder.process.rfc3339 import format_ms
from trioder.process.wall_time import WallClock
from trioder.wire.records import Acknowledgement


class DispatchBuilder:
    """Builds dispatches from requests; `new_id` returns their ids."""

    def __init__(
        self, *, fleet: Fleet, sessions: SessionRegistry, wall: WallClock, new_id: Callable[[], str]
    ) -> None:
        self._fleet = fleet
        self._sessions = sessions
        self._wall = wall
        self._new_id = new_id
        self._numbers = count(1)
        self._listed_at = 0

    def build_single(self, request: DispatchRequest) -> Dispatch:
        """Build a dispatch to one asset.

        Raises:
            DispatchRefusedError: unknown asset, or a value that it or its agent does not accept.
        """
        key = self._fleet.index_by_id.get(request.asset_id)
        if key is None:
            raise DispatchRefusedError("not_found", f"there is no asset {request.asset_id} in the fleet")
        asset = self._fleet.assets[key]
        _check_power(asset, "mw", request.mw)
        _check_power(asset, "reversion_mw", request.reversion_mw)
        session = self._sessions.session_of(key)
        if request.reversion_mw and session is not None and not session.supports_reversions:
            # Refused before it supersedes the asset's present setpoint.
            raise DispatchRefusedError(
                "bad_request",
                f"reversion_mw is {request.reversion_mw}; the agent of asset {asset.id} is too old for it",
            )
        dispatch = self._new_dispatch(request, DispatchTarget(kind="asset", id=asset.id))
        dispatch.candidate_keys = (key,)
        dispatch.add(
            AssetSetpoint(
                dispatch=dispatch,
                key=key,
                mw=request.mw,
                reversion_mw=request.reversion_mw,
                wire_id=dispatch.dispatch_id,
                ends_ms=dispatch.ends_ms,
                queue_until_ms=dispatch.queue_until_ms,
            )
        )
        return dispatch

    def build_group(self, request: GroupRequest) -> Dispatch:
        """Build a dispatch to many assets, without its setpoints: `Allocator.allocate_steps` adds them.

        Raises:
            DispatchRefusedError: no asset, or an invalid value.
        """
        _check_finite("mw", request.mw)
        _check_finite("reversion_mw", request.reversion_mw)
        if not request.keys:
            raise DispatchRefusedError("bad_request", "the group has no asset; it must have at least one")
        dispatch = self._new_dispatch(request, request.target)
        dispatch.strategy = request.strategy
        dispatch.resplit = request.resplit
        dispatch.candidate_keys = request.keys
        return dispatch

    def build_stop(
        self, target: DispatchTarget, keys: Sequence[int], *, tenant: str, requested_by: str
    ) -> Dispatch:
        """Build an emergency stop, without its setpoints: `stop_setpoint` makes them."""
        terms = RequestTerms(mw=0.0, tenant=tenant, requested_by=requested_by, priority="emergency")
        dispatch = self._new_dispatch(terms, target)
        dispatch.candidate_keys = keys
        return dispatch

    def _new_dispatch(self, request: RequestTerms, target: DispatchTarget) -> Dispatch:
        now_ms = self._wall.now_ms()
        _check_term(request, now_ms)
        expires_in_s = EXPIRES_IN_S if request.expires_in_s is None else request.expires_in_s
        # In this order, so that NaN is refused.
        if not 0 < expires_in_s <= MAX_EXPIRES_IN_S:
            raise DispatchRefusedError(
                "bad_request",
                f"expires_in_s is {expires_in_s}; it must be more than 0 and at most {MAX_EXPIRES_IN_S:g} s",
            )
        duration_s, valid_until_ms = request.duration_s, request.valid_until_ms
        step = request.step
        # After a clock was set back the newest is listed first as before.
        self._listed_at = max(self._listed_at, now_ms)
        return Dispatch(
            dispatch_id=self._new_id() if step is None else step.dispatch_id,
            number=next(self._numbers),
            listed_at=self._listed_at,
            target=target,
            mw=request.mw,
            duration_s=duration_s,
            valid_until_ms=valid_until_ms,
            reversion_mw=request.reversion_mw,
            expires_in_s=expires_in_s,
            idempotency_key=request.idempotency_key,
            request_digest=request.request_digest,
            tenant=request.tenant,
            requested_by=request.requested_by,
            priority=request.priority,
            step=step,
            dispatched_ms=now_ms,
            queue_until_ms=now_ms + round(expires_in_s * 1000),
            ends_ms=valid_until_ms if duration_s is None else now_ms + duration_s * 1000,
        )


def _check_term(request: RequestTerms, now_ms: int) -> None:
    duration_s, valid_until_ms = request.duration_s, request.valid_until_ms
    if duration_s is not None and valid_until_ms is not None:
        raise DispatchRefusedError(
            "bad_request", "duration_s and valid_until are both given; a setpoint has one end"
        )
    if duration_s is not None and not 1 <= duration_s <= MAX_DURATION_S:
        raise DispatchRefusedError(
            "bad_request", f"duration_s is {duration_s}; it must be 1 to {MAX_DURATION_S} s"
        )
    if valid_until_ms is not None and not now_ms < valid_until_ms <= now_ms + MAX_DURATION_S * 1000:
        raise DispatchRefusedError(
            "bad_request",
            f"valid_until is {format_ms(valid_until_ms)}; it must be after now, {format_ms(now_ms)}, "
            f"by {MAX_DURATION_S} s at most",
        )


def _check_power(asset: Asset, name: str, mw: float) -> None:
    """Check the power asked of one asset."""
    _check_finite(name, mw)
    if not asset.min_mw <= mw <= asset.max_mw:
        raise DispatchRefusedError(
            "out_of_bounds",
            f"{name} is {mw}; asset {asset.id} takes {asset.min_mw} to {asset.max_mw} MW",
        )


def _check_finite(name: str, mw: float) -> None:
    """Check that a power is finite."""
    if not math.isfinite(mw):
        raise DispatchRefusedError("bad_request", f"{name} is {mw}; it must be a finite number")


def dispatch_of(
    record: DispatchRecord, fleet: Fleet, *, now_ms: int, step: StepTerms | None = None
) -> Dispatch | None:
    """Return the dispatch as it was recorded; None when it had ended, unless it was cancelled.

    The agents of a cancelled one may have been away: what they report must be recognised.

    A setpoint that was sent and not acknowledged is queued again. One whose asset has left the fleet has
    failed at `now_ms` (Unix), and is part of the shortfall until it is reallocated.
    """
    dispatch = Dispatch(
        dispatch_id=record.dispatch_id,
        target=record.target,
        mw=record.mw,
        duration_s=record.duration_s,
        valid_until_ms=record.valid_until_ms,
        reversion_mw=record.reversion_mw,
        expires_in_s=record.expires_in_s,
        dispatched_ms=record.dispatched_ms,
        queue_until_ms=record.dispatched_ms + round(record.expires_in_s * 1000),
        ends_ms=record.ends_ms,
        strategy=cast("Strategy | None", record.strategy),
        resplit=record.resplit,
        idempotency_key=record.idempotency_key,
        request_digest=record.request_digest,
        tenant=record.tenant,
        requested_by=record.requested_by,
        priority=record.priority,
        step=step,
        shortfall_mw=record.shortfall_mw,
        reallocations=list(record.resplits),
    )
    index_by_id = fleet.index_by_id
    has_failed = False
    dropped_ids = {asset_id for one in record.resplits for asset_id, _ in one.dropped}
    for member in record.members:
        if member.state not in STATES:
            continue
        key = index_by_id.get(member.asset_id)
        has_ended = member.state in TERMINAL
        if key is not None:
            dropped_out = member.asset_id in dropped_ids and has_ended and member.state != "completed"
            dispatch.add(_setpoint_of(member, key, dispatch, dropped_out=dropped_out))
        elif has_ended:
            dispatch.retire(member, member.state)
        else:
            failed = replace(member, state="failed", reason=LEFT_THE_FLEET, ended_ms=now_ms)
            dispatch.retire(failed, "failed")
            has_failed = True
            if dispatch.is_group:
                dispatch.shortfall_mw += member.mw
    if dispatch.ended and not has_failed and not dispatch.count_by_state["cancelled"]:
        return None
    dispatch.excluded = {
        index_by_id[one.asset_id]: (one.code, one.allocation)
        for one in record.left_out
        if one.asset_id in index_by_id
    }
    dispatch.candidate_keys = sorted([*dispatch.setpoints, *dispatch.excluded])
    dispatch.set_if_answered()
    _bound_times(dispatch, now_ms)
    return dispatch


def _bound_times(dispatch: Dispatch, now_ms: int) -> None:
    """Limit what is left to what was requested: the clock of the record may have been ahead."""
    queue_until_ms = now_ms + round(dispatch.expires_in_s * 1000)
    ends_ms = None if dispatch.duration_s is None else now_ms + dispatch.duration_s * 1000
    parts: list[Dispatch | AssetSetpoint] = [dispatch, *dispatch.setpoints.values()]
    for part in parts:
        part.queue_until_ms = min(part.queue_until_ms, queue_until_ms)
        if part.ends_ms is not None and ends_ms is not None:
            part.ends_ms = min(part.ends_ms, ends_ms)
    for setpoint in dispatch.setpoints.values():
        if setpoint.sent_ms is not None:
            setpoint.sent_ms = min(setpoint.sent_ms, now_ms)


def _setpoint_of(
    record: AssetSetpointRecord, key: int, dispatch: Dispatch, *, dropped_out: bool
) -> AssetSetpoint:
    state = cast("DispatchState", record.state)
    if state == "sent":
        state = "queued"
    return AssetSetpoint(
        dispatch=dispatch,
        key=key,
        mw=record.mw,
        reversion_mw=record.reversion_mw,
        wire_id=record.wire_id,
        queue_until_ms=dispatch.queue_until_ms if record.queue_until_ms is None else record.queue_until_ms,
        code=record.code,
        allocation=record.allocation,
        held_mw=record.held_mw,
        ends_ms=record.ends_ms,
        state=state,
        answer=record.answer,
        reason=record.reason,
        sent_ms=record.sent_ms,
        answered_ms=record.answered_ms,
        tracking_ms=record.tracking_ms,
        ended_ms=record.ended_ms if state in TERMINAL else None,
        dropped_out=dropped_out,
        ended_mean_mw=record.mean_mw,
    )


def stop_setpoint(dispatch: Dispatch, key: int) -> AssetSetpoint:
    """Return the setpoint of an asset within a stop."""
    return AssetSetpoint(
        dispatch=dispatch,
        key=key,
        mw=0.0,
        reversion_mw=0.0,
        wire_id=dispatch.dispatch_id,
        queue_until_ms=dispatch.queue_until_ms,
    )


def adopted_setpoint(
    dispatch: Dispatch | None,
    key: int,
    ack: Acknowledgement,
    *,
    dispatch_id: str,
    tenant: str,
    now_ms: int,
    ends_ms: int | None,
) -> AssetSetpoint:
    """Return a setpoint that an agent reports as active, and of which there is no record.

    It is added to the tenant's dispatch under whose id other assets were reported already; None: to a new
    one, with `dispatch_id`.
    """
    mw = ack.setpoint_mw or 0.0
    if dispatch is None:
        dispatch = Dispatch(
            dispatch_id=dispatch_id,
            target=DispatchTarget(kind="asset", id=ack.asset_id),
            mw=mw,
            expires_in_s=0.0,
            dispatched_ms=now_ms,
            queue_until_ms=now_ms,
            ends_ms=ends_ms,
            tenant=tenant,
            adopted=True,
        )
    else:
        dispatch.target = DispatchTarget(kind="assets")
        dispatch.mw += mw
    setpoint = AssetSetpoint(
        dispatch=dispatch,
        key=key,
        mw=mw,
        reversion_mw=ack.reversion_mw or 0.0,
        wire_id=ack.dispatch_id,
        queue_until_ms=now_ms,
        ends_ms=ends_ms,
        state="accepted",
        reason="in force since before the headend's start",
        sent_ms=now_ms,
        answered_ms=now_ms,
    )
    dispatch.add(setpoint)
    return setpoint
