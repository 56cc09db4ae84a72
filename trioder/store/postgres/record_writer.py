"""Writes sessions and dispatches, and has old ones deleted, on a way of their own beside telemetry."""

from collections.abc import Awaitable, Callable, Sequence

import structlog
import trio

from trioder.store.postgres.database import Database, DatabaseError, DispatchNote, Note
from trioder.store.postgres.halves import in_halves
from trioder.store.postgres.record_queue import Dropped, RecordQueue
from trioder.store.stats import StoreStats

log = structlog.stdlib.get_logger(__name__)

# A group of 100,000 that has ended is 55 MB of it.
NOTES_BYTES = 128 * 1024 * 1024
_NOTES_A_GROUP = 500
# Transactions do not start closer to each other than this.
_PACE_S = 0.1
# Old records are deleted soon after the start, then now and then, and faster while there are more.
_DROP_FIRST_AFTER_S, _DROP_EVERY_S, _DROP_MORE_AFTER_S = 30.0, 3600.0, 1.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


class RecordWriter:
    """What waits in `notes` goes to the database while that is connected.

    Args:
        database: its `note` and `drop_old_records` are called by this alone.
        figures: counted in.
        ready: waits until the database has the assets that records are of.
        attempt: does some work with the database; "" when it was done, else why not.
        written: called after each transaction.

    Attributes:
        reason: why records cannot be written; empty when they can, as far as is known.
    """

    def __init__(
        self,
        database: Database,
        *,
        figures: StoreStats,
        ready: Callable[[], Awaitable[None]],
        attempt: Callable[[Callable[[], Awaitable[None]]], Awaitable[str]],
        written: Callable[[], None],
    ) -> None:
        self.notes = RecordQueue(max_bytes=NOTES_BYTES)
        self.reason = ""
        self._database = database
        self._figures = figures
        self._ready = ready
        self._attempt = attempt
        self._written = written
        self._connected = trio.Event()
        self._work = trio.Event()

    def set_connected(self, *, connected: bool) -> None:
        """Whether the database is as this headend needs it: to be tried at all."""
        if connected:
            self._connected.set()
        elif self._connected.is_set():
            self._connected = trio.Event()

    def noted(self, dropped: Dropped) -> None:
        """Something waits to be written, and had to make this go."""
        if dropped != Dropped():
            self._figures.notes_dropped += dropped.notes
            self._figures.shares_dropped += dropped.shares
            log.error(
                "records dropped: the database does not take them, and there is no room for more",
                sessions_and_dispatches=dropped.notes,
                shares_of_dispatches=dropped.shares,
            )
        self._work.set()

    async def run(self) -> None:
        """Write what comes, for as long as the store is open."""
        pause_s = _SHORTEST_PAUSE_S
        drop_at_s = trio.current_time() + _DROP_FIRST_AFTER_S
        while True:
            await self._connected.wait()
            if self.notes:
                started_s = trio.current_time()
                self.reason = await self._attempt(self._write)
                if self.reason:
                    await trio.sleep(pause_s)
                    pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                else:
                    pause_s = _SHORTEST_PAUSE_S
                    self._written()
                    await trio.sleep_until(started_s + _PACE_S)
                continue
            # What could not be written may have had to go.
            self.reason = ""
            if trio.current_time() >= drop_at_s:
                drop_at_s = trio.current_time() + await self._drop_old()
                continue
            self._work = trio.Event()
            with trio.move_on_at(drop_at_s):
                await self._work.wait()

    async def _write(self) -> None:
        async def write(part: Sequence[Note]) -> None:
            await self._ready()
            await self._database.note(part)
            self.notes.dealt_with(part)

        async def give_up(note: Note, error: DatabaseError) -> None:
            log.error(
                "session or dispatch dropped: the database refuses its data",
                dispatch_id=note.dispatch.dispatch_id if isinstance(note, DispatchNote) else None,
                session_id=None if isinstance(note, DispatchNote) else note.session.session_id,
                reason=str(error),
            )
            self._figures.notes_dropped += 1
            self.notes.dealt_with([note])
            await trio.lowlevel.checkpoint()

        await in_halves(self.notes.first(_NOTES_A_GROUP), write, give_up)

    async def _drop_old(self) -> float:
        """Delete some old records; return in how many seconds it is to be done again."""
        try:
            return _DROP_MORE_AFTER_S if await self._database.drop_old_records() else _DROP_EVERY_S
        except DatabaseError as error:
            log.warning("old records not deleted", reason=str(error))
        except Exception:
            # It is done again; that records and telemetry are written does not depend on it.
            log.exception("old records not deleted")
        return _DROP_EVERY_S
