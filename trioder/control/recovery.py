"""Rebuilds a dispatch from its record after a restart of the headend."""

from dataclasses import replace
from typing import cast

from trioder.control.allocation import Strategy
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.registry import LEFT_THE_FLEET
from trioder.domain.dispatch import AssetSetpointRecord, DispatchRecord
from trioder.domain.fleet import Fleet
from trioder.domain.lifecycle import STATES, TERMINAL, DispatchState


def dispatch_of(record: DispatchRecord, fleet: Fleet, *, now_ms: int) -> Dispatch | None:
    """Return the dispatch as it was recorded; None when it had ended.

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
    if dispatch.ended and not has_failed:
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
