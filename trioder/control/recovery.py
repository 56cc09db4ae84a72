"""A command made again from its record, after a restart of the headend."""

from dataclasses import replace
from typing import cast

from trioder.control.allocation import Strategy
from trioder.control.lifecycle import STATES, TERMINAL, DispatchState
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.registry import LEFT_THE_FLEET
from trioder.domain.dispatch import AssetSetpointRecord, DispatchRecord
from trioder.domain.fleet import Fleet


def command_of(record: DispatchRecord, fleet: Fleet, *, now_ms: int) -> Dispatch | None:
    """Return the command as it was recorded; None when it had ended.

    A member that was sent and not answered waits to be sent again. One whose asset has left the fleet has
    failed at `now_ms` (Unix), and its share is short until others take it over.
    """
    queue_until_ms = record.dispatched_ms + round(record.expires_in_s * 1000)
    command = Dispatch(
        dispatch_id=record.dispatch_id,
        target=record.target,
        mw=record.mw,
        duration_s=record.duration_s,
        valid_until_ms=record.valid_until_ms,
        reversion_mw=record.reversion_mw,
        expires_in_s=record.expires_in_s,
        dispatched_ms=record.dispatched_ms,
        queue_until_ms=queue_until_ms,
        ends_ms=record.ends_ms,
        strategy=cast("Strategy | None", record.strategy),
        resplit=record.resplit,
        idempotency_key=record.idempotency_key,
        request_digest=record.request_digest,
        shortfall_mw=record.shortfall_mw,
        resplits=list(record.resplits),
    )
    index_by_id = fleet.index_by_id
    has_departed = False
    dropped_out = {asset_id for resplit in record.resplits for asset_id, _ in resplit.dropped}
    for member in record.members:
        if member.state not in STATES:
            continue
        key = index_by_id.get(member.asset_id)
        if key is not None:
            has_dropped = (
                member.asset_id in dropped_out and member.state in TERMINAL and member.state != "completed"
            )
            command.add(_member_of(member, key, command, dropped_out=has_dropped))
        elif member.state in TERMINAL:
            command.depart(member, member.state)
        else:
            failed = replace(member, state="failed", reason=LEFT_THE_FLEET, ended_ms=now_ms)
            command.depart(failed, "failed")
            has_departed = True
            if command.is_group:
                command.shortfall_mw += member.mw
    if command.ended and not has_departed:
        return None
    left_out = {
        index_by_id[one.asset_id]: (one.code, one.allocation)
        for one in record.left_out
        if one.asset_id in index_by_id
    }
    command.left_out = left_out
    command.candidate_keys = sorted([*command.members, *left_out])
    command.look_whether_answered()
    return command


def _member_of(
    record: AssetSetpointRecord, key: int, command: Dispatch, *, dropped_out: bool
) -> AssetSetpoint:
    state = cast("DispatchState", record.state)
    if state == "sent":
        state = "queued"
    return AssetSetpoint(
        command=command,
        key=key,
        mw=record.mw,
        reversion_mw=record.reversion_mw,
        wire_id=record.wire_id,
        queue_until_ms=command.queue_until_ms if record.queue_until_ms is None else record.queue_until_ms,
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
