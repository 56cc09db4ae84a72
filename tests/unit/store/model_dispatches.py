"""Recorded dispatches as the models of the database find them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from trioder.sim.model import Asset
from trioder.store.records import DispatchRecord


def living(records: Iterable[DispatchRecord], *, limit: int) -> Sequence[DispatchRecord]:
    found = [record for record in records if record.living]
    return sorted(found, key=lambda record: record.dispatched_ms)[-limit:]


def found(
    records: Iterable[DispatchRecord], *, dispatch_id: str | None, idempotency_key: str | None
) -> DispatchRecord | None:
    for record in records:
        if dispatch_id == record.dispatch_id or (
            idempotency_key is not None and idempotency_key == record.idempotency_key
        ):
            return record
    return None


def newest(
    records: Iterable[DispatchRecord], *, limit: int, asset: Asset | None, state: str | None, whole: bool
) -> Sequence[DispatchRecord]:
    chosen = [
        record
        for record in records
        if (state is None or record.state == state)
        and (asset is None or asset.id in {member.asset_id for member in record.members})
    ]
    ordered = sorted(chosen, key=lambda record: record.dispatched_ms, reverse=True)[:limit]
    return ordered if whole else [replace(record, members=(), left_out=()) for record in ordered]
