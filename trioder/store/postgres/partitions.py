"""The partitions of `samples`, one a UTC day: made ahead, or when a backlog needs them.

Changing them needs locks that readers hold off. No write waits for that: an attempt gives up after a moment,
the day's samples go to `samples_default` meanwhile, and the next attempt, after a pause that doubles, moves
them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta

import psycopg
import structlog
from psycopg import sql

from trioder.store.postgres.database import PendingBatch
from trioder.store.postgres.pg_connection import Connection

log = structlog.stdlib.get_logger(__name__)

DEFAULT_PARTITION = sql.Identifier("samples_default")
_AHEAD = timedelta(days=2)
# A clock that is wrong by more than this must not make partitions without end: its samples go to the default.
_BACK = timedelta(days=366)
_DAY_MS = 24 * 60 * 60 * 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DAY = (date.max - _EPOCH.date()).days
# Others queue behind a lock that is waited for, so it is not waited for longer than a slow query takes.
_LOCK_WITHIN_MS = 200
_STATEMENT_WITHIN_S = 3
# All attempts between two writes.
_ATTEMPTS_WITHIN_S = 3.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 300.0
# About a second's work, in which nobody reads the default partition. A day with more in it stays there.
_MAX_MOVED_ROWS = 250_000


def day_of(ts_unix_ms: int) -> date:
    """The UTC day of an instant."""
    return (_EPOCH + timedelta(milliseconds=ts_unix_ms)).date()


def days_of(batches: Iterable[PendingBatch]) -> list[date]:
    """The UTC days of all samples, in order; without those that no calendar has."""
    days = {ts_ms // _DAY_MS for batch in batches for ts_ms in batch.run_ts_unix_ms}
    return [day_of(day * _DAY_MS) for day in sorted(days) if -_LAST_DAY < day <= _LAST_DAY]


def start_of(day: date) -> datetime:
    """The instant at which a UTC day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def name_of(day: date) -> sql.Identifier:
    """The partition of the day."""
    return sql.Identifier(f"samples_{day:%Y%m%d}")


def is_lost(connection: Connection) -> bool:
    """Whether an error was the connection's end, and not just a statement's."""
    return connection.closed or connection.broken


@asynccontextmanager
async def brief_locks(connection: Connection, *, statement_s: float) -> AsyncIterator[None]:
    """A transaction that waits for no lock for long, and has no statement that runs for long."""
    async with connection.transaction():
        await connection.execute(
            "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true)",
            [f"{_LOCK_WITHIN_MS}ms", f"{statement_s:g}s"],
        )
        yield


class Partitions:
    """Which days have their partition.

    Attributes:
        failures: how many attempts to make or to drop one have failed.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._days: set[date] = set()
        # When a day may be attempted again, and the pause before that.
        self._retries: dict[date, tuple[float, float]] = {}
        self._stay_in_default: set[date] = set()

    @property
    def days(self) -> AbstractSet[date]:
        """The days with a partition."""
        return self._days

    async def read(self, connection: Connection) -> None:
        """Read which there are; another headend, or an operator, may have changed them."""
        found = await connection.execute(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
            "WHERE inhparent = 'samples'::regclass AND relname ~ '^samples_[0-9]{8}$'"
        )
        days = set()
        for (name,) in await found.fetchall():
            try:
                days.add(datetime.strptime(name, "samples_%Y%m%d").replace(tzinfo=UTC).date())
            except ValueError:
                # Somebody else's, of a name like ours.
                continue
        self._days = days

    async def make_ahead(self, connection: Connection, today: date) -> None:
        """Make those of today and the next days."""
        await self.read(connection)
        ahead = (today + timedelta(days=days) for days in range(_AHEAD.days + 1))
        await self.make(connection, ahead, today)

    async def make(self, connection: Connection, days: Iterable[date], today: date) -> None:
        """Make those of these days that are missing, within reason and not attempted a moment ago.

        One that cannot be made now only sends its samples to the default partition.
        """
        now_s = asyncio.get_running_loop().time
        stop_s = now_s() + _ATTEMPTS_WITHIN_S
        for day in days:
            if day in self._days or day in self._stay_in_default:
                continue
            if not today - _BACK <= day <= today + _AHEAD or now_s() < self._retries.get(day, (0.0, 0.0))[0]:
                continue
            if now_s() > stop_s:
                return
            try:
                await self._make(connection, day)
            except psycopg.Error as error:
                if is_lost(connection):
                    raise
                await self.read(connection)
                if day not in self._days:
                    self._failed(day, error, now_s())

    async def drop(self, connection: Connection, day: date) -> bool:
        """Drop one; False when that cannot be done now."""
        try:
            async with brief_locks(connection, statement_s=_STATEMENT_WITHIN_S):
                await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name_of(day)))
        except psycopg.Error as error:
            if is_lost(connection):
                raise
            self.failures += 1
            log.warning(
                "old telemetry not dropped; it is tried again", day=str(day), reason=_first_line(error)
            )
            return False
        self._days.discard(day)
        return True

    async def _make(self, connection: Connection, day: date) -> None:
        name = name_of(day)
        start, end = sql.Literal(start_of(day)), sql.Literal(start_of(day + timedelta(days=1)))
        async with brief_locks(connection, statement_s=_STATEMENT_WITHIN_S):
            # First: no row of the day may get into the default partition between the move and the attachment.
            await connection.execute(
                sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(DEFAULT_PARTITION)
            )
            found = await connection.execute(
                sql.SQL(
                    "SELECT count(*) FROM (SELECT FROM {} WHERE ts >= {} AND ts < {} LIMIT {}) AS rows"
                ).format(DEFAULT_PARTITION, start, end, sql.Literal(_MAX_MOVED_ROWS + 1))
            )
            (rows,) = (await found.fetchone()) or (0,)
            if rows > _MAX_MOVED_ROWS:
                self._stay_in_default.add(day)
                log.warning(
                    "a day stays in samples_default: too many of its samples are there already",
                    day=str(day),
                    rows_at_most=_MAX_MOVED_ROWS,
                )
                return
            await connection.execute(sql.SQL("CREATE TABLE {} (LIKE samples INCLUDING ALL)").format(name))
            if rows:
                await connection.execute(
                    sql.SQL(
                        "WITH moved AS (DELETE FROM {} WHERE ts >= {} AND ts < {} RETURNING *) "
                        "INSERT INTO {} SELECT * FROM moved"
                    ).format(DEFAULT_PARTITION, start, end, name)
                )
            await connection.execute(
                sql.SQL("ALTER TABLE samples ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                    name, start, end
                )
            )
        self._days.add(day)
        self._retries.pop(day, None)

    def _failed(self, day: date, error: psycopg.Error, now_s: float) -> None:
        self.failures += 1
        _, last_pause_s = self._retries.get(day, (0.0, _SHORTEST_PAUSE_S / 2))
        pause_s = min(last_pause_s * 2, _LONGEST_PAUSE_S)
        # Days that are past attempting are not remembered for ever.
        self._retries = {
            each: retry for each, retry in self._retries.items() if retry[0] > now_s - _LONGEST_PAUSE_S
        }
        self._retries[day] = (now_s + pause_s, pause_s)
        log.warning(
            "partition not made; its samples go to samples_default until it is",
            day=str(day),
            reason=_first_line(error),
            again_in_s=pause_s,
        )


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).partition("\n")[0]
