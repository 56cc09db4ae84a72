"""How the record of a command is told: to the one who gave it, and to whoever asks later.

What its assets have may be very many rows: they are made when they are sent.
"""

from collections.abc import AsyncGenerator
from typing import Any, cast

from quart_trio.wrappers import TrioResponse

from trioder.api.responses import object_answer, object_chunks
from trioder.api.schemas.dispatch import (
    AllocationRow,
    DispatchAnswer,
    DispatchRow,
    DroppedRow,
    ResplitRow,
    TargetRow,
)
from trioder.control.lifecycle import DispatchState
from trioder.domain.dispatch import (
    AssetSetpointRecord,
    DispatchRecord,
    ExcludedAssetRecord,
    ReallocationRecord,
)
from trioder.process.rfc3339 import format_ms


class _Allocations:
    """The rows of a record's assets, those that were left out last."""

    def __init__(self, record: DispatchRecord, *, shown: bool) -> None:
        self._members = record.members if shown else ()
        self._left_out = record.left_out if shown else ()

    @property
    def keys(self) -> range:
        return range(len(self._members) + len(self._left_out))

    def row_of(self, position: int) -> AllocationRow:
        members = self._members
        if position < len(members):
            return _allocation_row(members[position])
        return _left_out_row(self._left_out[position - len(members)])


def show_record(record: DispatchRecord, *, allocations: bool) -> TrioResponse:
    """A command as whoever asks is told."""
    rows = _Allocations(record, shown=allocations)
    row = dispatch_row(record, allocations=allocations)
    return object_answer(row, list_field="allocations", keys=rows.keys, row_of=rows.row_of)


def record_chunks(record: DispatchRecord) -> AsyncGenerator[bytes]:
    """The same with its allocations, as one of many in a stream."""
    rows = _Allocations(record, shown=True)
    row = dispatch_row(record, allocations=True)
    return object_chunks(row, list_field="allocations", keys=rows.keys, row_of=rows.row_of)


def show_taken(
    record: DispatchRecord, *, allocations: bool, dry_run: bool, status: int = 200
) -> TrioResponse:
    """A command as the one who gave it is told."""
    rows = _Allocations(record, shown=allocations)
    answer = _dispatch_answer(record, allocations=allocations, dry_run=dry_run)
    return object_answer(answer, list_field="allocations", keys=rows.keys, row_of=rows.row_of, status=status)


def dispatch_row(record: DispatchRecord, *, allocations: bool) -> DispatchRow:
    """A command without what each asset has; `allocations` makes room for it."""
    return DispatchRow(**_columns(record, allocations=allocations))


def _dispatch_answer(record: DispatchRecord, *, allocations: bool, dry_run: bool) -> DispatchAnswer:
    columns = _columns(record, allocations=allocations)
    if dry_run:
        columns["dispatch_id"] = None
    single = record.target.kind == "asset"
    return DispatchAnswer(
        **columns,
        status="shortfall" if record.shortfall_mw else "ok",
        asset_id=record.target.id if single else None,
        delivery=None if not single else "queued" if record.state == "queued" else "sent",
        dry_run=dry_run,
    )


def _columns(record: DispatchRecord, *, allocations: bool) -> dict[str, Any]:
    target = record.target
    return {
        "dispatch_id": record.dispatch_id,
        "target": TargetRow(kind=target.kind, id=target.id or None),
        "mw": record.mw,
        "allocated_mw": record.allocated_mw,
        "shortfall_mw": record.shortfall_mw,
        "duration_s": record.duration_s,
        "valid_until": _time(record.valid_until_ms),
        "reversion_mw": record.reversion_mw,
        "expires_in_s": record.expires_in_s,
        "strategy": record.strategy,
        "resplit": record.resplit,
        "dispatched_at": format_ms(record.dispatched_ms),
        "ends_at": _time(record.ends_ms),
        "state": _state(record.state),
        "members": sum(record.by_state.values()),
        "left_out": record.assets_left_out,
        "by_state": record.by_state,
        "resplits": [_resplit_row(resplit) for resplit in record.resplits],
        "allocations": [] if allocations else None,
    }


def _allocation_row(member: AssetSetpointRecord) -> AllocationRow:
    return AllocationRow(
        asset_id=member.asset_id,
        mw=member.mw,
        code=member.code,
        allocation=member.allocation,
        state=_state(member.state),
        held_mw=member.held_mw,
        mean_mw=member.mean_mw,
        answer=member.answer,
        reason=member.reason,
        sent_at=_time(member.sent_ms),
        answered_at=_time(member.answered_ms),
        tracking_at=_time(member.tracking_ms),
        ends_at=_time(member.ends_ms),
        ended_at=_time(member.ended_ms),
    )


def _left_out_row(one: ExcludedAssetRecord) -> AllocationRow:
    return AllocationRow(asset_id=one.asset_id, mw=None, code=one.code, allocation=one.allocation)


def _resplit_row(resplit: ReallocationRecord) -> ResplitRow:
    return ResplitRow(
        at=format_ms(resplit.at_ms),
        dropped=[DroppedRow(asset_id=asset_id, reason=reason) for asset_id, reason in resplit.dropped],
        adjusted=[DroppedRow(asset_id=asset_id, reason=reason) for asset_id, reason in resplit.adjusted],
        joined=list(resplit.joined),
        changed=resplit.changed,
        shortfall_mw=resplit.shortfall_mw,
    )


def _time(ts_unix_ms: int | None) -> str | None:
    return None if ts_unix_ms is None else format_ms(ts_unix_ms)


def _state(state: str) -> DispatchState:
    return cast("DispatchState", state)
