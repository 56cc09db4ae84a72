"""The bodies of `/schedules`, made from schedules and their occurrences."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from trioder.domain.schedules import Occurrence, Schedule
from trioder.domain.time_zones import offset_of, wall_of, zone_of
from trioder.process.rfc3339 import format_ms
from trioder.schemas.dispatch import TargetRow
from trioder.schemas.schedules import (
    OccurrenceRow,
    OccurrenceStepRow,
    OverlapRow,
    ScheduleResponse,
    ScheduleRow,
    ScheduleSummary,
    StartRow,
    StepRow,
)


def schedule_summary(schedule: Schedule, next_start_ms: int | None) -> ScheduleSummary:
    """Return a row of the list."""
    return ScheduleSummary(**_columns(schedule, next_start_ms))


def schedule_row(schedule: Schedule, next_start_ms: int | None, starts: Sequence[int]) -> ScheduleRow:
    """Return a whole schedule; `starts` are those of its next occurrences."""
    return ScheduleRow(**_whole(schedule, next_start_ms, starts))


def schedule_response(
    schedule: Schedule,
    next_start_ms: int | None,
    starts: Sequence[int],
    overlaps: list[OverlapRow],
    *,
    dry_run: bool,
) -> ScheduleResponse:
    """Return a new schedule."""
    columns = _whole(schedule, next_start_ms, starts)
    if dry_run:
        columns["schedule_id"] = None
    return ScheduleResponse(**columns, overlaps=overlaps, dry_run=dry_run)


def occurrence_row(occurrence: Occurrence, timezone: str) -> OccurrenceRow:
    """Return one occurrence."""
    return OccurrenceRow(
        schedule_id=occurrence.schedule_id,
        start=format_ms(occurrence.start_ms),
        local_start=_local(occurrence.start_ms, timezone),
        end=format_ms(occurrence.end_ms),
        state=occurrence.state,
        reason=occurrence.reason or None,
        begun_at=_time(occurrence.begun_ms),
        steps=[
            OccurrenceStepRow(
                number=step.number,
                dispatch_id=None if step.refusal else step.dispatch_id,
                refusal=step.refusal or None,
            )
            for step in occurrence.steps
        ],
    )


def _whole(schedule: Schedule, next_start_ms: int | None, starts: Sequence[int]) -> dict[str, Any]:
    return _columns(schedule, next_start_ms) | {
        "steps": [StepRow(duration_s=step.duration_s, mw=step.mw) for step in schedule.steps],
        "asset_ids": list(schedule.asset_ids),
        "skipped": [format_ms(start_ms) for start_ms in schedule.skipped],
        "next_occurrences": [
            StartRow(start=format_ms(start_ms), local_start=_local(start_ms, schedule.timezone))
            for start_ms in starts
        ],
    }


def _columns(schedule: Schedule, next_start_ms: int | None) -> dict[str, Any]:
    target = schedule.target
    return {
        "schedule_id": schedule.schedule_id,
        "target": TargetRow(kind=target.kind, id=target.id or None),
        "assets": len(schedule.asset_ids) if target.kind == "assets" else None,
        "start": _seconds(schedule.start),
        "timezone": schedule.timezone,
        "recurrence": schedule.recurrence,
        "step_count": len(schedule.steps),
        "duration_s": schedule.duration_s,
        "misfire_s": schedule.misfire_s,
        "strategy": schedule.strategy,
        "active": schedule.is_active,
        "next_start": _time(next_start_ms),
        "created_at": format_ms(schedule.created_ms),
        "cancelled_at": _time(schedule.cancelled_ms),
        "cancelled_by": schedule.cancelled_by or None,
        "tenant": schedule.tenant,
        "requested_by": schedule.requested_by,
    }


def _local(unix_ms: int, timezone: str) -> str:
    """Return a time such as ``2026-03-29T03:30:00+02:00``."""
    zone = zone_of(timezone)
    seconds = round(offset_of(unix_ms, zone).total_seconds())
    sign = "-" if seconds < 0 else "+"
    hours, minutes = divmod(abs(seconds) // 60, 60)
    return f"{_seconds(wall_of(unix_ms, zone))}{sign}{hours:02}:{minutes:02}"


def _seconds(wall: datetime) -> str:
    return wall.replace(tzinfo=None).isoformat(timespec="seconds")


def _time(unix_ms: int | None) -> str | None:
    return None if unix_ms is None else format_ms(unix_ms)
