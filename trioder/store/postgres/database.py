"""The database as the store sees it: few, whole transactions, its errors, and its health.

Every call may raise `DatabaseError` with or without having taken effect: each can be repeated.
The implementation is `psycopg_database`.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import structlog
import trio

from trioder.domain.access import EVERYTHING, Scope
from trioder.domain.dispatch import DispatchRecord
from trioder.store.interface import Queries
from trioder.store.postgres.batch_queue import PendingBatch
from trioder.store.postgres.pending_records import PendingRecord
from trioder.store.records import Watermark

log = structlog.stdlib.get_logger(__name__)

# Watermarks held in memory, and kept in the database.
MAX_WATERMARKS = 200_000
_REMIND_EVERY_S = 60.0

T = TypeVar("T")


class DatabaseError(Exception):
    """An operation failed; the text is for an operator.

    Attributes:
        is_data_error: the database is available and refuses the data itself: a retry would fail again.
    """

    def __init__(self, reason: str, *, is_data_error: bool = False) -> None:
        super().__init__(reason)
        self.is_data_error = is_data_error


async def bisect(
    items: Sequence[T],
    write: Callable[[Sequence[T]], Awaitable[None]],
    on_refused: Callable[[T, DatabaseError], Awaitable[None]],
) -> None:
    """Write all items; on a data error write halves, in order, down to the single items that are refused."""
    try:
        await write(items)
    except DatabaseError as error:
        if not error.is_data_error:
            raise
        if len(items) == 1:
            await on_refused(items[0], error)
            return
        middle = len(items) // 2
        await bisect(items[:middle], write, on_refused)
        await bisect(items[middle:], write, on_refused)


class DatabaseHealth:
    """Whether the database works. Logs each change, and a reminder once a minute; starts as not connected.

    Attributes:
        reason: why it does not work; empty when it does.
        recovered: it has worked since this was last cleared.
    """

    def __init__(self) -> None:
        self.reason = "not connected yet"
        self.recovered = False
        self._away_since_s: float | None = None
        self._logged_s = 0.0

    def ok(self) -> None:
        """Record a success."""
        self.recovered = True
        if not self.reason:
            return
        self.reason = ""
        if self._away_since_s is None:
            log.info("database connected")
        else:
            log.info("database available again", away_s=round(trio.current_time() - self._away_since_s, 1))
            self._away_since_s = None

    def failed(self, reason: str) -> None:
        """Record a failure."""
        now_s = trio.current_time()
        if self._away_since_s is None:
            self._away_since_s = now_s
        if reason != self.reason or now_s - self._logged_s >= _REMIND_EVERY_S:
            log.error("database unavailable", reason=reason, away_s=round(now_s - self._away_since_s, 1))
            self._logged_s = now_s
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermarks:
    """The last committed batch of each outbox.

    Attributes:
        complete: an outbox that is not listed has none.
    """

    by_outbox: Mapping[str, Watermark] = field(default_factory=dict)
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The result of a telemetry transaction.

    Attributes:
        watermarks: the last committed batch of each outbox in it.
        rows: samples added, without those of batches that were committed before.
    """

    watermarks: Mapping[str, Watermark]
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """Totals of telemetry maintenance since the headend started.

    Attributes:
        partition_failures: failed attempts to create or drop a day's partition; they are retried.
        days_dropped: days of telemetry dropped by retention.
        days_held: days that retention would drop and that wait for an operator's confirmation.
    """

    partition_failures: int = 0
    days_dropped: int = 0
    days_held: int = 0


class Database(Queries, Protocol):
    """One database with one telemetry writer; reads may run concurrently with the writers."""

    async def connect(self, *, first: bool) -> Watermarks:
        """Connect anew; prepare schema, fleet and partitions.

        Args:
            first: the headend's first connection: sessions open in the database are a dead headend's.
        """

    async def disconnect(self) -> None:
        """Close the connections, in whatever state; never fails."""

    async def write(self, batches: Sequence[PendingBatch], *, rows: bool = True) -> Written:
        """Commit, in one transaction, those batches not yet committed and their outboxes' watermarks.

        Args:
            batches: those of one outbox in sequence.
            rows: False writes the watermarks alone.
        """

    async def write_records(self, records: Iterable[PendingRecord]) -> None:
        """Write records in one transaction, concurrently with telemetry."""

    async def drop_old_records(self) -> bool:
        """Delete some expired records; return whether there are more. Not while `write_records` runs."""

    async def summarize(self) -> bool:
        """Summarize the telemetry of one hour that has changed; return whether there was one."""

    async def mirror_fleet(self) -> None:
        """Copy the headend's fleet, which has changed since `connect`, to the database."""

    async def maintain(self) -> Maintenance:
        """Run periodic work: check the connection, create partitions ahead, drop old ones."""

    async def watermark(self, outbox_id: str) -> Watermark:
        """See `Store.watermark`."""

    async def open_dispatches(self, *, limit: int) -> Sequence[DispatchRecord]:
        """Return the newest `limit` of `Store.open_dispatches`."""

    async def find_dispatch(
        self,
        *,
        dispatch_id: str | None,
        idempotency_key: str | None,
        whole: bool,
        scope: Scope = EVERYTHING,
    ) -> DispatchRecord | None:
        """See `Store.find_dispatch`; with the assets' shares if `whole`."""
