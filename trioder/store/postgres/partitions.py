"""The partitions of `samples`, one per UTC day: created ahead, or when a backlog needs them.

Creating or dropping one needs locks that readers may hold. No write waits for that: an attempt gives up soon,
the day's samples go to `samples_default` meanwhile, and a later attempt, with back-off, moves them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta

import psycopg
import structlog
from psycopg import sql

from trioder.store.postgres.batch_queue import PendingBatch
from trioder.store.postgres.pg_connection import Connection

log = structlog.stdlib.get_logger(__name__)

DEFAULT_PARTITION = sql.Identifier("samples_default")
_AHEAD = timedelta(days=2)
# A clock that is wrong by more than this must not create partitions endlessly: its samples go to the default.
_BACK = timedelta(days=366)
_DAY_MS = 24 * 60 * 60 * 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DAY = (date.max - _EPOCH.date()).days
# Others queue behind a lock that is waited for, so this is no longer than a slow query takes.
_LOCK_WITHIN_MS = 200
_STATEMENT_WITHIN_S = 3
# All attempts between two writes.
_ATTEMPTS_WITHIN_S = 3.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 300.0
# Moving these takes about a second, during which nobody can read the default partition. More stay there.
_MAX_MOVED_ROWS = 250_000


def day_of(ts_unix_ms: int) -> date:
    """Return the UTC day of a time."""
    return (_EPOCH + timedelta(milliseconds=ts_unix_ms)).date()


def days_of(batches: Iterable[PendingBatch]) -> list[date]:
    """Return the UTC days of all samples, in order, without those outside of the calendar."""
    days = {ts_ms // _DAY_MS for batch in batches for ts_ms in batch.run_ts_unix_ms}
    return [day_of(day * _DAY_MS) for day in sorted(days) if -_LAST_DAY < day <= _LAST_DAY]


def start_of(day: date) -> datetime:
    """Return the start of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def name_of(day: date) -> sql.Identifier:
    """Return the name of the day's partition."""
    return sql.Identifier(f"samples_{day:%Y%m%d}")


def summaries_name_of(day: date) -> sql.Identifier:
    """Return the name of the partition of the day's summaries."""
    return sql.Identifier(f"telemetry_5m_{day:%Y%m%d}")


def is_connection_lost(connection: Connection) -> bool:
    """Return whether the connection is lost, and not just a statement failed."""
    return connection.closed or connection.broken


@asynccontextmanager
async def short_lock_transaction(connection: Connection, *, statement_s: float) -> AsyncIterator[None]:
    """A transaction with short limits for locks and statements."""
    async with connection.transaction():
        await connection.execute(
            "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true)",
            [f"{_LOCK_WITHIN_MS}ms", f"{statement_s:g}s"],
        )
        yield


class Partitions:
    """Creates and drops partitions.

    Attributes:
        failures: failed attempts to create or drop one.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._days: set[date] = set()
        # By day: when to retry, and the pause before that.
        self._retries: dict[date, tuple[float, float]] = {}
        self._stay_in_default: set[date] = set()

    @property
    def days(self) -> AbstractSet[date]:
        """The days with a partition."""
        return self._days

    async def read(self, connection: Connection) -> None:
        """Read which exist; another headend or an operator may have changed them."""
        found = await connection.execute(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
            "WHERE inhparent = 'samples'::regclass AND relname ~ '^samples_[0-9]{8}$'"
        )
        days = set()
        for (name,) in await found.fetchall():
            try:
                days.add(datetime.strptime(name, "samples_%Y%m%d").replace(tzinfo=UTC).date())
            except ValueError:
                # Not ours, but with a similar name.
                continue
        self._days = days

    async def make_ahead(self, connection: Connection, today: date) -> None:
        """Create those of today and the next two days."""
        await self.read(connection)
        ahead = (today + timedelta(days=days) for days in range(_AHEAD.days + 1))
        await self.make(connection, ahead, today)

    async def make(self, connection: Connection, days: Iterable[date], today: date) -> None:
        """Create those missing, for days near today and not in back-off.

        If one cannot be created now, its samples go to the default partition.
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
                if is_connection_lost(connection):
                    raise
                await self.read(connection)
                if day not in self._days:
                    self._failed(day, error, now_s())

    async def drop(self, connection: Connection, day: date) -> bool:
        """Drop one; return False if that is not possible now."""
        try:
            async with short_lock_transaction(connection, statement_s=_STATEMENT_WITHIN_S):
                await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name_of(day)))
                await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(summaries_name_of(day)))
                await connection.execute(
                    "DELETE FROM telemetry_hours WHERE hour >= %s AND hour < %s",
                    [start_of(day), start_of(day + timedelta(days=1))],
                )
        except psycopg.Error as error:
            if is_connection_lost(connection):
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
        async with short_lock_transaction(connection, statement_s=_STATEMENT_WITHIN_S):
            # First: no row of the day may enter the default partition between the move and ATTACH.
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
        # Forget days that nobody retries any more.
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
