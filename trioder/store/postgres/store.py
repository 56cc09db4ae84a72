"""The store over a database: takes without waiting, commits in groups, and lives through its absence.

One task writes telemetry, another one sessions and dispatches, so that neither waits for the other. They
alone decide what the database's failures mean. SQL is not spoken here.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog
import trio

from trioder.domain.assets import Asset
from trioder.domain.dispatch import AllocationOf, AllocationRecord, DispatchRecord, with_allocations
from trioder.domain.telemetry import PastSample, Samples
from trioder.process.wall_time import WallClock
from trioder.store.interface import StoreHealth, StoreListener, StoreUnavailableError
from trioder.store.postgres.database import Database, DatabaseError, PendingBatch
from trioder.store.postgres.halves import in_halves
from trioder.store.postgres.health import HealthRecord
from trioder.store.postgres.queue import BatchQueue
from trioder.store.postgres.record_writer import RecordWriter
from trioder.store.postgres.unsequenced import UnsequencedBuffer
from trioder.store.records import NOTHING_COMMITTED, PastSession, SessionRecord, Watermark
from trioder.store.stats import StoreStats

log = structlog.stdlib.get_logger(__name__)

QUEUE_BYTES = 64 * 1024 * 1024
GROUP_ROWS = 50_000
# Transactions that start closer to each other than this are one, unless it would be a full one anyway.
PACE_S = 0.1
TEND_EVERY_S = 5.0
MAX_MARKS = 200_000
# A session is not held up for longer by a database that is away.
_MARKS_WITHIN_S = 2.0
# Whoever asks whether there is a dispatch waits for no longer.
_FIND_WITHIN_S = 2.0
# A headend goes on with so many of those that it finds living: far more assets than a fleet has.
_MAX_OPEN_DISPATCHES = 10_000
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0

T = TypeVar("T")


class PostgresStore:
    """A `Store`; `run` keeps it going."""

    def __init__(
        self,
        database: Database,
        *,
        wall: WallClock,
        queue_bytes: int = QUEUE_BYTES,
        group_rows: int = GROUP_ROWS,
    ) -> None:
        self._database = database
        self._queue = BatchQueue(max_bytes=queue_bytes, group_rows=group_rows)
        self._loose = UnsequencedBuffer(self._queue, max_bytes=queue_bytes, started_ms=wall.now_ms())
        self._listener: StoreListener | None = None
        self._health = HealthRecord()
        self._figures = StoreStats()
        self._marks: OrderedDict[str, Watermark] = OrderedDict()
        self._marks_complete = False
        self._marks_read = trio.Event()
        self._attempted = trio.Event()
        self._work = trio.Event()
        self._full = trio.Event()
        self._idle = trio.Event()
        self._fleet_mirrored = trio.Event()
        self._fleet_mirrored.set()
        self._records = RecordWriter(
            database,
            figures=self._figures,
            ready=self._wait_mirrored,
            attempt=self._attempt,
            written=self._records_written,
        )

    @property
    def health(self) -> StoreHealth:
        """`error` from the database's first failure until it has done again what it failed at."""
        return "error" if self._health.reason else "ok"

    @property
    def health_reason(self) -> str:
        """See `Store.health_reason`."""
        return self._health.reason

    @property
    def figures(self) -> StoreStats:
        """See `Store.figures`."""
        self._figures.queue_rows = self._queue.rows + self._loose.rows
        self._figures.queue_bytes = self._queue.size
        self._figures.notes_waiting = len(self._records.notes)
        return self._figures

    def listen(self, listener: StoreListener) -> None:
        """See `Store.listen`."""
        self._listener = listener

    async def watermark(self, outbox_id: str) -> Watermark:
        """See `Store.watermark`.

        An answer that is too low does no harm: what is committed already is not written again.
        """
        with trio.move_on_after(_MARKS_WITHIN_S):
            await self._marks_read.wait()
        if not self._marks_read.is_set():
            return NOTHING_COMMITTED
        if outbox_id in self._marks or self._marks_complete:
            return self._marks.get(outbox_id, NOTHING_COMMITTED)
        try:
            return await self._database.watermark(outbox_id)
        except DatabaseError:
            return NOTHING_COMMITTED

    def submit(self, outbox_id: str, batch_seq: int, samples: Samples) -> bool:
        """See `Store.submit`."""
        if not self._queue.put(PendingBatch.of(outbox_id, batch_seq, samples)):
            self._figures.batches_refused += 1
            return False
        self._wake()
        return True

    def keep(self, samples: Samples) -> None:
        """See `Store.keep`."""
        if self._loose.put(samples):
            self._wake()
        else:
            self._figures.samples_dropped += len(samples.asset_keys)

    def open_session(self, session: SessionRecord) -> None:
        """See `Store.open_session`."""
        # The caller's list of keys is not the store's to hold.
        self._records.noted(
            self._records.notes.open_session(replace(session, asset_keys=tuple(session.asset_keys)))
        )

    def close_session(self, session_id: str, *, disconnected_ms: int, reason: str) -> None:
        """See `Store.close_session`."""
        self._records.noted(
            self._records.notes.close_session(session_id, disconnected_ms=disconnected_ms, reason=reason)
        )

    def record_dispatch(
        self, dispatch: DispatchRecord, *, changed: Collection[int], share_of: AllocationOf
    ) -> None:
        """See `Store.record_dispatch`."""
        self._records.noted(self._records.notes.record_dispatch(dispatch, changed=changed, share_of=share_of))

    def fleet_changed(self) -> None:
        """See `Store.fleet_changed`."""
        former, self._fleet_mirrored = self._fleet_mirrored, trio.Event()
        # Whoever waits for it waits for the new one.
        former.set()
        self._work.set()

    async def history(
        self, asset: Asset, *, limit: int, start_ms: int | None = None, end_ms: int | None = None
    ) -> Sequence[PastSample]:
        """See `Store.history`."""
        return await self._read(
            lambda: self._database.history(asset, limit=limit, start_ms=start_ms, end_ms=end_ms)
        )

    async def reported_times(self, assets: Sequence[Asset], *, limit: int) -> Mapping[str, Sequence[int]]:
        """See `Store.reported_times`."""
        asset_ids = [asset.id for asset in assets]
        return await self._read(lambda: self._database.reported_times(asset_ids, limit=limit))

    async def find_retired_asset(self, asset_id: str) -> Asset | None:
        """See `Store.find_retired_asset`."""
        return await self._read(lambda: self._database.find_retired_asset(asset_id))

    async def sessions(
        self, *, limit: int, asset: Asset | None = None, agent_id: str | None = None
    ) -> Sequence[PastSession]:
        """See `Store.sessions`."""
        return await self._read(lambda: self._database.sessions(limit=limit, asset=asset, agent_id=agent_id))

    async def open_dispatches(self) -> Sequence[DispatchRecord]:
        """See `Store.living_dispatches`."""
        return await self._read(lambda: self._database.open_dispatches(limit=_MAX_OPEN_DISPATCHES))

    async def find_dispatch(
        self, *, dispatch_id: str | None = None, idempotency_key: str | None = None
    ) -> DispatchRecord | None:
        """See `Store.find_dispatch`."""
        note = self._records.notes.find_dispatch(dispatch_id=dispatch_id, idempotency_key=idempotency_key)
        if note is not None and note.is_whole:
            await trio.lowlevel.checkpoint()
            return with_allocations(note.dispatch, note.shares)
        find = partial(self._database.find_dispatch, dispatch_id=dispatch_id, idempotency_key=idempotency_key)
        with trio.move_on_after(_FIND_WITHIN_S) as within:
            found = await self._read(partial(find, whole=False))
        if within.cancelled_caught:
            raise StoreUnavailableError(f"the database did not answer within {_FIND_WITHIN_S:g} s")
        if found is not None:
            # Whether there is one must be known soon; the shares of 100,000 assets take longer.
            found = await self._read(partial(find, whole=True))
        if note is None:
            return found
        former: Sequence[AllocationRecord] = () if found is None else (*found.members, *found.left_out)
        return with_allocations(note.dispatch, note.shares, former=former)

    async def dispatches(
        self, *, limit: int, asset: Asset | None = None, state: str | None = None, whole: bool = False
    ) -> Sequence[DispatchRecord]:
        """See `Store.dispatches`."""
        return await self._read(
            lambda: self._database.dispatches(limit=limit, asset=asset, state=state, whole=whole)
        )

    async def wait_attempted(self) -> None:
        """Wait until the database was reached, or found to be away."""
        await self._attempted.wait()

    async def wait_idle(self) -> None:
        """Wait until everything is written, or the database is away."""
        if self.health != "ok":
            return
        self._idle = trio.Event()
        self._work.set()
        await self._idle.wait()

    async def run(self) -> None:
        """Write what comes, for as long as the store is open; the database may come and go."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._records.run)
                await self._run_batches()
        finally:
            with trio.CancelScope(shield=True):
                await self._database.disconnect()

    async def _run_batches(self) -> None:
        pause_s = _SHORTEST_PAUSE_S
        while True:
            await self._attempt(self._connect_and_write_on)
            if self._health.has_been_ok:
                pause_s = _SHORTEST_PAUSE_S
                self._health.has_been_ok = False
            self._records.set_connected(connected=False)
            await self._database.disconnect()
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _connect_and_write_on(self) -> None:
        marks = await self._database.connect(first=not self._marks_read.is_set())
        self._marks = OrderedDict(marks.by_outbox)
        self._marks_complete = marks.complete
        self._marks_read.set()
        self._attempted.set()
        self._records.set_connected(connected=True)
        await self._write_on()

    async def _mirror_fleet(self) -> None:
        while not self._fleet_mirrored.is_set():
            mirrored = self._fleet_mirrored
            await self._database.mirror_fleet()
            # Unless it has changed again meanwhile.
            mirrored.set()

    async def _wait_mirrored(self) -> None:
        while not self._fleet_mirrored.is_set():
            await self._fleet_mirrored.wait()

    async def _write_on(self) -> None:
        group_s = trio.current_time()
        tend_at_s = group_s + TEND_EVERY_S
        while True:
            await self._mirror_fleet()
            self._loose.seal()
            if self._queue:
                group_s = trio.current_time()
                await self._write_batches(self._queue.first_group())
            # Only now: a database that takes connections but not what waits for it is not well.
            if not self._records.reason:
                self._health.ok()
            if trio.current_time() >= tend_at_s:
                report = await self._database.tend()
                self._figures.partition_failures = report.partition_failures
                self._figures.retention_days_dropped = report.days_dropped
                self._figures.retention_days_held = report.days_held
                tend_at_s = trio.current_time() + TEND_EVERY_S
            await self._wait_for_work(group_s, tend_at_s)

    async def _wait_for_work(self, group_s: float, tend_at_s: float) -> None:
        if not self._queue and not self._loose.rows:
            if not self._records.notes:
                self._idle.set()
            self._work = trio.Event()
            with trio.move_on_at(tend_at_s):
                await self._work.wait()
        if not self._queue.has_full_group:
            self._full = trio.Event()
            with trio.move_on_at(group_s + PACE_S):
                await self._full.wait()

    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> str:
        """Do some work with the database; why it failed, and the database is unwell, else an empty string."""
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
        """Commit the group; one that the database refuses as data is halved until the batch is found."""

        async def give_up(batch: PendingBatch, error: DatabaseError) -> None:
            log.error(
                "telemetry batch dropped: the database refuses its data",
                outbox_id=batch.outbox_id,
                batch_seq=batch.batch_seq,
                rows=batch.rows,
                reason=str(error),
            )
            self._figures.batches_unwritable += 1
            try:
                # The mark moves over it: its agent would send it for ever.
                await self._commit([batch], rows=False)
            except DatabaseError as of_mark:
                if not of_mark.of_data:
                    raise
                # Not even the outbox's name can be written. It stays unacknowledged; the others go on.
                self._queue.remove_first(1)

        await in_halves(group, self._commit, give_up)

    async def _commit(self, batches: Sequence[PendingBatch], *, rows: bool = True) -> None:
        await self._mirror_fleet()
        started_s = trio.current_time()
        try:
            written = await self._database.write(batches, rows=rows)
        except DatabaseError:
            self._queue.group_failed()
            raise
        took_s = trio.current_time() - started_s
        figures = self._figures
        figures.groups_committed += 1
        figures.batches_committed += len(batches)
        figures.rows_committed += written.rows
        figures.commit_seconds += took_s
        figures.commit_seconds_last = took_s
        figures.commit_seconds_max = max(figures.commit_seconds_max, took_s)
        self._queue.remove_first(len(batches))
        for outbox_id, mark in written.marks.items():
            if outbox_id != self._loose.outbox_id:
                self._remember(outbox_id, mark)
                if self._listener is not None:
                    self._listener.batches_committed(outbox_id, mark)
        if self._queue.take_room_again() and self._listener is not None:
            self._listener.capacity_available()

    def _remember(self, outbox_id: str, mark: Watermark) -> None:
        self._marks[outbox_id] = mark
        self._marks.move_to_end(outbox_id)
        if len(self._marks) > MAX_MARKS:
            self._marks.popitem(last=False)
            self._marks_complete = False

    def _failed(self, reason: str) -> None:
        self._figures.database_failures += 1
        self._health.failed(reason)
        self._attempted.set()
        self._idle.set()

    async def _read(self, query: Callable[[], Awaitable[T]]) -> T:
        if self._health.reason:
            raise StoreUnavailableError(self._health.reason)
        try:
            return await query()
        except DatabaseError as error:
            raise StoreUnavailableError(str(error)) from None

    def _records_written(self) -> None:
        # Idle, perhaps, or well again.
        self._work.set()

    def _wake(self) -> None:
        self._work.set()
        if self._queue.has_full_group:
            self._full.set()
