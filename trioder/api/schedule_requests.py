"""Converts bodies of `POST /schedules`, and creates a schedule once for an Idempotency-Key."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid5

import msgspec
import trio

from trioder.api.access import principal
from trioder.api.asset_query import FleetIndex, FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.idempotency import key_of_request
from trioder.api.targets import check_one_target, target_steps, tenant_steps
from trioder.domain.alarms import lies_within
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.recurrence import check_start, parse_recurrence
from trioder.domain.schedules import (
    MAX_OCCURRENCE_S,
    MAX_STEPS,
    MISFIRE_S,
    Overlap,
    Schedule,
    ScheduleRefusedError,
    ScheduleRequest,
    ScheduleStep,
)
from trioder.domain.text import preview
from trioder.domain.time_zones import unix_ms_of, wall_of, zone_of
from trioder.process.rfc3339 import parse_ms
from trioder.process.slices import Steps, run_in_slices
from trioder.schemas.schedules import ScheduleBody, StepBody
from trioder.store.interface import StoreUnavailableError

# Schedules that were created under a key have their ids from it: whatever has the schedule has the key.
_KEYS = UUID("6b1f4a52-3f0e-4c5e-9d0b-7f6f0c1f8a35")
_WALL_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d)?", re.ASCII)
# The cost of finding an asset's site.
_SITE_US = 0.2


class CreatedSchedule(NamedTuple):
    """A schedule, and what it overlaps."""

    schedule: Schedule
    overlaps: Sequence[Overlap]


class ScheduleRequests:
    """Creates schedules for callers."""

    def __init__(self, headend: Headend, indexes: FleetIndexes) -> None:
        self._schedules = headend.schedules
        self._indexes = indexes
        # Requests with the same key run one after the other, so that the second finds the first's schedule.
        self._locks: dict[str, trio.Lock] = {}

    async def create(self, body: ScheduleBody) -> CreatedSchedule:
        """Create what the current request's body says, or find what was created under its Idempotency-Key.

        Raises:
            ApiError: 400 or 404: it is refused; 409: the key was used for another schedule; 503: the
                schedules are not known yet. Nothing was created.
        """
        caller = principal()
        key = None if body.dry_run else key_of_request()
        request = await run_in_slices(_request_steps(body, self._indexes.of(caller.scope), caller.name))
        try:
            if key is None:
                return CreatedSchedule(*await self._schedules.create(request, dry_run=body.dry_run))
            schedule_id = str(uuid5(_KEYS, msgspec.json.encode([caller.scope.tenant, key]).decode()))
            async with self._locked(schedule_id):
                present = self._find(schedule_id)
                if present is None:
                    return CreatedSchedule(*await self._schedules.create(request, schedule_id=schedule_id))
        except ScheduleRefusedError as refusal:
            raise refused(refusal) from None
        except StoreUnavailableError as error:
            raise ApiError(503, f"no schedule can be created now: {error}", retry_after_s=5) from None
        if not _is_of(present, request):
            # That schedule may be of sites that this caller does not see.
            sites = None if present.site_ids is None else tuple(present.site_ids)
            is_visible = lies_within(caller.scope, tenant=present.tenant, site_ids=sites)
            named = f", {schedule_id}" if is_visible else ""
            raise ApiError(
                409,
                f"Idempotency-Key {preview(key)} was used for another schedule{named}; "
                "a new schedule takes a new key",
            )
        return CreatedSchedule(present, await self._schedules.overlaps(present))

    def _find(self, schedule_id: str) -> Schedule | None:
        try:
            return self._schedules.find(schedule_id)
        except ScheduleRefusedError:
            return None

    @asynccontextmanager
    async def _locked(self, schedule_id: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(schedule_id, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            # Another request may hold it by now.
            if not lock.locked():
                self._locks.pop(schedule_id, None)


def refused(refusal: ScheduleRefusedError) -> ApiError:
    """Return the error of what the schedules refuse."""
    return ApiError(404 if refusal.code == "not_found" else 400, refusal.message)


def _is_of(schedule: Schedule, request: ScheduleRequest) -> bool:
    """Whether a schedule is what is requested; its assets may have moved to other sites since."""
    names = [
        field.name for field in fields(ScheduleRequest) if field.name not in {"site_ids", "requested_by"}
    ]
    if request.target.kind == "fleet":
        names.append("site_ids")
    return all(_comparable(getattr(schedule, name)) == _comparable(getattr(request, name)) for name in names)


def _comparable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _request_steps(body: ScheduleBody, index: FleetIndex, requested_by: str) -> Steps[ScheduleRequest]:
    """Convert a body in steps: one of the maximum size names 25,000 assets.

    Raises:
        ApiError: 400, or 404 for a target that is not in the fleet.
    """
    check_one_target(body)
    steps = _steps_of(body)
    start, timezone = _start_of(body)
    try:
        recurrence = None if body.recurrence is None else parse_recurrence(body.recurrence)
        check_start(start, timezone, recurrence)
    except ValueError as error:
        raise ApiError(400, str(error)) from None
    target, keys = yield from target_steps(body, index)
    tenant = yield from tenant_steps(target, keys, index)
    yield _SITE_US * len(keys)
    return ScheduleRequest(
        target=target,
        asset_ids=index.ids_of(keys) if target.kind == "assets" else (),
        site_ids=_sites_of(target, keys, index),
        start=start,
        timezone=timezone,
        steps=steps,
        recurrence=recurrence,
        misfire_s=MISFIRE_S if body.misfire_s is None else body.misfire_s,
        strategy=body.strategy if target.kind == "asset" else body.strategy or "headroom",
        tenant=tenant,
        requested_by=requested_by,
    )


def _sites_of(target: DispatchTarget, keys: Sequence[int], index: FleetIndex) -> Sequence[str] | None:
    """Return the sites that a schedule lies within; None for the whole fleet of its tenant."""
    if target.kind == "site":
        return (target.id,)
    if target.kind == "fleet":
        return None if index.scope.site_ids is None else tuple(sorted(site.id for site in index.sites))
    return tuple(sorted(index.site_ids_of(keys)))


def _steps_of(body: ScheduleBody) -> tuple[ScheduleStep, ...]:
    steps = body.steps
    if steps is None:
        if body.mw is None or body.duration_s is None:
            raise ApiError(400, "the body has no steps; it must have steps, or both mw and duration_s")
        steps = [StepBody(duration_s=body.duration_s, mw=body.mw)]
    elif body.mw is not None or body.duration_s is not None:
        raise ApiError(400, "the body has steps, and mw or duration_s; mw and duration_s are for one step")
    if not 1 <= len(steps) <= MAX_STEPS:
        raise ApiError(400, f"steps has {len(steps)} entries; it must have 1 to {MAX_STEPS}")
    for number, step in enumerate(steps):
        if not 1 <= step.duration_s <= MAX_OCCURRENCE_S:
            name = "duration_s" if body.steps is None else f"steps[{number}].duration_s"
            raise ApiError(400, f"{name} is {preview(step.duration_s)}; it must be 1 to {MAX_OCCURRENCE_S} s")
    return tuple(ScheduleStep(duration_s=step.duration_s, mw=step.mw) for step in steps)


def _start_of(body: ScheduleBody) -> tuple[datetime, str]:
    """Return the wall time of the first occurrence, and its time zone."""
    text = body.start
    try:
        zone = zone_of("UTC" if body.timezone is None else body.timezone)
    except ValueError as error:
        raise ApiError(400, str(error)) from None
    try:
        if not _WALL_TIME.fullmatch(text):
            wall = wall_of(parse_ms(text), zone)
        elif body.timezone is None:
            raise ApiError(
                400, f"start is {preview(text)}, without an offset; timezone must name its time zone then"
            )
        else:
            wall = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ApiError(
            400,
            f"start is {preview(text)}; it must be a time such as 2026-03-28T18:00:00 in timezone, or "
            "2026-03-28T18:00:00+01:00",
        ) from None
    if wall.fold and unix_ms_of(wall.replace(fold=1), zone) != unix_ms_of(wall.replace(fold=0), zone):
        raise ApiError(
            400,
            f"start is {preview(text)}, the second {wall.time().isoformat()} of this day in {zone.key}; "
            "an occurrence starts at the first one",
        )
    return wall.replace(fold=0), zone.key
