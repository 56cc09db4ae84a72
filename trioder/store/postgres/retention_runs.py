"""Drops old telemetry as `retention` decides, day by day, and records what it did.

Failures are retried later; they do not count as the database's, unless the connection is lost.
"""

import asyncio
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import date, timedelta

import psycopg
import structlog
from psycopg import sql
from psycopg.rows import dict_row

from trioder.process.backoff import Backoff
from trioder.store.postgres.partitions import (
    DEFAULT_PARTITION,
    Partitions,
    is_connection_lost,
    name_of,
    short_lock_transaction,
    start_of,
)
from trioder.store.postgres.pg_connection import Connection
from trioder.store.postgres.retention import (
    Held,
    Holdings,
    RetentionPlan,
    RetentionState,
    newest_day_of,
    plan_retention,
)

log = structlog.stdlib.get_logger(__name__)

CONFIRM_COMMAND = "python -m trioder.store confirm-retention"
_AGAIN_AFTER_S = 6 * 3600.0
_AGAIN_WITHOUT_TELEMETRY_S = 60.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 15.0, 900.0
_STATEMENT_WITHIN_S = 8
_DROPS_WITHIN_S = 10.0
_DELETED_AT_ONCE = 50_000
_STATE = ("newest_day", "approved_before", "confirmed_before", "run_day", "run_days")
_DAY_NUMBER = "floor(extract(epoch FROM ts) / 86400)::bigint"
_EPOCH = date(1970, 1, 1)
_DAY = timedelta(days=1)
# The assets of the fleet not yet found in a partition. LIMIT makes the planner look each key up in the index.
_ASSETS = """
    CREATE TEMPORARY TABLE unfound_assets ON COMMIT DROP AS
    SELECT asset_id, asset_key FROM asset_versions JOIN assets ON assets.id = asset_id WHERE in_fleet
"""
_FIND_ASSETS = """
    WITH found AS (
        SELECT unfound.asset_id, max(newest.ts) AS ts
        FROM unfound_assets AS unfound
        CROSS JOIN LATERAL (
            SELECT ts FROM {relation}
            WHERE asset_key = unfound.asset_key AND ts >= {start} AND ts < {end}
            ORDER BY ts DESC LIMIT 1
        ) AS newest
        GROUP BY unfound.asset_id
    ), gone AS (
        DELETE FROM unfound_assets USING found WHERE unfound_assets.asset_id = found.asset_id RETURNING ts
    )
    SELECT DISTINCT day FROM gone CROSS JOIN LATERAL (
        VALUES ((ts AT TIME ZONE 'UTC')::date), (((ts - interval '24 hours') AT TIME ZONE 'UTC')::date)
    ) AS held (day)
"""


class Retention:
    """Runs about once a day, and at once after a confirmation.

    Args:
        retention_days: 0 keeps all; the newest day is recorded nevertheless.

    Attributes:
        days_held: expired days that wait for an operator.
        days_dropped: since the start.
    """

    def __init__(self, *, retention_days: int) -> None:
        self.days_held = 0
        self.days_dropped = 0
        self._retention_days = retention_days
        self._today: date | None = None
        self._next_s = 0.0
        self._backoff = Backoff(first_s=_SHORTEST_PAUSE_S, max_s=_LONGEST_PAUSE_S)
        self._confirmed_before: date | None = None
        self._reported: Held | None = None
        self._has_telemetry = False

    async def run(self, connection: Connection, partitions: Partitions, today: date) -> None:
        """Drop what may be dropped now, if a run is due.

        Raises:
            psycopg.Error: the connection is lost.
        """
        now_s = asyncio.get_running_loop().time()
        try:
            if today == self._today and now_s < self._next_s and not await self._was_confirmed(connection):
                return
            # Before the run: one that loses the connection must not be repeated on the next at once.
            self._today = today
            self._next_s = now_s + self._backoff.next_delay_s()
            if await self._run(connection, partitions, today):
                self._backoff.reset()
                again_s = _AGAIN_AFTER_S if self._has_telemetry else _AGAIN_WITHOUT_TELEMETRY_S
                self._next_s = asyncio.get_running_loop().time() + again_s
        except psycopg.Error as error:
            if is_connection_lost(connection):
                raise
            self._next_s = now_s + self._backoff.next_delay_s()
            reason = (error.diag.message_primary or str(error)).partition("\n")[0]
            log.warning("retention not run; it is tried again", reason=reason)

    async def _was_confirmed(self, connection: Connection) -> bool:
        if not self.days_held:
            return False
        found = await connection.execute("SELECT confirmed_before FROM telemetry_retention")
        row = await found.fetchone()
        return row is not None and row[0] != self._confirmed_before

    async def _run(self, connection: Connection, partitions: Partitions, today: date) -> bool:
        """Return whether everything that may be dropped was."""
        async with short_lock_transaction(connection, statement_s=_STATEMENT_WITHIN_S):
            await connection.execute("INSERT INTO telemetry_retention DEFAULT VALUES ON CONFLICT DO NOTHING")
            state = await _read_state(connection)
            days = await _days_with_samples(connection, partitions.days)
            in_default: AbstractSet[date] = frozenset()
            pinned: AbstractSet[date] = frozenset()
            newest = newest_day_of(Holdings(days=days, pinned=pinned), today)
            self._has_telemetry = newest is not None
            if newest is not None and self._retention_days:
                cutoff = newest - timedelta(days=self._retention_days)
                in_default = await _days_in_default(connection, before=cutoff)
                if in_default or any(day < cutoff for day in days):
                    pinned = await _pinned_days(connection, days, in_default, newest=newest, cutoff=cutoff)
            plan = plan_retention(
                state,
                Holdings(days=days | in_default, pinned=pinned),
                today=today,
                retention_days=self._retention_days,
            )
            self._confirmed_before = plan.state.confirmed_before
            await _write_state(connection, plan)
        self._report(plan)
        return await self._drop(connection, partitions, plan, in_default, counted=days | in_default)

    def _report(self, plan: RetentionPlan) -> None:
        held = plan.held
        self.days_held = 0 if held is None else len(held.days)
        if held is not None and held != self._reported:
            log.warning(
                "old telemetry is kept until an operator confirms",
                days=len(held.days),
                first=str(held.days[0]),
                last=str(held.days[-1]),
                reason=held.reason,
                remedy=f"check the clock of this machine; if it is right: {CONFIRM_COMMAND}",
            )
        elif held is None and self._reported is not None:
            log.info("no old telemetry waits for a confirmation any more")
        self._reported = held

    async def _drop(
        self,
        connection: Connection,
        partitions: Partitions,
        plan: RetentionPlan,
        in_default: AbstractSet[date],
        *,
        counted: AbstractSet[date],
    ) -> bool:
        stop_s = asyncio.get_running_loop().time() + _DROPS_WITHIN_S
        for day in sorted(day for day in partitions.days if plan.drops(day)):
            if asyncio.get_running_loop().time() > stop_s or not await partitions.drop(connection, day):
                return False
            if day in counted:
                self.days_dropped += 1
                log.info("old telemetry dropped", day=str(day))
        default_days = sorted(day for day in in_default if plan.drops(day))
        while default_days:
            if asyncio.get_running_loop().time() > stop_s:
                return False
            rows = await _delete_from_default(connection, default_days)
            if rows < _DELETED_AT_ONCE:
                log.info(
                    "old telemetry deleted from samples_default",
                    days=len(default_days),
                    first=str(default_days[0]),
                )
                break
        return True


async def _read_state(connection: Connection) -> RetentionState:
    # Locked: two headends on one database see each other's decisions.
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("SELECT * FROM telemetry_retention FOR UPDATE")
        row = await cursor.fetchone() or {}
    return RetentionState(**{name: row[name] for name in _STATE if row.get(name) is not None})


async def _write_state(connection: Connection, plan: RetentionPlan) -> None:
    state, held = plan.state, plan.held
    await connection.execute(
        """
        UPDATE telemetry_retention SET
            newest_day = %s, approved_before = %s, confirmed_before = %s, run_day = %s, run_days = %s,
            held_days = %s, held_from = %s, held_before = %s, held_newest_day = %s, held_reason = %s,
            updated_at = now()
        """,
        [
            *(getattr(state, name) for name in _STATE),
            *((0, None, None, None, None) if held is None else _held_row(held)),
        ],
    )


def _held_row(held: Held) -> tuple[int, date, date, date, str]:
    return len(held.days), held.days[0], held.before, held.newest_day, held.reason


async def _days_with_samples(connection: Connection, days: Iterable[date]) -> set[date]:
    """Return the days whose partition is not empty."""
    queries = [
        sql.SQL("SELECT {}::date WHERE EXISTS (SELECT FROM {})").format(sql.Literal(day), name_of(day))
        for day in days
    ]
    if not queries:
        return set()
    found = await connection.execute(sql.SQL(" UNION ALL ").join(queries))
    return {day for (day,) in await found.fetchall()}


async def _days_in_default(connection: Connection, *, before: date) -> set[date]:
    found = await connection.execute(
        sql.SQL("SELECT DISTINCT {number} FROM {default} WHERE ts < {before}").format(
            number=sql.SQL(_DAY_NUMBER), default=DEFAULT_PARTITION, before=sql.Literal(start_of(before))
        )
    )
    first = (date.min - _EPOCH).days
    return {_EPOCH + timedelta(days=number) for (number,) in await found.fetchall() if number >= first}


async def _pinned_days(
    connection: Connection,
    days: AbstractSet[date],
    in_default: AbstractSet[date],
    *,
    newest: date,
    cutoff: date,
) -> set[date]:
    """Return the days before `cutoff` that hold some of the newest 24 h of an asset of the fleet.

    From the newest day back, without days ahead of the clock: an asset found on a day is not searched again.
    """
    await connection.execute(_ASSETS)
    await _find_assets(connection, DEFAULT_PARTITION, cutoff + _DAY, newest + _DAY)
    pinned: set[date] = set()
    for day in sorted((day for day in days | in_default if day <= newest), reverse=True):
        if day in days:
            pinned |= await _find_assets(connection, name_of(day), day, day + _DAY)
        if day in in_default:
            pinned |= await _find_assets(connection, DEFAULT_PARTITION, day, day + _DAY)
        found = await connection.execute("SELECT EXISTS (SELECT FROM unfound_assets)")
        if await found.fetchone() == (False,):
            break
    return {day for day in pinned if day < cutoff}


async def _find_assets(connection: Connection, relation: sql.Identifier, start: date, end: date) -> set[date]:
    found = await connection.execute(
        sql.SQL(_FIND_ASSETS).format(
            relation=relation, start=sql.Literal(start_of(start)), end=sql.Literal(start_of(end))
        )
    )
    return {day for (day,) in await found.fetchall()}


async def _delete_from_default(connection: Connection, days: Iterable[date]) -> int:
    async with short_lock_transaction(connection, statement_s=_STATEMENT_WITHIN_S):
        deleted = await connection.execute(
            sql.SQL(
                "DELETE FROM {default} WHERE ctid = ANY (ARRAY("
                "SELECT ctid FROM {default} WHERE {number} = ANY (%s) LIMIT {limit}))"
            ).format(
                default=DEFAULT_PARTITION,
                number=sql.SQL(_DAY_NUMBER),
                limit=sql.Literal(_DELETED_AT_ONCE),
            ),
            [[(day - _EPOCH).days for day in days]],
        )
    return deleted.rowcount
