"""A database in memory: as slow and as unreliable as a test wants it, and as exact as the real one."""

import random
from collections.abc import Iterable, Mapping, Sequence

import trio

from tests.unit.store import model_dispatches
from tests.unit.store.model_audit import ModelAudit
from trioder.domain.access import EVERYTHING, IdentityBinding, PastAuditRecord, Scope
from trioder.domain.alarms import Alarm, AlarmFilter, EventFilter, PastEvent
from trioder.domain.assets import Asset
from trioder.domain.dispatch import AllocationRecord, AssetSetpointRecord, DispatchRecord, DispatchTarget
from trioder.domain.schedules import Occurrence, Schedule
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.domain.telemetry import PastSample, SiteBucket, SitePower, TelemetryBucket
from trioder.store.postgres.batch_queue import PendingBatch
from trioder.store.postgres.database import DatabaseError, Maintenance, Watermarks, Written
from trioder.store.postgres.pending_records import PendingDispatch, PendingRecord, PendingSession
from trioder.store.records import NOTHING_COMMITTED, PastSession, Watermark


class NoReads:
    """The reads of a database that the models have nothing for."""

    async def find_retired_asset(self, asset_id: str, *, scope: Scope = EVERYTHING) -> Asset | None:
        await trio.lowlevel.checkpoint()
        return None

    async def history(
        self, asset: Asset, *, limit: int, start_ms: int | None, end_ms: int | None, scope: Scope = EVERYTHING
    ) -> Sequence[PastSample]:
        await trio.lowlevel.checkpoint()
        return ()

    async def history_buckets(
        self,
        asset: Asset,
        *,
        resolution_s: int,
        start_ms: int,
        end_ms: int,
        limit: int,
        scope: Scope = EVERYTHING,
    ) -> Sequence[TelemetryBucket]:
        await trio.lowlevel.checkpoint()
        return ()

    async def site_history(
        self,
        site_ids: Sequence[str] | None,
        *,
        resolution_s: int,
        start_ms: int,
        end_ms: int,
        limit: int,
        scope: Scope = EVERYTHING,
    ) -> Sequence[SiteBucket]:
        await trio.lowlevel.checkpoint()
        return ()

    async def site_power(self, *, start_ms: int, end_ms: int, step_s: int) -> Sequence[SitePower]:
        await trio.lowlevel.checkpoint()
        return ()

    async def reported_times(self, assets: Sequence[Asset], *, limit: int) -> Mapping[str, Sequence[int]]:
        await trio.lowlevel.checkpoint()
        return {}

    async def sessions(
        self,
        *,
        limit: int,
        asset: Asset | None,
        site_id: str | None,
        agent_id: str | None,
        before: tuple[int, str] | None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[PastSession]:
        await trio.lowlevel.checkpoint()
        return ()

    async def find_session(self, session_id: str, *, scope: Scope = EVERYTHING) -> PastSession | None:
        await trio.lowlevel.checkpoint()
        return None

    async def allocations(
        self,
        dispatch_id: str,
        *,
        limit: int,
        after: str | None = None,
        state: str | None = None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[AllocationRecord] | None:
        await trio.lowlevel.checkpoint()
        return ()


class ModelDatabase(NoReads):
    """Keeps rows and watermarks together. A failed write may have happened or not, as with a real one.

    Args:
        rng: decides each write's fate.
        failure: how likely a write fails; half of those have happened nevertheless.
        delay_s: the longest that a write takes.
    """

    def __init__(self, rng: random.Random, *, failure: float = 0.0, delay_s: float = 0.0) -> None:
        self._rng = rng
        self.failure = failure
        self.delay_s = delay_s
        self.away = ""
        self.in_time_rows = 1_000_000
        self.refuses = lambda batch: False
        self.rows: list[tuple[str, int, int, float]] = []
        self.watermarks: dict[str, Watermark] = {}
        self.sessions: dict[str, PendingSession] = {}
        self.recorded: dict[str, DispatchRecord] = {}
        self.shares_written: list[int] = []
        self.answers_within_s = 0.0
        self.records_delay_s = 0.0
        self.refuses_records = ""
        self.records_lost_once = ""
        self.audited = ModelAudit()
        self.connected = False
        self.connects = 0
        self.maintained = 0
        self.mirrored = 0
        self.groups: list[int] = []

    async def connect(self, *, first: bool) -> Watermarks:
        await trio.lowlevel.checkpoint()
        self.connects += 1
        self._check_there()
        self.connected = True
        return Watermarks(by_outbox=dict(self.watermarks))

    async def disconnect(self) -> None:
        await trio.lowlevel.checkpoint()
        self.connected = False

    async def write(self, batches: Sequence[PendingBatch], *, rows: bool = True) -> Written:
        assert self.connected
        await trio.sleep(self._rng.random() * self.delay_s)
        self._check_there()
        if sum(batch.rows for batch in batches) > self.in_time_rows:
            await trio.sleep(20)
            raise DatabaseError("the database did not answer within 20 s")
        fails = self._rng.random() < self.failure
        if fails and self._rng.random() < 0.5:
            raise DatabaseError("failed before the commit")
        if rows and any(self.refuses(batch) for batch in batches):
            raise DatabaseError("refused", is_data_error=True)
        added = 0
        watermarks = {}
        for batch in batches:
            if batch.batch_seq > self.watermarks.get(batch.outbox_id, NOTHING_COMMITTED).batch_seq:
                self.watermarks[batch.outbox_id] = batch.watermark
                if rows:
                    added += batch.rows
                    self.rows.extend(
                        (batch.outbox_id, batch.batch_seq, key, soc)
                        for key, soc in zip(batch.asset_keys, batch.soc_mwhr, strict=True)
                    )
            watermarks[batch.outbox_id] = self.watermarks[batch.outbox_id]
        self.groups.append(added)
        if fails:
            raise DatabaseError("failed after the commit")
        return Written(watermarks=watermarks, rows=added)

    async def write_records(self, records: Iterable[PendingRecord]) -> None:
        await trio.sleep(self._rng.random() * self.delay_s + self.records_delay_s)
        self._check_there()
        if self.refuses_records:
            raise DatabaseError(self.refuses_records)
        for record in records:
            if isinstance(record, PendingSession):
                self.sessions[record.session.session_id] = record
            elif isinstance(record, PendingDispatch):
                model_dispatches.keep(self.recorded, record)
                self.shares_written.append(len(record.changed))
            else:
                self.audited.keep(record)
        if self.records_lost_once:
            reason, self.records_lost_once = self.records_lost_once, ""
            raise DatabaseError(reason)

    async def drop_old_records(self) -> bool:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return False

    async def summarize(self) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    async def mirror_fleet(self) -> None:
        await trio.lowlevel.checkpoint()
        self.mirrored += 1
        self._check_there()

    async def maintain(self) -> Maintenance:
        await trio.lowlevel.checkpoint()
        self.maintained += 1
        self._check_there()
        return Maintenance()

    async def watermark(self, outbox_id: str) -> Watermark:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return self.watermarks.get(outbox_id, NOTHING_COMMITTED)

    async def open_dispatches(self, *, limit: int) -> Sequence[DispatchRecord]:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return model_dispatches.open_dispatches(self.recorded.values(), limit=limit)

    async def find_dispatch(
        self, *, dispatch_id: str | None, idempotency_key: str | None, whole: bool, scope: Scope = EVERYTHING
    ) -> DispatchRecord | None:
        await trio.sleep(self.answers_within_s)
        self._check_there()
        return model_dispatches.found(
            self.recorded.values(), dispatch_id=dispatch_id, idempotency_key=idempotency_key, scope=scope
        )

    async def dispatches(
        self,
        *,
        limit: int,
        asset: Asset | None,
        site_id: str | None,
        state: str | None,
        before: tuple[int, str] | None,
        whole: bool,
        scope: Scope = EVERYTHING,
    ) -> Sequence[DispatchRecord]:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return model_dispatches.newest(
            self.recorded.values(),
            limit=limit,
            asset=asset,
            state=state,
            before=before,
            whole=whole,
            scope=scope,
        )

    async def audit(
        self, *, limit: int, before: int | None, principal: str | None, scope: Scope = EVERYTHING
    ) -> Sequence[PastAuditRecord]:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return self.audited.newest(limit=limit, before=before, principal=principal, scope=scope)

    async def identity_bindings(self) -> Sequence[IdentityBinding]:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return list(self.audited.bindings.values())

    async def site_limits(self) -> Sequence[SiteLimitsRecord]:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return list(self.audited.site_limits.values())

    async def alarms(self, which: AlarmFilter, *, limit: int) -> Sequence[Alarm]:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return self.audited.newest_alarms(which, limit=limit)

    async def find_alarm(self, alarm_id: str, *, scope: Scope = EVERYTHING) -> Alarm | None:
        await trio.lowlevel.checkpoint()
        self._check_there()
        found = self.audited.alarms.get(alarm_id)
        return found if found is not None and AlarmFilter(scope=scope).matches(found) else None

    async def open_alarms(self, *, limit: int) -> Sequence[Alarm]:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return self.audited.newest_alarms(AlarmFilter(state="open"), limit=limit)[::-1]

    async def events(self, which: EventFilter, *, limit: int) -> Sequence[PastEvent]:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return self.audited.newest_events(which, limit=limit)

    async def schedules(self) -> Sequence[Schedule]:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return list(self.audited.schedules.values())

    async def last_occurrences(self, *, now_ms: int) -> Sequence[Occurrence]:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return self.audited.last_occurrences(now_ms=now_ms)

    async def occurrences(
        self, schedule_id: str, *, after_ms: int, before_ms: int, limit: int, scope: Scope = EVERYTHING
    ) -> Sequence[Occurrence]:
        await trio.lowlevel.checkpoint()
        self._check_there()
        return self.audited.occurrences_of(schedule_id, after_ms=after_ms, before_ms=before_ms, limit=limit)

    def _check_there(self) -> None:
        if self.away:
            raise DatabaseError(self.away)


ASSET_ID = "7b1f0d6e-8a55-5c3a-9a0f-0d3f7f1f2a10"


def dispatch_record(dispatch_id: str, state: str = "sent") -> DispatchRecord:
    member = AssetSetpointRecord(asset_id=ASSET_ID, mw=1.0, wire_id=dispatch_id, state=state)
    return DispatchRecord(
        dispatch_id=dispatch_id,
        target=DispatchTarget(kind="asset", id=ASSET_ID),
        mw=1.0,
        allocated_mw=1.0,
        dispatched_ms=1,
        state=state,
        is_open=state in {"queued", "sent", "accepted"},
        by_state={state: 1},
        members=(member,),
    )
