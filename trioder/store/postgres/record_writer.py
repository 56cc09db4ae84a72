"""Writes all records, and deletes expired ones, independently of telemetry."""

from collections.abc import Awaitable, Callable, Sequence

import structlog
import trio

from trioder.process.backoff import Backoff
from trioder.store.postgres.database import Database, DatabaseError, bisect
from trioder.store.postgres.pending_records import PendingRecord
from trioder.store.postgres.record_queue import Dropped, RecordQueue
from trioder.store.stats import StoreStats

log = structlog.stdlib.get_logger(__name__)

# An ended dispatch to 100,000 assets takes 55 MB.
QUEUE_BYTES = 128 * 1024 * 1024
_RECORDS_PER_GROUP = 500
# The minimum interval between the starts of two transactions.
_PACE_S = 0.1
# Old records are deleted soon after the start, then hourly, and every second while there are more.
_DROP_FIRST_AFTER_S, _DROP_EVERY_S, _DROP_MORE_AFTER_S = 30.0, 3600.0, 1.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


class RecordWriter:
    """Writes `queue` to the database while that is connected.

    Args:
        database: nobody else calls its `write_records` and `drop_old_records`.
        stats: updated with drops.
        wait_ready: waits until the database has the assets that records refer to.
        attempt: runs some work; returns why it failed, or an empty string.
        on_written: called after each transaction.

    Attributes:
        queue: the records waiting; call `notify` with what a change of it dropped, or add with `put`.
        reason: why the last write failed; empty if it did not.
    """

    def __init__(
        self,
        database: Database,
        *,
        stats: StoreStats,
        wait_ready: Callable[[], Awaitable[None]],
        attempt: Callable[[Callable[[], Awaitable[None]]], Awaitable[str]],
        on_written: Callable[[], None],
    ) -> None:
        self.queue = RecordQueue(max_bytes=QUEUE_BYTES)
        self.reason = ""
        self._database = database
        self._stats = stats
        self._wait_ready = wait_ready
        self._attempt = attempt
        self._on_written = on_written
        self._connected = trio.Event()
        self._work = trio.Event()
        self._attempted = trio.Event()

    async def wait_attempted(self) -> None:
        """Wait until the next attempt to write has succeeded or failed."""
        await self._attempted.wait()

    def set_connected(self, *, connected: bool) -> None:
        """Start or stop trying: the database is connected and prepared, or not."""
        if connected:
            self._connected.set()
        elif self._connected.is_set():
            self._connected = trio.Event()

    def put(self, record: PendingRecord) -> None:
        """Queue a record."""
        self.notify(self.queue.put(record))

    def notify(self, dropped: Dropped) -> None:
        """A record was queued; count and log what was dropped for it."""
        if dropped != Dropped():
            self._count(dropped)
            log.error(
                "records dropped: the database does not take them, and there is no room for more",
                sessions_and_dispatches=dropped.records,
                shares_of_dispatches=dropped.shares,
                audit_records=dropped.audit_records,
                events=dropped.events,
            )
        self._work.set()

    async def run(self) -> None:
        """Write what is queued, until cancelled."""
        backoff = Backoff(first_s=_SHORTEST_PAUSE_S, max_s=_LONGEST_PAUSE_S)
        drop_at_s = trio.current_time() + _DROP_FIRST_AFTER_S
        while True:
            await self._connected.wait()
            if self.queue:
                started_s = trio.current_time()
                self.reason = await self._attempt(self._write)
                self._attempted.set()
                self._attempted = trio.Event()
                if self.reason:
                    await trio.sleep(backoff.next_delay_s())
                else:
                    backoff.reset()
                    self._on_written()
                    await trio.sleep_until(started_s + _PACE_S)
                continue
            # What could not be written may have been dropped.
            self.reason = ""
            if trio.current_time() >= drop_at_s:
                drop_at_s = trio.current_time() + await self._drop_old()
                continue
            self._work = trio.Event()
            with trio.move_on_at(drop_at_s):
                await self._work.wait()

    async def _write(self) -> None:
        async def write(records: Sequence[PendingRecord]) -> None:
            await self._wait_ready()
            await self._database.write_records(records)
            self.queue.remove_written(records)

        async def on_refused(record: PendingRecord, error: DatabaseError) -> None:
            log.error("record dropped: the database refuses its data", reason=str(error), **record.names)
            self._count(Dropped(**{record.counted_as: 1}))
            self.queue.remove_written([record])
            await trio.lowlevel.checkpoint()

        await bisect(self.queue.first(_RECORDS_PER_GROUP), write, on_refused)

    def _count(self, dropped: Dropped) -> None:
        self._stats.records_dropped += dropped.records
        self._stats.audit_records_dropped += dropped.audit_records
        self._stats.shares_dropped += dropped.shares
        self._stats.event_records_dropped += dropped.events

    async def _drop_old(self) -> float:
        """Delete some old records; return the seconds until the next time."""
        try:
            return _DROP_MORE_AFTER_S if await self._database.drop_old_records() else _DROP_EVERY_S
        except DatabaseError as error:
            log.warning("old records not deleted", reason=str(error))
        except Exception:
            # It is retried; writing records and telemetry does not depend on it.
            log.exception("old records not deleted")
        return _DROP_EVERY_S
