"""The partitions of `samples`, one a UTC day: made ahead, or when a backlog needs them; dropped when old.

Changing them needs locks that readers hold off; a write never waits for that.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import psycopg
import structlog
from psycopg import sql

from trioder.store.postgres.database import PendingBatch
from trioder.store.postgres.link import Connection

log = structlog.stdlib.get_logger(__name__)

_AHEAD = timedelta(days=2)
# A clock that is wrong by more than this must not make partitions without end: its samples go to the default.
_BACK = timedelta(days=366)
_DAY_MS = 24 * 60 * 60 * 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def day_of(ts_unix_ms: int) -> date:
    """The UTC day of an instant."""
    return (_EPOCH + timedelta(milliseconds=ts_unix_ms)).date()


def days_of(batches: Iterable[PendingBatch]) -> list[date]:
    """The UTC days of all samples, in order."""
    days = {ts_ms // _DAY_MS for batch in batches for ts_ms in batch.run_ts_unix_ms}
    return [day_of(day * _DAY_MS) for day in sorted(days)]


class Partitions:
    """Which days have their partition.

    Args:
        retention_days: 0 keeps all.
    """

    def __init__(self, *, retention_days: int) -> None:
        self._retention = timedelta(days=retention_days) if retention_days else None
        self._days: set[date] = set()

    async def read(self, connection: Connection) -> None:
        """Learn what is there."""
        found = await connection.execute(
            "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
            "WHERE inhparent = 'samples'::regclass AND relname ~ '^samples_[0-9]{8}$'"
        )
        self._days = {
            datetime.strptime(name, "samples_%Y%m%d").replace(tzinfo=UTC).date()
            for (name,) in await found.fetchall()
        }

    async def tend(self, connection: Connection, today: date) -> None:
        """Make those of today and the next days, and drop those that are too old."""
        await self.make(
            connection, (today + timedelta(days=ahead) for ahead in range(_AHEAD.days + 1)), today
        )
        await self._drop_old(connection, today)

    async def make(self, connection: Connection, days: Iterable[date], today: date) -> None:
        """Make those of these days that are missing and within reason.

        One that cannot be made now (a reader holds a lock) only sends its samples to the default partition.
        """
        for day in days:
            if day in self._days or not today - _BACK <= day <= today + _AHEAD:
                continue
            try:
                await _make(connection, day)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                log.warning("partition not made", day=str(day), reason=str(error))
            else:
                self._days.add(day)

    async def _drop_old(self, connection: Connection, today: date) -> None:
        if self._retention is None:
            return
        oldest = today - self._retention
        for day in sorted(day for day in self._days if day < oldest):
            try:
                await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_name(day)))
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
                log.warning("old telemetry not dropped", day=str(day), reason=str(error))
                return
            self._days.discard(day)
            log.info("old telemetry dropped", day=str(day))
        await connection.execute("DELETE FROM samples_default WHERE ts < %s", [_start(oldest)])


async def _make(connection: Connection, day: date) -> None:
    name = _name(day)
    start, end = _start(day), _start(day + timedelta(days=1))
    async with connection.transaction():
        await connection.execute(sql.SQL("CREATE TABLE {} (LIKE samples INCLUDING ALL)").format(name))
        # What came before its partition lies in the default one, which must be clear of the day.
        await connection.execute(
            sql.SQL(
                "WITH moved AS (DELETE FROM samples_default WHERE ts >= {start} AND ts < {end} RETURNING *) "
                "INSERT INTO {name} SELECT * FROM moved"
            ).format(name=name, start=sql.Literal(start), end=sql.Literal(end))
        )
        await connection.execute(
            sql.SQL("ALTER TABLE samples ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                name, sql.Literal(start), sql.Literal(end)
            )
        )


def _name(day: date) -> sql.Identifier:
    return sql.Identifier(f"samples_{day:%Y%m%d}")


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
