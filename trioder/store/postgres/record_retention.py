"""Deletes old records: of dispatches, sessions, alarms, events, schedules, and watermarks of unused outboxes.

In small transactions, and never by one clock alone: see `RecordRetention`.
"""

from datetime import datetime, timedelta
from typing import LiteralString

import structlog

from trioder.store.postgres.database import MAX_WATERMARKS
from trioder.store.postgres.pg_connection import Connection
from trioder.store.postgres.record_writes import RECORDS_LOCK

log = structlog.stdlib.get_logger(__name__)

_ROWS_PER_STEP = 10_000
_DISPATCHES_PER_STEP = 1_000
# The present is assumed to be at most this much later than the newest record.
_SLACK = timedelta(days=1)
# Beyond this, short sessions are deleted first: an agent that reconnects in a loop must not evict others'.
MAX_SESSIONS = 2_000_000
# About 1 GB. Agents may send many.
MAX_EVENTS = 5_000_000

_NEWEST: LiteralString = """
    SELECT greatest(
        (SELECT max(dispatched_at) FROM dispatches),
        (SELECT max(connected_at) FROM sessions),
        (SELECT max(updated_at) FROM ingest_watermarks)
    ), now()
"""
_OLD_DISPATCHES: LiteralString = """
    SELECT dispatch_id FROM dispatches AS dispatch
    WHERE NOT living AND dispatched_at < %(oldest)s AND NOT EXISTS (
        SELECT FROM dispatch_shares AS share
        WHERE share.dispatch_id = dispatch.dispatch_id AND share.ended_at >= %(oldest)s
    )
    ORDER BY dispatched_at LIMIT %(limit)s
"""
_DELETE_SHARES: LiteralString = """
    DELETE FROM dispatch_shares WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM dispatch_shares WHERE dispatch_id = ANY (%s::uuid[]) LIMIT %s
    ))
"""
_DELETE_OLD_SESSIONS: LiteralString = """
    DELETE FROM sessions WHERE session_id = ANY (ARRAY(
        SELECT session_id FROM sessions
        WHERE connected_at < %(oldest)s AND disconnected_at < %(oldest)s
        ORDER BY connected_at LIMIT %(limit)s
    ))
"""
_DELETE_SURPLUS_SESSIONS: LiteralString = """
    DELETE FROM sessions WHERE session_id = ANY (ARRAY(
        SELECT session_id FROM sessions WHERE disconnected_at IS NOT NULL
        ORDER BY disconnected_at - connected_at > interval '10 seconds', connected_at
        LIMIT least((SELECT count(*) FROM sessions) - %(most)s, %(limit)s)
    ))
"""
_DELETE_LISTS: LiteralString = """
    DELETE FROM asset_lists WHERE list_id = ANY (ARRAY(
        SELECT list_id FROM asset_lists AS list
        WHERE NOT EXISTS (SELECT FROM sessions WHERE sessions.list_id = list.list_id)
        LIMIT %s
    ))
"""
_DELETE_OLD_ALARMS: LiteralString = """
    DELETE FROM alarms WHERE alarm_id = ANY (ARRAY(
        SELECT alarm_id FROM alarms WHERE cleared_at < %(oldest)s ORDER BY cleared_at LIMIT %(limit)s
    ))
"""
# By when they were recorded: agents' clocks may be wrong.
_DELETE_OLD_EVENTS: LiteralString = """
    DELETE FROM events WHERE number = ANY (ARRAY(
        SELECT number FROM events WHERE recorded_at < %(oldest)s ORDER BY recorded_at LIMIT %(limit)s
    ))
"""
_DELETE_SURPLUS_EVENTS: LiteralString = """
    DELETE FROM events WHERE number = ANY (ARRAY(
        SELECT number FROM events WHERE number <= (SELECT max(number) FROM events) - %(most)s
        ORDER BY number LIMIT %(limit)s
    ))
"""
# The newest of each schedule stays: what comes after it is still to begin.
_DELETE_OLD_OCCURRENCES: LiteralString = """
    DELETE FROM schedule_occurrences WHERE ctid = ANY (ARRAY(
        SELECT old.ctid FROM schedule_occurrences AS old
        WHERE old.start_at < %(oldest)s AND old.end_at < %(oldest)s AND old.state != 'running' AND EXISTS (
            SELECT FROM schedule_occurrences AS later
            WHERE later.schedule_id = old.schedule_id AND later.start_at > old.start_at
        )
        ORDER BY old.start_at LIMIT %(limit)s
    ))
"""
# Cancelled ones, and those with one occurrence, which is over.
_DELETE_OLD_SCHEDULES: LiteralString = """
    WITH old AS (
        SELECT schedule_id FROM schedules AS schedule
        WHERE (
            cancelled_at < %(oldest)s
            OR recurrence IS NULL AND EXISTS (
                SELECT FROM schedule_occurrences AS occurrence
                WHERE occurrence.schedule_id = schedule.schedule_id AND end_at < %(oldest)s
            )
        ) AND NOT EXISTS (
            SELECT FROM schedule_occurrences AS occurrence
            WHERE occurrence.schedule_id = schedule.schedule_id
                AND (state = 'running' OR end_at >= %(oldest)s)
        )
        ORDER BY created_at LIMIT %(limit)s
    ), occurrences AS (
        DELETE FROM schedule_occurrences USING old WHERE schedule_occurrences.schedule_id = old.schedule_id
    )
    DELETE FROM schedules USING old WHERE schedules.schedule_id = old.schedule_id
"""
_DELETE_OLD_WATERMARKS: LiteralString = """
    DELETE FROM ingest_watermarks WHERE outbox_id = ANY (ARRAY(
        SELECT outbox_id FROM ingest_watermarks WHERE updated_at < %s LIMIT %s
    ))
"""
# Deleting the watermark of a live outbox loses no sample, but what its agent had sent without seeing the
# acknowledgement would be written twice: so only those of outboxes hardly used, or silent for a month.
_DELETE_SURPLUS_WATERMARKS: LiteralString = """
    DELETE FROM ingest_watermarks WHERE outbox_id = ANY (ARRAY(
        SELECT outbox_id FROM ingest_watermarks
        WHERE updated_at < %(day_ago)s AND batch_seq <= 100 OR updated_at < %(month_ago)s
        ORDER BY batch_seq > 100, updated_at
        LIMIT greatest(0, least((SELECT count(*) FROM ingest_watermarks) - %(most)s, %(limit)s))
    ))
"""


class RecordRetention:
    """Decides which records are old, and deletes them.

    A wrong clock must not delete everything, so the present is the earliest of: the headend's clock; the
    database's; and the newest record from before this headend's start (its start, if there is none) plus
    its uptime, plus a day.

    Args:
        retention_days: 0 keeps all records; the number of watermarks is bounded nevertheless.
    """

    def __init__(self, *, retention_days: int) -> None:
        self._retention = timedelta(days=retention_days) if retention_days else None
        self._newest: datetime | None = None

    async def learn(self, connection: Connection, now: datetime) -> None:
        """Read the time of the newest record, before this headend adds its own."""
        found = await connection.execute(_NEWEST)
        newest, database_now = (await found.fetchone()) or (None, now)
        self._newest = newest or min(now, database_now)

    async def drop_old(self, connection: Connection, *, now: datetime, run_s: float) -> bool:
        """Delete at most 10,000 old rows of each kind; return whether there are more.

        Args:
            connection: this headend's only one that writes records.
            now: by the headend's clock.
            run_s: the time since `learn`.
        """
        if self._newest is None:
            return False
        found = await connection.execute("SELECT now()")
        [database_now] = (await found.fetchone()) or (now,)
        present = min(now, database_now, self._newest + timedelta(seconds=run_s) + _SLACK)
        deleted: dict[str, int] = {}
        more = False
        if self._retention is not None:
            oldest = present - self._retention
            deleted["dispatches"], more = await self._drop_dispatches(connection, oldest)
            limits = {"oldest": oldest, "most": MAX_SESSIONS, "limit": _ROWS_PER_STEP}
            deleted["sessions"] = await _count(connection, _DELETE_OLD_SESSIONS, limits)
            if await _count(connection, "SELECT FROM sessions OFFSET %(most)s LIMIT 1", limits):
                deleted["surplus_sessions"] = await _count(connection, _DELETE_SURPLUS_SESSIONS, limits)
            deleted["alarms"] = await _count(connection, _DELETE_OLD_ALARMS, limits)
            deleted["events"] = await _count(connection, _DELETE_OLD_EVENTS, limits)
            deleted["surplus_events"] = await _count(
                connection, _DELETE_SURPLUS_EVENTS, {"most": MAX_EVENTS, "limit": _ROWS_PER_STEP}
            )
            deleted["occurrences"] = await _count(connection, _DELETE_OLD_OCCURRENCES, limits)
            deleted["schedules"] = await _count(connection, _DELETE_OLD_SCHEDULES, limits)
            deleted["asset_lists"] = await self._drop_lists(connection)
            deleted["watermarks"] = await _count(connection, _DELETE_OLD_WATERMARKS, [oldest, _ROWS_PER_STEP])
        deleted["surplus_watermarks"] = await _count(
            connection,
            _DELETE_SURPLUS_WATERMARKS,
            {
                "day_ago": present - timedelta(days=1),
                "month_ago": present - timedelta(days=30),
                "most": MAX_WATERMARKS,
                "limit": _ROWS_PER_STEP,
            },
        )
        if any(deleted.values()):
            log.info("old records deleted", **{kind: count for kind, count in deleted.items() if count})
        return more or any(count >= _ROWS_PER_STEP for count in deleted.values())

    async def _drop_dispatches(self, connection: Connection, oldest: datetime) -> tuple[int, bool]:
        async with connection.transaction():
            found = await connection.execute(
                _OLD_DISPATCHES, {"oldest": oldest, "limit": _DISPATCHES_PER_STEP}
            )
            ids = [dispatch_id for (dispatch_id,) in await found.fetchall()]
            if not ids:
                return 0, False
            if await _count(connection, _DELETE_SHARES, [ids, _ROWS_PER_STEP]) >= _ROWS_PER_STEP:
                return 0, True
            await connection.execute("DELETE FROM dispatch_resplits WHERE dispatch_id = ANY (%s)", [ids])
            deleted = await _count(connection, "DELETE FROM dispatches WHERE dispatch_id = ANY (%s)", [ids])
            return deleted, len(ids) == _DISPATCHES_PER_STEP

    async def _drop_lists(self, connection: Connection) -> int:
        async with connection.transaction():
            # Not while another headend may be about to refer to one.
            found = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [RECORDS_LOCK])
            [locked] = (await found.fetchone()) or (False,)
            return await _count(connection, _DELETE_LISTS, [_ROWS_PER_STEP]) if locked else 0


async def _count(
    connection: Connection, statement: LiteralString, values: list[object] | dict[str, object]
) -> int:
    """Return the statement's row count."""
    return (await connection.execute(statement, values)).rowcount
