"""The bodies of `/dispatch`, made from a dispatch's record."""

from collections.abc import Mapping
from typing import Any, Literal, cast

from trioder.domain.dispatch import AllocationRecord, DispatchRecord, ExcludedAssetRecord
from trioder.domain.lifecycle import DispatchState
from trioder.process.rfc3339 import format_ms
from trioder.schemas.dispatch import (
    AllocationRow,
    DispatchResponse,
    DispatchRow,
    DroppedRow,
    ResplitRow,
    TargetRow,
)


def dispatch_row(record: DispatchRecord, *, allocations: bool) -> DispatchRow:
    """Return a dispatch with an empty list of allocations, or none."""
    return DispatchRow(**_columns(record, allocations=allocations))


def dispatch_response(
    record: DispatchRecord, *, by_code: Mapping[str, int], allocations: bool, dry_run: bool
) -> DispatchResponse:
    """Return a new dispatch with an empty list of allocations, or none."""
    columns = _columns(record, allocations=allocations)
    if dry_run:
        columns["dispatch_id"] = None
    single = record.target.kind == "asset"
    return DispatchResponse(
        **columns,
        status="shortfall" if record.shortfall_mw else "ok",
        asset_id=record.target.id if single else None,
        delivery=None if not single else _delivery_of(record),
        dry_run=dry_run,
        by_code=dict(by_code),
    )


def _delivery_of(record: DispatchRecord) -> Literal["sent", "queued", "deferred"]:
    match record.state:
        case "queued" | "deferred" as waiting:
            return waiting
        case _:
            return "sent"


def allocation_row(share: AllocationRecord) -> AllocationRow:
    """Return one asset's share."""
    if isinstance(share, ExcludedAssetRecord):
        return AllocationRow(asset_id=share.asset_id, mw=None, code=share.code, allocation=share.allocation)
    return AllocationRow(
        asset_id=share.asset_id,
        mw=share.mw,
        code=share.code,
        allocation=share.allocation,
        state=cast("DispatchState", share.state),
        held_mw=share.held_mw,
        mean_mw=share.mean_mw,
        answer=share.answer,
        reason=share.reason,
        sent_at=_time(share.sent_ms),
        answered_at=_time(share.answered_ms),
        tracking_at=_time(share.tracking_ms),
        ends_at=_time(share.ends_ms),
        ended_at=_time(share.ended_ms),
    )


def _columns(record: DispatchRecord, *, allocations: bool) -> dict[str, Any]:
    return {
        "dispatch_id": record.dispatch_id,
        "target": TargetRow(kind=record.target.kind, id=record.target.id or None),
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
        "state": record.state,
        "members": sum(record.by_state.values()),
        "left_out": record.assets_left_out,
        "by_state": record.by_state,
        "resplits": [
            ResplitRow(
                at=format_ms(resplit.at_ms),
                dropped=[DroppedRow(asset_id=asset_id, reason=why) for asset_id, why in resplit.dropped],
                adjusted=[DroppedRow(asset_id=asset_id, reason=why) for asset_id, why in resplit.adjusted],
                joined=list(resplit.joined),
                changed=resplit.changed,
                shortfall_mw=resplit.shortfall_mw,
            )
            for resplit in record.resplits
        ],
        "tenant": record.tenant,
        "requested_by": record.requested_by,
        "priority": record.priority,
        "reason": record.reason,
        "allocations": [] if allocations else None,
    }


def _time(ts_unix_ms: int | None) -> str | None:
    return None if ts_unix_ms is None else format_ms(ts_unix_ms)
