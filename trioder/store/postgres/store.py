"""The store on a database: accepts without waiting, commits in groups, and retries while it is unavailable.

One task writes telemetry, another one all other records, so that neither waits for the other. They alone
decide what the database's failures mean. Reads are in `queries`. There is no SQL in here.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

import structlog
import trio

from trioder.domain.access import AuditRecord, IdentityBinding
from trioder.domain.alarms import Alarm, EventRecord
from trioder.domain.dispatch import AllocationOf, DispatchRecord
from trioder.domain.fleet import Fleet
from trioder.domain.schedules import Occurrence, Schedule
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.domain.telemetry import Samples
from trioder.process.backoff import Backoff
from trioder.process.wall_time import WallClock
from trioder.store.interface import StoreHealth, StoreListener
from trioder.store.postgres.batch_queue import BatchQueue, PendingBatch, UnsequencedBuffer
from trioder.store.postgres.database import MAX_WATERMARKS, Database, DatabaseError, DatabaseHealth, bisect
from trioder.store.postgres.pending_records import (
    PendingAlarm,
    PendingAudit,
    PendingBinding,
    PendingDispatch,
    PendingEvent,
    PendingOccurrence,
    PendingSchedule,
    PendingSiteLimits,
)
from trioder.store.postgres.queries import PostgresQueries
from trioder.store.postgres.record_writer import RecordWriter
from trioder.store.records import NOTHING_COMMITTED, SessionRecord, Watermark
from trioder.store.stats import StoreStats

log = structlog.stdlib.get_logger(__name__)

QUEUE_BYTES = 64 * 1024 * 1024
GROUP_ROWS = 50_000
# The minimum interval between the starts of two transactions, unless there is a full group.
PACE_S = 0.1
MAINTAIN_EVERY_S = 5.0
# An unavailable database delays a session no longer than this.
_WATERMARKS_WITHIN_S = 2.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_SUMMARIZE_EVERY_S, _SUMMARIZE_AFTER_FAILURE_S = 15.0, 60.0


class PostgresStore(PostgresQueries):
    """A `Store`; works while `run` does.

    Args:
        database: nobody else uses it.
        wall: the wall time.
        fleet: the sites of assets, by their key; without it callers who see some sites only see no dispatch
            that waits to be written.
        queue_bytes: how much telemetry may wait.
        group_rows: how many samples are written in one transaction.
    """

    def __init__(
        self,
        database: Database,
        *,
        wall: WallClock,
        fleet: Fleet | None = None,
        queue_bytes: int = QUEUE_BYTES,
        group_rows: int = GROUP_ROWS,
    ) -> None:
        self._database = database
        self._queue = BatchQueue(max_bytes=queue_bytes, group_rows=group_rows)
        self._unsequenced = UnsequencedBuffer(self._queue, max_bytes=queue_bytes, started_ms=wall.now_ms())
        self._listener: StoreListener | None = None
        self._health = DatabaseHealth()
        self._stats = StoreStats()
        self._watermarks: OrderedDict[str, Watermark] = OrderedDict()
        self._watermarks_complete = False
        self._watermarks_read = trio.Event()
        self._attempted = trio.Event()
        self._work = trio.Event()
        self._full = trio.Event()
        self._idle = trio.Event()
        self._fleet_mirrored = trio.Event()
        self._fleet_mirrored.set()
        self._record_writer = RecordWriter(
            database,
            stats=self._stats,
            wait_ready=self._wait_mirrored,
            attempt=self._attempt,
            on_written=self._on_records_written,
        )
        super().__init__(database, health=self._health, queue=self._record_writer.queue, fleet=fleet)

    @property
    def health(self) -> StoreHealth:
        """`error` from a failure of the database until the failed operation has succeeded."""
        return "error" if self._health.reason else "ok"

    @property
    def health_reason(self) -> str:
        """See `Store.health_reason`."""
        return self._health.reason

    @property
    def stats(self) -> StoreStats:
        """See `Store.stats`."""
        self._stats.queue_rows = self._queue.rows + self._unsequenced.rows
        self._stats.queue_bytes = self._queue.size
        self._stats.records_waiting = len(self._record_writer.queue)
        return self._stats

    def listen(self, listener: StoreListener) -> None:
        """See `Store.listen`."""
        self._listener = listener

    async def watermark(self, outbox_id: str) -> Watermark:
        """See `Store.watermark`."""
        with trio.move_on_after(_WATERMARKS_WITHIN_S):
            await self._watermarks_read.wait()
        if not self._watermarks_read.is_set():
            return NOTHING_COMMITTED
        if outbox_id in self._watermarks or self._watermarks_complete:
            return self._watermarks.get(outbox_id, NOTHING_COMMITTED)
        try:
            return await self._database.watermark(outbox_id)
        except DatabaseError:
            return NOTHING_COMMITTED

    def submit(self, outbox_id: str, batch_seq: int, samples: Samples) -> bool:
        """See `Store.submit`."""
        if not self._queue.put(PendingBatch.of(outbox_id, batch_seq, samples)):
            self._stats.batches_refused += 1
            return False
        self._wake()
        return True

    def store_unsequenced(self, samples: Samples) -> None:
        """See `Store.store_unsequenced`."""
        if self._unsequenced.put(samples):
            self._wake()
        else:
            self._stats.samples_dropped += len(samples.asset_keys)

    def open_session(self, session: SessionRecord) -> None:
        """See `Store.open_session`."""
        # A copy: the caller may change its list of keys.
        self._record_writer.notify(
            self._record_writer.queue.open_session(replace(session, asset_keys=tuple(session.asset_keys)))
        )

    def close_session(self, session_id: str, *, disconnected_ms: int, reason: str) -> None:
        """See `Store.close_session`."""
        self._record_writer.notify(
            self._record_writer.queue.close_session(
                session_id, disconnected_ms=disconnected_ms, reason=reason
            )
        )

    def record_dispatch(
        self, dispatch: DispatchRecord, *, changed: Collection[int], share_of: AllocationOf
    ) -> None:
        """See `Store.record_dispatch`."""
        self._record_writer.put(
            PendingDispatch(dispatch=dispatch, changed=frozenset(changed), share_of=share_of)
        )

    def record_audit(self, record: AuditRecord) -> None:
        """See `Store.record_audit`."""
        self._record_writer.put(PendingAudit(record=record))

    def record_binding(self, binding: IdentityBinding) -> None:
        """See `Store.record_binding`."""
        self._record_writer.put(PendingBinding(binding=binding))

    def record_site_limits(self, site_id: str, record: SiteLimitsRecord | None) -> None:
        """See `Store.record_site_limits`."""
        self._record_writer.put(PendingSiteLimits(site_id=site_id, record=record))

    def record_alarm(self, alarm: Alarm) -> None:
        """See `Store.record_alarm`."""
        self._record_writer.put(PendingAlarm(alarm=alarm))

    def record_event(self, event: EventRecord) -> None:
        """See `Store.record_event`."""
        self._record_writer.put(PendingEvent(event=event))

    def record_schedule(self, schedule: Schedule) -> None:
        """See `Store.record_schedule`."""
        self._record_writer.put(PendingSchedule(schedule=schedule))

    def record_occurrence(self, occurrence: Occurrence) -> None:
        """See `Store.record_occurrence`."""
        self._record_writer.put(PendingOccurrence(occurrence=occurrence))

    async def wait_recorded(self, occurrence: Occurrence) -> bool:
        """See `Store.wait_recorded`."""
        await trio.lowlevel.checkpoint()
        while PendingOccurrence(occurrence=occurrence) in self._record_writer.queue:
            if self.health != "ok":
                return False
            await self._record_writer.wait_attempted()
        return True

    def fleet_changed(self) -> None:
        """See `Store.fleet_changed`."""
        previous, self._fleet_mirrored = self._fleet_mirrored, trio.Event()
        # Wakes its waiters, which then wait for the new event.
        previous.set()
        self._work.set()

    async def wait_attempted(self) -> None:
        """Wait until the first attempt to connect has succeeded or failed."""
        await self._attempted.wait()

    async def wait_idle(self) -> None:
        """Wait until everything is written, or the database is unavailable."""
        if self.health != "ok":
            return
        self._idle = trio.Event()
        self._work.set()
        await self._idle.wait()

    async def run(self) -> None:
        """Write what is submitted; reconnect, with back-off, whenever the database fails."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._record_writer.run)
                nursery.start_soon(self._run_summaries)
                await self._run_batches()
        finally:
            with trio.CancelScope(shield=True):
                await self._database.disconnect()

    async def _run_summaries(self) -> None:
        """Summarize the hours of telemetry that have changed, at most half of the time."""
        while True:
            started_s, pause_s = trio.current_time(), _SUMMARIZE_EVERY_S
            if not self._health.reason:
                try:
                    if await self._database.summarize():
                        pause_s = max(_SHORTEST_PAUSE_S, trio.current_time() - started_s)
                except DatabaseError as error:
                    # Not the database's health: history reads the samples instead, which takes longer.
                    pause_s = _SUMMARIZE_AFTER_FAILURE_S
                    log.warning("telemetry not summarized; it is tried again", reason=str(error))
            await trio.sleep(pause_s)

    async def _run_batches(self) -> None:
        backoff = Backoff(first_s=_SHORTEST_PAUSE_S, max_s=_LONGEST_PAUSE_S)
        while True:
            await self._attempt(self._connect_and_write)
            if self._health.recovered:
                backoff.reset()
                self._health.recovered = False
            self._record_writer.set_connected(connected=False)
            await self._database.disconnect()
            await trio.sleep(backoff.next_delay_s())

    async def _connect_and_write(self) -> None:
        watermarks = await self._database.connect(first=not self._watermarks_read.is_set())
        self._watermarks = OrderedDict(watermarks.by_outbox)
        self._watermarks_complete = watermarks.complete
        self._watermarks_read.set()
        self._attempted.set()
        self._record_writer.set_connected(connected=True)
        await self._write_loop()

    async def _mirror_fleet(self) -> None:
        while not self._fleet_mirrored.is_set():
            mirrored = self._fleet_mirrored
            await self._database.mirror_fleet()
            # The event of this change: a later one has its own.
            mirrored.set()

    async def _wait_mirrored(self) -> None:
        while not self._fleet_mirrored.is_set():
            await self._fleet_mirrored.wait()

    async def _write_loop(self) -> None:
        group_s = trio.current_time()
        maintain_at_s = group_s + MAINTAIN_EVERY_S
        while True:
            await self._mirror_fleet()
            self._unsequenced.seal()
            if self._queue:
                group_s = trio.current_time()
                await self._write_batches(self._queue.first_group())
            # Only now: a database that accepts connections but no writes is not healthy.
            if not self._record_writer.reason:
                self._health.ok()
            if trio.current_time() >= maintain_at_s:
                maintenance = await self._database.maintain()
                self._stats.partition_failures = maintenance.partition_failures
                self._stats.retention_days_dropped = maintenance.days_dropped
                self._stats.retention_days_held = maintenance.days_held
                maintain_at_s = trio.current_time() + MAINTAIN_EVERY_S
            await self._wait_for_work(group_s, maintain_at_s)

    async def _wait_for_work(self, group_s: float, maintain_at_s: float) -> None:
        if not self._queue and not self._unsequenced.rows:
            if not self._record_writer.queue:
                self._idle.set()
            self._work = trio.Event()
            with trio.move_on_at(maintain_at_s):
                await self._work.wait()
        if not self._queue.has_full_group:
            self._full = trio.Event()
            with trio.move_on_at(group_s + PACE_S):
                await self._full.wait()

    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> str:
        """Run some work; return why it failed, with the database's health set to that, or an empty string."""
        try:
            await work()
        except DatabaseError as error:
            reason = str(error)
        except Exception:
            log.exception("the store failed; it begins again")
            reason = "the store failed; see the log"
        else:
            return ""
        self._failed(reason)
        return reason

    async def _write_batches(self, group: list[PendingBatch]) -> None:
        """Commit the group; on a data error bisect it and drop the batches that the database refuses."""

        async def on_refused(batch: PendingBatch, error: DatabaseError) -> None:
            log.error(
                "telemetry batch dropped: the database refuses its data",
                outbox_id=batch.outbox_id,
                batch_seq=batch.batch_seq,
                rows=batch.rows,
                reason=str(error),
            )
            self._stats.batches_unwritable += 1
            try:
                # Its watermark is written: otherwise its agent would send it for ever.
                await self._commit([batch], rows=False)
            except DatabaseError as watermark_error:
                if not watermark_error.is_data_error:
                    raise
                # Not even the outbox's name can be stored: the batch stays unacknowledged.
                self._queue.remove_first(1)

        await bisect(group, self._commit, on_refused)

    async def _commit(self, batches: Sequence[PendingBatch], *, rows: bool = True) -> None:
        await self._mirror_fleet()
        started_s = trio.current_time()
        try:
            written = await self._database.write(batches, rows=rows)
        except DatabaseError:
            self._queue.group_failed()
            raise
        duration_s = trio.current_time() - started_s
        stats = self._stats
        stats.groups_committed += 1
        stats.batches_committed += len(batches)
        stats.rows_committed += written.rows
        stats.commit_seconds += duration_s
        stats.commit_seconds_last = duration_s
        stats.commit_seconds_max = max(stats.commit_seconds_max, duration_s)
        self._queue.remove_first(len(batches))
        for outbox_id, watermark in written.watermarks.items():
            if outbox_id != self._unsequenced.outbox_id:
                self._set_watermark(outbox_id, watermark)
                if self._listener is not None:
                    self._listener.batches_committed(outbox_id, watermark)
        if self._queue.take_capacity_available() and self._listener is not None:
            self._listener.capacity_available()

    def _set_watermark(self, outbox_id: str, watermark: Watermark) -> None:
        self._watermarks[outbox_id] = watermark
        self._watermarks.move_to_end(outbox_id)
        if len(self._watermarks) > MAX_WATERMARKS:
            self._watermarks.popitem(last=False)
            self._watermarks_complete = False

    def _failed(self, reason: str) -> None:
        self._stats.database_failures += 1
        self._health.failed(reason)
        self._attempted.set()
        self._idle.set()

    def _on_records_written(self) -> None:
        # The store may be idle or healthy now.
        self._work.set()

    def _wake(self) -> None:
        self._work.set()
        if self._queue.has_full_group:
            self._full.set()
