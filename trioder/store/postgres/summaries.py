"""Summaries of telemetry by periods of five minutes, hour by hour: what history at a resolution reads.

A commit counts the hours that it adds samples to, in `telemetry_hours`; a summary records which count it was
made of. Late samples, of any age, so make an hour's summary invalid, and it is made again. Samples are then
read in its stead, so that no answer depends on when that is done.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import LiteralString

from psycopg import sql

from trioder.store.postgres.batch_queue import PendingBatch
from trioder.store.postgres.buckets import AGGREGATES
from trioder.store.postgres.partitions import start_of, summaries_name_of
from trioder.store.postgres.pg_connection import Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_HOUR_MS = 3_600_000
# Within these, days have partitions, so that their hours can be summarized.
_BACK, _AHEAD = timedelta(days=367), timedelta(days=3)
# Not while samples still arrive, nor while a transaction may be open that has not counted the hour: those
# last 20 s at most.
_QUIET_S = 120
_LOCK_WITHIN_MS = 200
# Held while one headend summarizes; any number, the same for every headend.
_LOCK = 7_204_331_102

_COUNT_CHANGES: LiteralString = """
    INSERT INTO telemetry_hours AS state (hour, changes)
    SELECT hour, 1 FROM unnest(%(hours)s::timestamptz[]) AS hour
    WHERE hour BETWEEN %(first)s AND %(last)s
        OR EXISTS (SELECT FROM telemetry_hours AS known WHERE known.hour = hour.hour)
    ORDER BY hour
    ON CONFLICT (hour) DO UPDATE SET changes = state.changes + 1, changed_at = now()
"""
# Days from before there were summaries, or that have moved out of samples_default. changed_at is the present:
# see _QUIET_S.
_ADD_HOURS: LiteralString = """
    INSERT INTO telemetry_hours (hour, changes)
    SELECT day + number * interval '1 hour', 0
    FROM (
        SELECT to_date(right(relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' AS day
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'samples'::regclass AND relname ~ '^samples_[0-9]{8}$'
    ) AS days
    CROSS JOIN generate_series(0, 23) AS number
    WHERE day < now() - interval '2 days'
        AND NOT EXISTS (
            SELECT FROM telemetry_hours AS known
            WHERE known.hour = day + number * interval '1 hour'
        )
    ON CONFLICT DO NOTHING
"""
_NEXT: LiteralString = """
    SELECT hour, changes FROM telemetry_hours
    WHERE changes IS DISTINCT FROM summarized
        AND changed_at < now() - %s * interval '1 second'
        AND to_regclass('samples_' || to_char(hour AT TIME ZONE 'UTC', 'YYYYMMDD')) IS NOT NULL
    ORDER BY hour DESC LIMIT 1
"""
_SUMMARIZE: LiteralString = f"""
    INSERT INTO telemetry_5m (
        bucket, asset_key, soc_mwhr_sum, soc_mwhr_min, soc_mwhr_max, current_mw_sum, current_mw_min,
        current_mw_max, setpoint_mw_sum, setpoint_mw_min, setpoint_mw_max, last, samples, good, worst
    )
    SELECT date_bin('5 minutes', ts, 'epoch') AS start, asset_key, {AGGREGATES}
    FROM samples WHERE ts >= %s AND ts < %s
    GROUP BY start, asset_key ORDER BY asset_key, start
"""  # noqa: S608  # constants only


async def count_changes(connection: Connection, batches: Iterable[PendingBatch], now: datetime) -> None:
    """Count the hours of new samples; in their transaction."""
    hours = {ts_ms // _HOUR_MS for batch in batches for ts_ms in batch.run_ts_unix_ms}
    times = [_EPOCH + hour * _HOUR for hour in sorted(hours) if _is_in_calendar(hour)]
    await connection.execute(_COUNT_CHANGES, {"hours": times, "first": now - _BACK, "last": now + _AHEAD})


def _is_in_calendar(hour: int) -> bool:
    return -500_000 < hour < 70_000_000


async def summarize_next(connection: Connection, *, quiet_s: float = _QUIET_S) -> bool:
    """Summarize the newest hour that has changed since it was; return whether there was one.

    Args:
        connection: has the statement timeout for it.
        quiet_s: hours that have changed within this time wait.
    """
    # A transaction of its own: commits of late samples would wait for the end of the one below.
    await connection.execute(_ADD_HOURS)
    async with _alone(connection) as is_alone:
        if not is_alone:
            return False
        # Read before the samples: a commit in between is then missing in the count, not in the samples.
        found = await connection.execute(_NEXT, [quiet_s])
        row = await found.fetchone()
        if row is None:
            return False
        hour, changes = row
        await _make_partition(connection, hour)
        span = [hour, hour + _HOUR]
        await connection.execute("DELETE FROM telemetry_5m WHERE bucket >= %s AND bucket < %s", span)
        await connection.execute(_SUMMARIZE, span)
        await connection.execute(
            "UPDATE telemetry_hours SET summarized = %s WHERE hour = %s", [changes, hour]
        )
    return True


@asynccontextmanager
async def _alone(connection: Connection) -> AsyncIterator[bool]:
    async with connection.transaction():
        await connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{_LOCK_WITHIN_MS}ms"])
        found = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        yield await found.fetchone() == (True,)


async def _make_partition(connection: Connection, hour: datetime) -> None:
    day = hour.astimezone(UTC).date()
    name = summaries_name_of(day)
    found = await connection.execute("SELECT to_regclass(%s) IS NULL", [name.as_string()])
    if await found.fetchone() == (False,):
        return
    start, end = sql.Literal(start_of(day)), sql.Literal(start_of(day + timedelta(days=1)))
    # Attached rather than created as a partition: readers of the table go on.
    await connection.execute(sql.SQL("CREATE TABLE {} (LIKE telemetry_5m INCLUDING ALL)").format(name))
    await connection.execute(
        sql.SQL("ALTER TABLE telemetry_5m ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            name, start, end
        )
    )
