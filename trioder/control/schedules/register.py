"""The schedules, and of each the occurrences that run or were the last to end.

The one place where a schedule or an occurrence changes, is counted, recorded and announced. Synchronous.
What causes the changes is in `service` and `runner`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import structlog

from trioder.domain.schedules import Occurrence, Schedule, ScheduleTransition
from trioder.events.bus import EventBus
from trioder.events.facts import OccurrenceChanged, ScheduleChanged
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store

log = structlog.stdlib.get_logger(__name__)

# Occurrences that have ended are kept in memory, of each schedule; the store has the others.
MAX_ENDED = 100
# Schedules of which no occurrence is to come are kept in memory; the store has the others.
MAX_OVER = 10_000


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """A schedule in memory.

    Attributes:
        schedule: as it is now.
        running: its occurrences that run, by start; their times may overlap.
        ended: the last that have ended, by start.
        examined_ms: each occurrence that started until then is recorded; None before the first.
        upcoming: the next starts, soonest first; None while they are not computed.
        due_ms: when something is due next; 0 when that is to be found out.
    """

    schedule: Schedule
    running: dict[int, Occurrence] = field(default_factory=dict)
    ended: dict[int, Occurrence] = field(default_factory=dict)
    examined_ms: int | None = None
    upcoming: list[int] | None = None
    due_ms: float = 0.0

    @property
    def next_after_ms(self) -> int:
        """Occurrences that start before this are recorded, or were never due."""
        first_ms = self.schedule.first_due_ms
        return first_ms if self.examined_ms is None else max(first_ms, self.examined_ms + 1)

    @property
    def is_over(self) -> bool:
        """Whether no occurrence runs, and none is to come."""
        return not self.running and (not self.schedule.is_active or self.upcoming == [])

    def occurrence(self, start_ms: int) -> Occurrence | None:
        """Return the occurrence with this start, if it is in memory."""
        return self.running.get(start_ms) or self.ended.get(start_ms)

    def keep(self, occurrence: Occurrence) -> None:
        """Replace the occurrence with this start by its newest state."""
        start_ms = occurrence.start_ms
        self.examined_ms = start_ms if self.examined_ms is None else max(self.examined_ms, start_ms)
        if occurrence.is_open:
            self.running[start_ms] = occurrence
            return
        self.running.pop(start_ms, None)
        self.ended[start_ms] = occurrence
        if len(self.ended) > MAX_ENDED:
            del self.ended[min(self.ended)]

    def clock_stepped(self, now_ms: int) -> None:
        """The clock was set to this: if it was ahead, what was missed after it is yet to come."""
        self.upcoming, self.due_ms = None, 0.0
        if self.examined_ms is None or self.examined_ms <= now_ms:
            return
        early = [one.start_ms for one in self.ended.values() if one.state == "missed"]
        for start_ms in early:
            if start_ms > now_ms:
                del self.ended[start_ms]
        self.examined_ms = max((now_ms, *self.running, *self.ended))


class ScheduleRegister:
    """Holds all schedules.

    Attributes:
        outcomes: how many occurrences have ended since the start, by tenant and state.
    """

    def __init__(self, *, store: Store, events: EventBus, wall: WallClock) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._store = store
        self._events = events
        self._wall = wall
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        """How many schedules there are."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """All schedules, oldest first."""
        return iter(tuple(self._entries.values()))

    def get(self, schedule_id: str) -> Entry | None:
        """Return the schedule with this id."""
        return self._entries.get(schedule_id)

    def put_schedule(self, schedule: Schedule, transition: ScheduleTransition) -> None:
        """Add a schedule, or replace it by its newest state; recorded and announced."""
        entry = self._entries.get(schedule.schedule_id)
        if entry is None:
            self._entries[schedule.schedule_id] = Entry(schedule=schedule)
            self._forget_over()
        else:
            entry.schedule = schedule
            entry.due_ms = 0.0
        self._store.record_schedule(schedule)
        if self._events.wants(ScheduleChanged):
            self._events.publish(ScheduleChanged(schedule, transition, self._wall.now_ms()))

    def put_occurrence(self, entry: Entry, occurrence: Occurrence) -> None:
        """Add an occurrence, or replace it by its newest state; recorded and announced."""
        entry.keep(occurrence)
        if not occurrence.is_open:
            self.outcomes[occurrence.tenant, occurrence.state] += 1
        self._store.record_occurrence(occurrence)
        if self._events.wants(OccurrenceChanged):
            self._events.publish(OccurrenceChanged(occurrence, self._wall.now_ms()))

    def _forget_over(self) -> None:
        over = [key for key, entry in self._entries.items() if entry.is_over]
        for key in over[: max(0, len(over) - MAX_OVER)]:
            del self._entries[key]

    def restore(self, schedules: Iterable[Schedule], occurrences: Iterable[Occurrence]) -> None:
        """Add what was recorded before the start."""
        for schedule in schedules:
            self._entries[schedule.schedule_id] = Entry(schedule=schedule)
        for occurrence in occurrences:
            entry = self._entries.get(occurrence.schedule_id)
            if entry is not None:
                entry.keep(occurrence)
