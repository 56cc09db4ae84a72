"""Writes and reads schedules and their occurrences, of which the newest state counts."""

from collections.abc import Sequence
from typing import Any, LiteralString

import msgspec

from trioder.domain.access import ALL_TENANTS, Scope
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.schedules import Occurrence, OccurrenceStep, Schedule, ScheduleStep
from trioder.store.postgres.audit_records import storable
from trioder.store.postgres.pending_records import PendingOccurrence, PendingSchedule
from trioder.store.postgres.pg_connection import Connection, timestamp

# At the headend's start: those that are not cancelled, then the newest.
MAX_SCHEDULES = 20_000

_WRITE_SCHEDULE: LiteralString = """
    INSERT INTO schedules (
        schedule_id, tenant, site_ids, target, target_id, asset_ids, start_local, timezone, recurrence, steps,
        misfire_s, strategy, requested_by, created_at, cancelled_at, cancelled_by, skipped
    )
    VALUES (
        %s, %s, %s::uuid[], %s, %s, %s::uuid[], %s, %s, %s, %s::jsonb, %s, %s, %s, %s, %s, %s,
        %s::timestamptz[]
    )
    ON CONFLICT (schedule_id) DO UPDATE SET (cancelled_at, cancelled_by, skipped) = (
        excluded.cancelled_at, excluded.cancelled_by, excluded.skipped
    )
"""
_WRITE_OCCURRENCE: LiteralString = """
    INSERT INTO schedule_occurrences (
        schedule_id, start_at, end_at, state, reason, steps, begun_at, changed_at, tenant, site_ids
    )
    VALUES (%s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s::uuid[])
    ON CONFLICT (schedule_id, start_at) DO UPDATE SET (state, reason, steps, begun_at, changed_at) = (
        excluded.state, excluded.reason, excluded.steps, excluded.begun_at, excluded.changed_at
    )
"""
_SCHEDULES: LiteralString = """
    SELECT
        schedule_id::text, tenant, site_ids::text[], target, target_id::text, asset_ids::text[], start_local,
        timezone, recurrence, steps::text, misfire_s, strategy, requested_by,
        (extract(epoch FROM created_at) * 1000)::bigint, (extract(epoch FROM cancelled_at) * 1000)::bigint,
        cancelled_by,
        ARRAY(SELECT (extract(epoch FROM start) * 1000)::bigint FROM unnest(skipped) AS start ORDER BY 1)
    FROM schedules ORDER BY cancelled_at IS NOT NULL, created_at DESC, schedule_id LIMIT %s
"""
_OCCURRENCE_COLUMNS: LiteralString = """
    occurrence.schedule_id::text, (extract(epoch FROM start_at) * 1000)::bigint,
    (extract(epoch FROM end_at) * 1000)::bigint, state, reason, steps::text,
    (extract(epoch FROM begun_at) * 1000)::bigint, (extract(epoch FROM changed_at) * 1000)::bigint,
    occurrence.tenant, occurrence.site_ids::text[]
"""
_LAST_OCCURRENCES: LiteralString = f"""
    SELECT {_OCCURRENCE_COLUMNS} FROM schedule_occurrences AS occurrence
    WHERE state = 'running'
    UNION ALL
    SELECT newest.* FROM schedules, LATERAL (
        SELECT {_OCCURRENCE_COLUMNS} FROM schedule_occurrences AS occurrence
        WHERE occurrence.schedule_id = schedules.schedule_id AND (state != 'missed' OR start_at <= %s)
        ORDER BY occurrence.start_at DESC LIMIT 1
    ) AS newest
    WHERE newest.state != 'running'
"""  # noqa: S608  # constants only
_OCCURRENCES: LiteralString = f"""
    SELECT {_OCCURRENCE_COLUMNS} FROM schedule_occurrences AS occurrence
    WHERE schedule_id = %(schedule_id)s::uuid AND start_at >= %(after)s AND start_at < %(before)s
        AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
        AND (%(sites)s::uuid[] IS NULL OR cardinality(site_ids) > 0 AND site_ids <@ %(sites)s::uuid[])
    ORDER BY start_at LIMIT %(limit)s
"""  # noqa: S608  # constants only
_steps = msgspec.json.Decoder(tuple[ScheduleStep, ...])
_occurrence_steps = msgspec.json.Decoder(tuple[OccurrenceStep, ...])


async def write_schedules(connection: Connection, pending: Sequence[PendingSchedule]) -> None:
    """Write the newest state of each schedule."""
    # In order: otherwise two headends' transactions could deadlock.
    for schedule in sorted((each.schedule for each in pending), key=lambda one: one.schedule_id):
        await connection.execute(
            _WRITE_SCHEDULE,
            [
                schedule.schedule_id,
                schedule.tenant,
                None if schedule.site_ids is None else list(schedule.site_ids),
                schedule.target.kind,
                schedule.target.id or None,
                list(schedule.asset_ids),
                schedule.start,
                storable(schedule.timezone),
                None if schedule.recurrence is None else storable(schedule.recurrence),
                msgspec.json.encode(schedule.steps).decode(),
                schedule.misfire_s,
                schedule.strategy,
                storable(schedule.requested_by),
                timestamp(schedule.created_ms),
                timestamp(schedule.cancelled_ms),
                storable(schedule.cancelled_by),
                [timestamp(start_ms) for start_ms in schedule.skipped],
            ],
        )


async def write_occurrences(connection: Connection, pending: Sequence[PendingOccurrence]) -> None:
    """Write the newest state of each occurrence."""
    ordered = sorted((each.occurrence for each in pending), key=lambda one: (one.schedule_id, one.start_ms))
    for occurrence in ordered:
        await connection.execute(
            _WRITE_OCCURRENCE,
            [
                occurrence.schedule_id,
                timestamp(occurrence.start_ms),
                timestamp(occurrence.end_ms),
                occurrence.state,
                storable(occurrence.reason),
                msgspec.json.encode(occurrence.steps).decode(),
                timestamp(occurrence.begun_ms),
                timestamp(occurrence.changed_ms),
                occurrence.tenant,
                None if occurrence.site_ids is None else list(occurrence.site_ids),
            ],
        )


async def read_schedules(connection: Connection) -> Sequence[Schedule]:
    """See `Queries.schedules`."""
    found = await connection.execute(_SCHEDULES, [MAX_SCHEDULES])
    return sorted(map(_schedule, await found.fetchall()), key=lambda one: (one.created_ms, one.schedule_id))


async def read_last_occurrences(connection: Connection, *, now_ms: int) -> Sequence[Occurrence]:
    """See `Queries.last_occurrences`."""
    found = await connection.execute(_LAST_OCCURRENCES, [timestamp(now_ms)])
    return [_occurrence(row) for row in await found.fetchall()]


async def read_occurrences(
    connection: Connection, scope: Scope, schedule_id: str, *, after_ms: int, before_ms: int, limit: int
) -> Sequence[Occurrence]:
    """See `Queries.occurrences`."""
    found = await connection.execute(
        _OCCURRENCES,
        {
            "schedule_id": schedule_id,
            "after": timestamp(after_ms),
            "before": timestamp(before_ms),
            "tenant": None if scope.tenant == ALL_TENANTS else scope.tenant,
            "sites": None if scope.site_ids is None else sorted(scope.site_ids),
            "limit": limit,
        },
    )
    return [_occurrence(row) for row in await found.fetchall()]


def _schedule(row: Sequence[Any]) -> Schedule:
    schedule_id, tenant, site_ids, target, target_id, asset_ids, start, timezone, recurrence, steps = row[:10]
    misfire_s, strategy, requested_by, created_ms, cancelled_ms, cancelled_by, skipped = row[10:]
    return Schedule(
        schedule_id=schedule_id,
        tenant=tenant,
        site_ids=None if site_ids is None else tuple(site_ids),
        target=DispatchTarget(kind=target, id=target_id or ""),
        asset_ids=tuple(asset_ids),
        start=start,
        timezone=timezone,
        recurrence=recurrence,
        steps=_steps.decode(steps),
        misfire_s=misfire_s,
        strategy=strategy,
        requested_by=requested_by,
        created_ms=created_ms,
        cancelled_ms=cancelled_ms,
        cancelled_by=cancelled_by,
        skipped=tuple(skipped),
    )


def _occurrence(row: Sequence[Any]) -> Occurrence:
    schedule_id, start_ms, end_ms, state, reason, steps, begun_ms, changed_ms, tenant, site_ids = row
    return Occurrence(
        schedule_id=schedule_id,
        start_ms=start_ms,
        end_ms=end_ms,
        state=state,
        reason=reason,
        steps=_occurrence_steps.decode(steps),
        begun_ms=begun_ms,
        changed_ms=changed_ms,
        tenant=tenant,
        site_ids=None if site_ids is None else tuple(site_ids),
    )
