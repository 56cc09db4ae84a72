"""Waits for what is due of all schedules: starts, the next steps, and the ends of occurrences.

What begins a step is in `step_starter`; what becomes of a start that is due, in `planning`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Never

import structlog
import trio

from trioder.control.schedules.planning import LOOK_AHEAD_MS, LOOK_BACK_MS, due_occurrence, starts_of
from trioder.control.schedules.register import Entry, ScheduleRegister
from trioder.control.schedules.step_starter import StepStarter
from trioder.domain.dispatch import StepTerms
from trioder.domain.schedules import Occurrence, step_at
from trioder.process.rfc3339 import format_ms
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store, StoreUnavailableError

log = structlog.stdlib.get_logger(__name__)

# The wall time is slewed by up to 500 ppm: of a longer wait, the end would be off.
_LONGEST_WAIT_S = 10.0
# What cannot begin yet is tried again.
_RETRY_MS = 500
_LOAD_EVERY_S = 2.0
# After a defect, a schedule is left alone for so long.
_HOLD_OFF_MS = 10_000
# An occurrence begins when it is on record, but waits no longer than this for a database.
_RECORDED_WITHIN_S = 2.0
# Starts computed at a time.
_STARTS = 8


class ScheduleRunner:
    """Runs all schedules.

    Attributes:
        is_loaded: whether what was recorded before the start has been read; nothing begins before.
    """

    def __init__(
        self, *, register: ScheduleRegister, starter: StepStarter, store: Store, wall: WallClock
    ) -> None:
        self.is_loaded = False
        self._register = register
        self._starter = starter
        self._store = store
        self._wall = wall
        self._wakeup = trio.Event()
        self._held_off: dict[Entry, int] = {}

    def wake(self) -> None:
        """A schedule has changed: what is due next may be another."""
        self._wakeup.set()

    def clock_stepped(self, by_ms: int) -> None:
        """The wall clock was set by this."""
        self._starter.clock_stepped(by_ms)
        self._held_off.clear()
        for entry in self._register:
            entry.clock_stepped(self._wall.now_ms())
        self.wake()

    async def load(self) -> Mapping[str, StepTerms]:
        """Read what was recorded before the start; returns the steps that may still run, by dispatch.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        schedules = await self._store.schedules()
        occurrences = await self._store.last_occurrences(now_ms=self._wall.now_ms())
        self._register.restore(schedules, occurrences)
        self.is_loaded = True
        if schedules:
            running = sum(len(entry.running) for entry in self._register)
            log.info("schedules restored", schedules=len(schedules), occurrences_running=running)
        return self._starter.restore()

    async def run(self) -> Never:
        """Begin and end what is due, until cancelled."""
        while not self.is_loaded:
            await trio.sleep(_LOAD_EVERY_S)
            try:
                await self.load()
            except StoreUnavailableError:
                continue
        while True:
            self._wakeup = trio.Event()
            next_ms = await self.run_due()
            wait_s = (next_ms - self._wall.now_ms()) / 1000
            with trio.move_on_after(min(max(0.0, wait_s), _LONGEST_WAIT_S)):
                await self._wakeup.wait()
            # Cancellation and other tasks get their turn even if much is due.
            await trio.lowlevel.checkpoint()

    async def run_due(self) -> float:
        """Do what is due now; returns when something is due next, Unix ms, infinity for never."""
        now_ms = self._wall.now_ms()
        due = [entry for entry in self._register if entry.due_ms <= now_ms]
        begun: list[Occurrence] = []
        for entry in due:
            begun += await self._examine(entry)
            # There may be thousands.
            await trio.lowlevel.checkpoint()
        await self._wait_recorded(begun)
        for entry in due:
            # It may be changed meanwhile, and is due at once then.
            entry.due_ms = math.inf
            next_ms = await self._advance_all(entry)
            entry.due_ms = min(entry.due_ms, next_ms)
            await trio.lowlevel.checkpoint()
        return min((entry.due_ms for entry in self._register), default=math.inf)

    async def _examine(self, entry: Entry) -> list[Occurrence]:
        """Decide on the starts that have come; returns the occurrences that run from now on."""
        begun: list[Occurrence] = []
        now_ms = self._wall.now_ms()
        while (start_ms := self._next_start_ms(entry)) is not None and start_ms <= now_ms:
            self._drop_upcoming(entry)
            occurrence = due_occurrence(entry.schedule, start_ms, now_ms)
            self._register.put_occurrence(entry, occurrence)
            if occurrence.is_open:
                begun.append(occurrence)
            elif occurrence.state == "missed":
                log.warning(
                    "occurrence of a schedule missed",
                    schedule_id=occurrence.schedule_id,
                    start=format_ms(start_ms),
                    reason=occurrence.reason,
                )
            if entry.upcoming is None:
                # After a long absence there may be thousands.
                await trio.lowlevel.checkpoint()
        return begun

    def _next_start_ms(self, entry: Entry) -> int | None:
        """Return the next start that is not decided on; None without one."""
        if not entry.schedule.is_active or self._is_held_off(entry):
            return None
        if entry.upcoming is None:
            now_ms = self._wall.now_ms()
            try:
                entry.upcoming = list(
                    starts_of(
                        entry.schedule,
                        after_ms=max(entry.next_after_ms, now_ms - LOOK_BACK_MS),
                        before_ms=now_ms + LOOK_AHEAD_MS,
                        limit=_STARTS,
                    )
                )
            except Exception:
                # It was valid when it was created; the data of the time zones may have changed.
                log.exception("schedule held off", schedule_id=entry.schedule.schedule_id)
                self._hold_off(entry)
                return None
        return entry.upcoming[0] if entry.upcoming else None

    def _drop_upcoming(self, entry: Entry) -> None:
        # None when the next ones are to be computed; an empty list says that there are none.
        entry.upcoming = (entry.upcoming or [])[1:] or None

    async def _wait_recorded(self, occurrences: Sequence[Occurrence]) -> None:
        """Wait until it is on record that these run, unless the database is away.

        A headend that is killed later finds that they have begun, however late it starts again.
        """
        with trio.move_on_after(_RECORDED_WITHIN_S):
            for occurrence in occurrences:
                if not await self._store.wait_recorded(occurrence):
                    return

    async def _advance_all(self, entry: Entry) -> float:
        """Begin the steps that apply now, and end what is over; returns when something is due next."""
        if self._is_held_off(entry):
            return self._held_off[entry]
        next_ms: float = self._next_start_ms(entry) or math.inf
        try:
            for start_ms in sorted(entry.running):
                next_ms = min(next_ms, await self._advance(entry, start_ms))
        except Exception:
            # The other schedules must go on.
            log.exception("schedule held off", schedule_id=entry.schedule.schedule_id)
            self._hold_off(entry)
        return self._held_off.get(entry, next_ms)

    async def _advance(self, entry: Entry, start_ms: int) -> float:
        occurrence = entry.running.get(start_ms)
        if occurrence is None:
            return math.inf
        if not entry.schedule.is_active:
            # It was cancelled just before the headend ended.
            await self._starter.cancel(entry, occurrence, requested_by=entry.schedule.cancelled_by)
            return math.inf
        now_ms = self._wall.now_ms()
        if now_ms >= occurrence.end_ms:
            return math.inf if await self._starter.finish(entry, start_ms) else now_ms + _RETRY_MS
        step = step_at(entry.schedule, start_ms, now_ms)
        if step is None:
            # The clock was set back.
            return start_ms
        number, begins_ms, ends_ms = step
        if self._starter.is_settled(occurrence, number):
            return ends_ms
        begun = await self._starter.begin(entry, start_ms, number, begins_ms=begins_ms, ends_ms=ends_ms)
        return ends_ms if begun else now_ms + _RETRY_MS

    def _is_held_off(self, entry: Entry) -> bool:
        until_ms = self._held_off.get(entry)
        if until_ms is None:
            return False
        if self._wall.now_ms() < until_ms:
            return True
        del self._held_off[entry]
        return False

    def _hold_off(self, entry: Entry) -> None:
        """Leave a schedule alone for a while: it has raised an exception."""
        self._held_off[entry] = self._wall.now_ms() + _HOLD_OFF_MS
