"""Creates, cancels and lists schedules and skips occurrences: what REST calls, as `Headend.schedules`."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from uuid import UUID

import structlog
import trio

from trioder.control.dispatcher import Dispatcher
from trioder.control.schedules.checks import check_powers, check_request
from trioder.control.schedules.overlaps import HORIZON_MS, MAX_STARTS, find_overlaps
from trioder.control.schedules.planning import LOOK_AHEAD_MS, starts_of
from trioder.control.schedules.register import Entry, ScheduleRegister
from trioder.control.schedules.runner import ScheduleRunner
from trioder.control.schedules.step_starter import StepStarter
from trioder.control.schedules.targets import target_keys
from trioder.domain.access import EVERYTHING, Scope
from trioder.domain.alarms import lies_within
from trioder.domain.fleet import Fleet
from trioder.domain.schedules import (
    Occurrence,
    Overlap,
    Schedule,
    ScheduleRefusedError,
    ScheduleRequest,
    occurrence_of,
)
from trioder.events.bus import EventBus
from trioder.process.rfc3339 import format_ms
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store, StoreUnavailableError

log = structlog.stdlib.get_logger(__name__)

# Of those with occurrences to come.
MAX_SCHEDULES = 10_000


class Schedules:
    """All schedules. Until they are read from the store, everything raises `StoreUnavailableError`.

    Attributes:
        register: the schedules and their occurrences.
        runner: begins and ends occurrences while its `run` does.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        dispatcher: Dispatcher,
        store: Store,
        events: EventBus,
        wall: WallClock,
        rng: random.Random,
    ) -> None:
        self.register = ScheduleRegister(store=store, events=events, wall=wall)
        self._starter = StepStarter(
            register=self.register, dispatcher=dispatcher, fleet=fleet, store=store, wall=wall
        )
        self.runner = ScheduleRunner(register=self.register, starter=self._starter, store=store, wall=wall)
        self._fleet = fleet
        self._store = store
        self._wall = wall
        self._rng = rng

    async def create(
        self, request: ScheduleRequest, *, schedule_id: str | None = None, dry_run: bool = False
    ) -> tuple[Schedule, Sequence[Overlap]]:
        """Create a schedule; its first occurrence begins at once if it is due.

        *Cancellation*: nothing was created.

        Args:
            request: what is asked.
            schedule_id: a UUID that no schedule has; None for any.
            dry_run: check it and find its overlaps only; nothing is created.

        Raises:
            ScheduleRefusedError: `not_found` when no asset of the target is in the fleet, else `bad_request`.
            StoreUnavailableError: the schedules from before the start are not known yet.
        """
        self._check_loaded()
        check_request(request)
        keys = target_keys(request, self._fleet)
        _check_target(request, keys)
        if request.target.kind == "asset":
            check_powers(request, self._fleet.assets[keys[0]])
        active = [entry.schedule for entry in self.register if not entry.is_over]
        if len(active) >= MAX_SCHEDULES:
            raise ScheduleRefusedError(
                "bad_request",
                f"there are {len(active)} schedules with occurrences to come; the limit is {MAX_SCHEDULES}",
            )
        values = {name: getattr(request, name) for name in ScheduleRequest.__dataclass_fields__}
        schedule_id = schedule_id or str(UUID(int=self._rng.getrandbits(128), version=4))
        schedule = Schedule(**values, schedule_id=schedule_id, created_ms=self._wall.now_ms())
        self._check_is_due(schedule)
        overlaps = await self.overlaps(schedule)
        if dry_run:
            return schedule, overlaps
        self.register.put_schedule(schedule, "created")
        log.info(
            "schedule created",
            schedule_id=schedule.schedule_id,
            target=schedule.target.kind,
            target_id=schedule.target.id or None,
            assets=len(keys),
            start=schedule.start.isoformat(),
            timezone=schedule.timezone,
            recurrence=schedule.recurrence,
            steps=len(schedule.steps),
            overlaps=len(overlaps),
            requested_by=schedule.requested_by,
        )
        if self._store.health == "disabled":
            log.warning(
                "a schedule is kept in memory only: there is no database", schedule_id=schedule.schedule_id
            )
        self.runner.wake()
        return schedule, overlaps

    async def overlaps(self, schedule: Schedule) -> Sequence[Overlap]:
        """Return the first overlap with each other schedule, and with itself, from now on."""
        now_ms = self._wall.now_ms()
        others = [entry.schedule for entry in self.register if not entry.is_over]
        return await find_overlaps(
            schedule,
            target_keys(schedule, self._fleet),
            [other for other in others if other.schedule_id != schedule.schedule_id],
            keys_of=lambda other: target_keys(other, self._fleet),
            starts_of=lambda other: starts_of(
                other,
                after_ms=now_ms - other.duration_s * 1000,
                before_ms=now_ms + HORIZON_MS,
                limit=MAX_STARTS,
            ),
        )

    async def cancel(self, schedule_id: str, *, requested_by: str, scope: Scope = EVERYTHING) -> Schedule:
        """Cancel a schedule: none of its occurrences begins, and those that run end at 0 MW.

        One that is cancelled already stays so. *Cancellation*: it is finished first, in bounded time.

        Raises:
            ScheduleRefusedError: `not_found` when there is none within the scope.
            StoreUnavailableError: as `create`.
        """
        entry = self._entry(schedule_id, scope)
        if entry.schedule.is_active:
            now_ms = self._wall.now_ms()
            self.register.put_schedule(
                replace(entry.schedule, cancelled_ms=now_ms, cancelled_by=requested_by), "cancelled"
            )
            log.info("schedule cancelled", schedule_id=schedule_id, requested_by=requested_by)
            with trio.CancelScope(shield=True):
                for occurrence in tuple(entry.running.values()):
                    await self._starter.cancel(entry, occurrence, requested_by=requested_by)
            self.runner.wake()
        await trio.lowlevel.checkpoint()
        return entry.schedule

    def skip(
        self, schedule_id: str, start_ms: int, *, requested_by: str, scope: Scope = EVERYTHING
    ) -> Occurrence:
        """Skip one occurrence that has not begun; one that is skipped already stays so.

        Raises:
            ScheduleRefusedError: `not_found` when there is no such schedule within the scope, or no
                occurrence with this start; `bad_request` when it has begun, or is over.
            StoreUnavailableError: as `create`.
        """
        entry = self._entry(schedule_id, scope)
        schedule = entry.schedule
        present = entry.occurrence(start_ms)
        if present is not None and present.state != "skipped":
            raise ScheduleRefusedError(
                "bad_request",
                f"the occurrence of {format_ms(start_ms)} is {present.state}; only a pending one is skipped",
            )
        if not schedule.is_active:
            raise ScheduleRefusedError("bad_request", f"schedule {schedule_id} is cancelled")
        if present is None and not self._has_start(schedule, start_ms):
            raise ScheduleRefusedError(
                "not_found", f"schedule {schedule_id} has no occurrence that starts at {format_ms(start_ms)}"
            )
        if present is None and start_ms < entry.next_after_ms:
            raise ScheduleRefusedError("bad_request", f"the occurrence of {format_ms(start_ms)} is over")
        if present is None and start_ms not in schedule.skipped:
            # What was skipped before and is over by now has its own record.
            upcoming = [one for one in schedule.skipped if one >= entry.next_after_ms]
            self.register.put_schedule(replace(schedule, skipped=sorted((*upcoming, start_ms))), "skipped")
            log.info(
                "occurrence of a schedule to be skipped",
                schedule_id=schedule_id,
                start=format_ms(start_ms),
                requested_by=requested_by,
            )
            self.runner.wake()
        return present or replace(occurrence_of(schedule, start_ms), state="skipped")

    def find(self, schedule_id: str, *, scope: Scope = EVERYTHING) -> Schedule:
        """Return a schedule.

        Raises:
            ScheduleRefusedError: `not_found` when there is none within the scope.
            StoreUnavailableError: as `create`.
        """
        return self._entry(schedule_id, scope).schedule

    def newest(
        self, *, limit: int, active: bool | None = None, scope: Scope = EVERYTHING
    ) -> Sequence[Schedule]:
        """Return the newest `limit` schedules, newest first; only those that are active, or not, if given.

        Raises:
            StoreUnavailableError: as `create`.
        """
        self._check_loaded()
        schedules = [entry.schedule for entry in self.register if _is_within(entry.schedule, scope)]
        found = (one for one in reversed(schedules) if active in {None, one.is_active})
        return list(islice(found, limit))

    def next_start_ms(self, schedule_id: str, *, scope: Scope = EVERYTHING) -> int | None:
        """Return when the next occurrence that is not skipped begins; None without one.

        Raises:
            ScheduleRefusedError: as `find`.
            StoreUnavailableError: as `create`.
        """
        entry = self._entry(schedule_id, scope)
        if not entry.schedule.is_active:
            return None
        skipped = entry.schedule.skipped
        starts = starts_of(
            entry.schedule,
            after_ms=entry.next_after_ms,
            before_ms=self._wall.now_ms() + LOOK_AHEAD_MS,
            limit=len(skipped) + 1,
        )
        return next((start_ms for start_ms in starts if start_ms not in skipped), None)

    async def occurrences(
        self, schedule_id: str, *, after_ms: int, before_ms: int, limit: int, scope: Scope = EVERYTHING
    ) -> Sequence[Occurrence]:
        """Return the occurrences that start in [after_ms, before_ms), oldest first, those to come included.

        Raises:
            ScheduleRefusedError: as `find`.
            StoreUnavailableError: as `create`; or the database does not answer.
        """
        entry = self._entry(schedule_id, scope)
        recorded = await self._store.occurrences(
            schedule_id, after_ms=after_ms, before_ms=before_ms, limit=limit, scope=scope
        )
        found = {one.start_ms: one for one in recorded}
        # What is in memory is newer: it may wait to be written.
        in_memory = (*entry.ended.values(), *entry.running.values())
        found.update((one.start_ms, one) for one in in_memory if after_ms <= one.start_ms < before_ms)
        schedule = entry.schedule
        if schedule.is_active:
            from_ms = max(after_ms, entry.next_after_ms)
            for start_ms in starts_of(schedule, after_ms=from_ms, before_ms=before_ms, limit=limit):
                occurrence = occurrence_of(schedule, start_ms)
                is_skipped = start_ms in schedule.skipped
                found[start_ms] = replace(occurrence, state="skipped") if is_skipped else occurrence
        return [found[start_ms] for start_ms in sorted(found)][:limit]

    def _entry(self, schedule_id: str, scope: Scope) -> Entry:
        self._check_loaded()
        entry = self.register.get(schedule_id)
        if entry is None or not _is_within(entry.schedule, scope):
            raise ScheduleRefusedError("not_found", f"there is no schedule {schedule_id}")
        return entry

    def _check_loaded(self) -> None:
        if not self.runner.is_loaded:
            raise StoreUnavailableError("the schedules have not been read from the database yet")

    def _check_is_due(self, schedule: Schedule) -> None:
        """Check the time zone and the recurrence, and that there is an occurrence to come."""
        now_ms = self._wall.now_ms()
        try:
            starts = starts_of(
                schedule, after_ms=schedule.first_due_ms, before_ms=now_ms + LOOK_AHEAD_MS, limit=1
            )
        except ValueError as error:
            raise ScheduleRefusedError("bad_request", str(error)) from None
        if not starts:
            raise ScheduleRefusedError(
                "bad_request",
                f"start is {schedule.start.isoformat()} {schedule.timezone}; no occurrence starts after now, "
                f"{format_ms(now_ms)}, within ten years",
            )

    def _has_start(self, schedule: Schedule, start_ms: int) -> bool:
        return bool(starts_of(schedule, after_ms=start_ms, before_ms=start_ms + 1, limit=1))


def _is_within(schedule: Schedule, scope: Scope) -> bool:
    site_ids = None if schedule.site_ids is None else tuple(schedule.site_ids)
    return lies_within(scope, tenant=schedule.tenant, site_ids=site_ids)


def _check_target(request: ScheduleRequest, keys: Sequence[int]) -> None:
    if keys:
        return
    target = request.target
    match target.kind:
        case "asset":
            message = f"there is no asset {target.id} in the fleet"
        case "site":
            message = f"there is no site {target.id} with an asset in the fleet"
        case "assets":
            message = "none of the assets is in the fleet"
        case _:
            message = "the fleet has no assets"
    raise ScheduleRefusedError("not_found", message)
