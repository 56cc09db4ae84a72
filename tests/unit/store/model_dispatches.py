"""Dispatches as they are recorded, and as the models of the database keep and find them.

A scope's tenant counts; its sites do not, for the models know no sites.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from trioder.domain.access import ALL_TENANTS, EVERYTHING, Scope
from trioder.domain.assets import Asset
from trioder.domain.dispatch import DispatchRecord, with_allocations
from trioder.store.postgres.pending_records import PendingDispatch

T = TypeVar("T")


def hand_over(
    record: Callable[..., T], dispatch: DispatchRecord, *, changed: Iterable[int] | None = None
) -> T:
    """Record a dispatch in its present state, or only its changed shares; `record` is a store's."""
    shares = [*dispatch.members, *dispatch.left_out]
    return record(
        replace(dispatch, members=(), left_out=()),
        changed=range(len(shares)) if changed is None else changed,
        share_of=shares.__getitem__,
    )


def keep(records: dict[str, DispatchRecord], record: PendingDispatch) -> None:
    """Write a record: what it does not bring stays as it was."""
    former = records.get(record.dispatch.dispatch_id)
    shares = () if former is None else (*former.members, *former.left_out)
    records[record.dispatch.dispatch_id] = with_allocations(record.dispatch, record.shares, former=shares)


def open_dispatches(records: Iterable[DispatchRecord], *, limit: int) -> Sequence[DispatchRecord]:
    found = [record for record in records if record.is_open or record.state == "cancelled"]
    return sorted(found, key=lambda record: record.dispatched_ms)[-limit:]


def found(
    records: Iterable[DispatchRecord],
    *,
    dispatch_id: str | None,
    idempotency_key: str | None,
    scope: Scope = EVERYTHING,
) -> DispatchRecord | None:
    for record in records:
        if scope.tenant in {ALL_TENANTS, record.tenant} and (
            dispatch_id == record.dispatch_id
            or (idempotency_key is not None and idempotency_key == record.idempotency_key)
        ):
            return record
    return None


def newest(
    records: Iterable[DispatchRecord],
    *,
    limit: int,
    asset: Asset | None,
    state: str | None,
    before: tuple[int, str] | None,
    whole: bool,
    scope: Scope = EVERYTHING,
) -> Sequence[DispatchRecord]:
    chosen = [
        record
        for record in records
        if (state is None or record.state == state)
        and scope.tenant in {ALL_TENANTS, record.tenant}
        and (before is None or (record.dispatched_ms, record.dispatch_id) < before)
        and (asset is None or asset.id in {member.asset_id for member in record.members})
    ]
    ordered = sorted(chosen, key=lambda record: (record.dispatched_ms, record.dispatch_id), reverse=True)[
        :limit
    ]
    return ordered if whole else [replace(record, members=(), left_out=()) for record in ordered]
