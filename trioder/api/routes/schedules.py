"""`/schedules`: dispatches that begin by the clock, and their occurrences."""

from collections.abc import AsyncGenerator, Sequence

import msgspec
import trio
from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.access import AccessControl, principal
from trioder.api.asset_query import FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.openapi import documented
from trioder.api.parsing import (
    Query,
    checked_id,
    checked_query,
    checked_time_ms,
    query_flag,
    query_limit,
    query_time_ms,
    read_json_body,
)
from trioder.api.responses import json_response, list_chunks, list_response, stream_response
from trioder.api.schedule_requests import ScheduleRequests, refused
from trioder.api.schedule_rows import occurrence_row, schedule_response, schedule_row, schedule_summary
from trioder.api.targets import described_target
from trioder.control.schedules.planning import LOOK_AHEAD_MS, starts_of
from trioder.domain.access import Scope
from trioder.domain.schedules import Occurrence, Overlap, Schedule, ScheduleRefusedError
from trioder.domain.text import preview
from trioder.process.rfc3339 import format_ms
from trioder.process.slices import Steps, run_in_slices
from trioder.schemas.resources import NoQuery
from trioder.schemas.schedules import (
    DEFAULT_OCCURRENCE_ROWS,
    DEFAULT_SCHEDULE_ROWS,
    MAX_OCCURRENCE_ROWS,
    MAX_RANGE_DAYS,
    MAX_SCHEDULE_ROWS,
    OccurrenceRow,
    OccurrencesQuery,
    OverlapRow,
    ScheduleBody,
    ScheduleResponse,
    ScheduleRow,
    SchedulesQuery,
    ScheduleSummary,
    SkipBody,
)
from trioder.store.interface import StoreUnavailableError

CREATE_ACTION, CANCEL_ACTION, SKIP_ACTION = "schedule.create", "schedule.cancel", "schedule.skip"
_DAY_MS = 86_400_000
# The end of the year 9999.
_LAST_MS = 253_402_300_799_999
_NEXT_OCCURRENCES = 10
# Of occurrences and their steps together: about 5 ms of the event loop.
_ROWS_PER_CHUNK = 500
# The cost of finding the next start.
_NEXT_US = 500.0

_body_decoder = msgspec.json.Decoder(ScheduleBody)
_skip_decoder = msgspec.json.Decoder(SkipBody)


def schedules_blueprint(headend: Headend, indexes: FleetIndexes, access: AccessControl) -> Blueprint:
    """Return the routes of schedules."""
    blueprint = Blueprint("schedules", __name__)
    _add_commands(blueprint, headend, indexes, access)
    _add_queries(blueprint, headend, indexes)
    return blueprint


def _add_commands(
    blueprint: Blueprint, headend: Headend, indexes: FleetIndexes, access: AccessControl
) -> None:
    schedules, requests = headend.schedules, ScheduleRequests(headend, indexes)

    @blueprint.post("/schedules")
    @documented(
        ScheduleResponse,
        role="operator",
        body=ScheduleBody,
        status=201,
        errors=(404, 408, 409, 413, 415, 503),
    )
    async def create_schedule() -> TrioResponse:
        """Dispatch by the clock, once or by a rule. With an Idempotency-Key it can be repeated safely."""
        access.check_dispatch_rate()
        checked_query(NoQuery)
        body: ScheduleBody | None = None
        try:
            body = await read_json_body(_body_decoder)
            schedule, overlaps = await requests.create(body)
        except ApiError as error:
            if body is None or not body.dry_run:
                target = "" if body is None else described_target(body)
                access.record(CREATE_ACTION, target=target, outcome="failed", reason=error.message)
            raise
        if not body.dry_run:
            access.record(CREATE_ACTION, target=schedule.schedule_id, tenant=schedule.tenant)
        starts = _next_starts(headend, schedule)
        response = schedule_response(
            schedule,
            starts[0] if starts else None,
            starts,
            [_overlap_row(one, schedule, headend, indexes.of_request().scope) for one in overlaps],
            dry_run=body.dry_run,
        )
        return json_response(response, status=201)

    @blueprint.delete("/schedules/<schedule_id>")
    @documented(ScheduleRow, role="operator", errors=(404, 503))
    async def cancel_schedule(schedule_id: str) -> TrioResponse:
        """Cancel a schedule; an occurrence that runs ends at 0 MW. Cancelling it again is safe."""
        checked_query(NoQuery)
        scope = indexes.of_request().scope
        try:
            found = _find(headend, schedule_id, scope)
            schedule = await schedules.cancel(found.schedule_id, requested_by=principal().name, scope=scope)
        except ApiError as error:
            access.record(CANCEL_ACTION, target=preview(schedule_id), outcome="failed", reason=error.message)
            raise
        access.record(CANCEL_ACTION, target=schedule.schedule_id, tenant=schedule.tenant)
        return json_response(_row(headend, schedule))

    @blueprint.post("/schedules/<schedule_id>/skip")
    @documented(OccurrenceRow, role="operator", body=SkipBody, errors=(404, 408, 413, 415, 503))
    async def skip_occurrence(schedule_id: str) -> TrioResponse:
        """Skip one occurrence that has not begun. Skipping it again is safe."""
        checked_query(NoQuery)
        scope = indexes.of_request().scope
        try:
            start_ms = checked_time_ms("start", (await read_json_body(_skip_decoder)).start)
            schedule = _find(headend, schedule_id, scope)
            occurrence = schedules.skip(
                schedule.schedule_id, start_ms, requested_by=principal().name, scope=scope
            )
        except ScheduleRefusedError as refusal:
            access.record(SKIP_ACTION, target=preview(schedule_id), outcome="failed", reason=refusal.message)
            raise refused(refusal) from None
        except ApiError as error:
            access.record(SKIP_ACTION, target=preview(schedule_id), outcome="failed", reason=error.message)
            raise
        target = f"{schedule.schedule_id} at {format_ms(start_ms)}"
        access.record(SKIP_ACTION, target=target, tenant=schedule.tenant)
        return json_response(occurrence_row(occurrence, schedule.timezone))


def _add_queries(blueprint: Blueprint, headend: Headend, indexes: FleetIndexes) -> None:
    schedules = headend.schedules

    @blueprint.get("/schedules")
    @documented(list[ScheduleSummary], role="viewer", query=SchedulesQuery)
    async def list_schedules() -> TrioResponse:
        """List schedules, newest first."""
        query = checked_query(SchedulesQuery)
        active = query_flag(query, "active", default=True) if "active" in query else None
        limit = query_limit(query, highest=MAX_SCHEDULE_ROWS, default=DEFAULT_SCHEDULE_ROWS)
        scope = indexes.of_request().scope
        try:
            found = schedules.newest(limit=limit, active=active, scope=scope)
        except StoreUnavailableError as error:
            raise ApiError(503, f"the schedules are not known now: {error}") from None
        return list_response(await run_in_slices(_summary_steps(headend, found)), lambda row: row)

    @blueprint.get("/schedules/<schedule_id>")
    @documented(ScheduleRow, role="viewer", errors=(404,))
    async def show_schedule(schedule_id: str) -> TrioResponse:
        """Show a schedule, its steps and its next occurrences."""
        checked_query(NoQuery)
        return json_response(_row(headend, _find(headend, schedule_id, indexes.of_request().scope)))

    @blueprint.get("/schedules/<schedule_id>/occurrences")
    @documented(list[OccurrenceRow], role="viewer", query=OccurrencesQuery, errors=(404,))
    async def list_occurrences(schedule_id: str) -> TrioResponse:
        """List the occurrences of a schedule, oldest first, those to come included."""
        query = checked_query(OccurrencesQuery)
        limit = query_limit(query, highest=MAX_OCCURRENCE_ROWS, default=DEFAULT_OCCURRENCE_ROWS)
        after_ms, before_ms = _range_of(query, headend.wall.now_ms())
        scope = indexes.of_request().scope
        schedule = _find(headend, schedule_id, scope)
        try:
            found = await schedules.occurrences(
                schedule.schedule_id, after_ms=after_ms, before_ms=before_ms, limit=limit, scope=scope
            )
        except StoreUnavailableError as error:
            raise ApiError(503, f"the occurrences cannot be read now: {error}") from None
        if sum(1 + len(one.steps) for one in found) <= _ROWS_PER_CHUNK:
            return json_response([occurrence_row(one, schedule.timezone) for one in found])
        return stream_response(list_chunks(_occurrence_parts(found, schedule.timezone)))


def _find(headend: Headend, schedule_id: str, scope: Scope) -> Schedule:
    try:
        return headend.schedules.find(checked_id("schedule_id", schedule_id), scope=scope)
    except ScheduleRefusedError as refusal:
        raise refused(refusal) from None
    except StoreUnavailableError as error:
        raise ApiError(503, f"the schedules are not known now: {error}") from None


def _next_starts(headend: Headend, schedule: Schedule, *, limit: int = _NEXT_OCCURRENCES) -> Sequence[int]:
    """Return the starts of the next occurrences that are not skipped; of a dry run as if it were created."""
    if not schedule.is_active:
        return ()
    now_ms = headend.wall.now_ms()
    skipped = frozenset(schedule.skipped)
    starts = starts_of(
        schedule,
        after_ms=now_ms,
        before_ms=now_ms + LOOK_AHEAD_MS,
        limit=limit + len(skipped),
    )
    return [start_ms for start_ms in starts if start_ms not in skipped][:limit]


def _row(headend: Headend, schedule: Schedule) -> ScheduleRow:
    starts = _next_starts(headend, schedule)
    return schedule_row(schedule, starts[0] if starts else None, starts)


def _summary_steps(headend: Headend, schedules: Sequence[Schedule]) -> Steps[Sequence[ScheduleSummary]]:
    rows = []
    for schedule in schedules:
        rows.append(schedule_summary(schedule, next(iter(_next_starts(headend, schedule, limit=1)), None)))
        yield _NEXT_US
    return rows


def _overlap_row(overlap: Overlap, schedule: Schedule, headend: Headend, scope: Scope) -> OverlapRow:
    other_id: str | None = overlap.schedule_id
    if other_id != schedule.schedule_id:
        try:
            headend.schedules.find(overlap.schedule_id, scope=scope)
        except ScheduleRefusedError:
            other_id = None
    return OverlapRow(
        schedule_id=other_id,
        start=format_ms(overlap.start_ms),
        end=format_ms(overlap.end_ms),
        assets=overlap.assets,
    )


def _range_of(query: Query, now_ms: int) -> tuple[int, int]:
    start_ms, end_ms = query_time_ms(query, "start"), query_time_ms(query, "end")
    if start_ms is None:
        start_ms = now_ms - _DAY_MS if end_ms is None else min(now_ms - _DAY_MS, end_ms - _DAY_MS)
    if end_ms is None:
        end_ms = min(start_ms + 31 * _DAY_MS, _LAST_MS)
    if not start_ms < end_ms <= start_ms + MAX_RANGE_DAYS * _DAY_MS:
        raise ApiError(
            400,
            f"end is {format_ms(end_ms)}; it must be after start, {format_ms(start_ms)}, "
            f"by {MAX_RANGE_DAYS} days at most",
        )
    return start_ms, end_ms


async def _occurrence_parts(
    occurrences: Sequence[Occurrence], timezone: str
) -> AsyncGenerator[Sequence[OccurrenceRow]]:
    rows: list[OccurrenceRow] = []
    size = 0
    for occurrence in occurrences:
        rows.append(occurrence_row(occurrence, timezone))
        size += 1 + len(occurrence.steps)
        if size >= _ROWS_PER_CHUNK:
            yield rows
            rows, size = [], 0
            await trio.lowlevel.checkpoint()
    yield rows
