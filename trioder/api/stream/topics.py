"""The topics whose changes follow from facts: dispatches, schedules, alarms, sessions; each is a class.

The topics `fleet`, `sites` and `telemetry` have no changes to be kept: the newest state replaces others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, Protocol

import msgspec

from trioder.api.alarm_rows import alarm_row
from trioder.api.dispatch_rows import allocation_row, dispatch_row
from trioder.api.schedule_rows import occurrence_row, schedule_summary
from trioder.api.stream.changes import Change, ChangeForgottenError
from trioder.api.stream.view import View
from trioder.control.alarms.register import AlarmRegister
from trioder.control.dispatcher import Dispatcher
from trioder.control.model import Dispatch
from trioder.control.schedules.service import Schedules
from trioder.control.schedules.targets import target_keys
from trioder.domain.fleet import Fleet
from trioder.domain.schedules import Occurrence, Schedule, ScheduleRefusedError, ScheduleTransition
from trioder.events.facts import (
    AlarmChanged,
    DispatchChanged,
    Fact,
    OccurrenceChanged,
    ScheduleChanged,
    SessionClosed,
    SessionOpened,
)
from trioder.gateway.sessions import SessionRegistry
from trioder.process.slices import Steps
from trioder.schemas.stream import (
    MAX_SESSION_ASSETS,
    MAX_SETPOINTS,
    AlarmEvent,
    DispatchEvent,
    ScheduleEvent,
    SessionEvent,
)
from trioder.store.interface import StoreUnavailableError

# Of a dispatch with its setpoints; of an alarm or a session.
_DISPATCH_US = 60.0
_ROW_US = 15.0
# Finding the next start.
_SCHEDULE_US = 500.0
_SESSION_BYTES = 500
_encode = msgspec.json.Encoder().encode


class Topic(Protocol):
    """A topic."""

    facts: tuple[type[Fact], ...]

    def changes(self, facts: Sequence[Any], at: str) -> Steps[list[Change]]:
        """Return what its facts of one tick change, in steps; `at` is the time of the tick."""

    def snapshot(self, view: View, at: str) -> Iterator[bytes]:
        """Yield the JSON of the events that describe what a view shows now."""


class Dispatches:
    """Dispatches, each at most once a tick."""

    facts: tuple[type[Fact], ...] = (DispatchChanged,)

    def __init__(self, fleet: Fleet, dispatcher: Dispatcher) -> None:
        self._asset_ids = fleet.asset_ids
        self._history = dispatcher.history

    def changes(self, facts: Sequence[DispatchChanged], at: str) -> Steps[list[Change]]:
        """See `Topic`."""
        keys_by_id: dict[str, set[int]] = {}
        for fact in facts:
            keys_by_id.setdefault(fact.dispatch_id, set()).update(fact.asset_keys)
        changes = []
        for dispatch_id, keys in keys_by_id.items():
            dispatch = self._history.get(dispatch_id)
            if dispatch is not None:
                data = yield from self._encoded(dispatch, at, keys)
                changes.append(Change("dispatch", len(data), partial(self._data_for, dispatch_id, data)))
            yield _DISPATCH_US
        return changes

    def snapshot(self, view: View, at: str) -> Iterator[bytes]:
        """See `Topic`."""
        for dispatch in self._history:
            if view.shows_dispatch(dispatch):
                # Steps of the sums over its setpoints: a tenth of a microsecond each.
                steps = self._encoded(dispatch, at, None)
                try:
                    while True:
                        next(steps)
                except StopIteration as end:
                    yield end.value

    def _encoded(self, dispatch: Dispatch, at: str, keys: set[int] | None) -> Steps[bytes]:
        record = yield from dispatch.record_steps(self._asset_ids, whole=False)
        setpoints = None
        if keys is not None and len(keys) <= MAX_SETPOINTS:
            known = [key for key in sorted(keys) if key in dispatch.setpoints or key in dispatch.excluded]
            setpoints = [allocation_row(dispatch.allocation_record(self._asset_ids, key)) for key in known]
        row = dispatch_row(record, allocations=False)
        return _encode(DispatchEvent(at=at, dispatch=row, setpoints=setpoints))

    def _data_for(self, dispatch_id: str, data: bytes, view: View) -> bytes | None:
        dispatch = self._history.get(dispatch_id)
        if dispatch is None:
            raise ChangeForgottenError
        return data if view.shows_dispatch(dispatch) else None


class ScheduleChanges:
    """Schedules: created, cancelled, an occurrence skipped; and the states of their occurrences."""

    facts: tuple[type[Fact], ...] = (ScheduleChanged, OccurrenceChanged)

    def __init__(self, fleet: Fleet, schedules: Schedules) -> None:
        self._fleet = fleet
        self._schedules = schedules

    def changes(self, facts: Sequence[ScheduleChanged | OccurrenceChanged], at: str) -> Steps[list[Change]]:
        """See `Topic`."""
        changes = []
        for fact in facts:
            schedule: Schedule | None
            occurrence: Occurrence | None = None
            transition: ScheduleTransition | Literal["occurrence"] = "occurrence"
            if isinstance(fact, ScheduleChanged):
                schedule, transition = fact.schedule, fact.transition
            else:
                occurrence = fact.occurrence
                entry = self._schedules.register.get(occurrence.schedule_id)
                schedule = None if entry is None else entry.schedule
            if schedule is not None:
                keys = frozenset(target_keys(schedule, self._fleet))
                data = self._encoded(schedule, at=at, transition=transition, occurrence=occurrence)
                shows = partial(View.shows_schedule, schedule=schedule, keys=keys)
                changes.append(Change("schedules", len(data) + 64 * len(keys), _shown(data, shows)))
            yield _SCHEDULE_US
        return changes

    def snapshot(self, view: View, at: str) -> Iterator[bytes]:
        """See `Topic`."""
        for entry in self._schedules.register:
            schedule = entry.schedule
            if schedule.is_active and view.shows_schedule(schedule, target_keys(schedule, self._fleet)):
                yield self._encoded(schedule, at=at, transition="active", occurrence=None)

    def _encoded(
        self,
        schedule: Schedule,
        *,
        at: str,
        transition: ScheduleTransition | Literal["active", "occurrence"],
        occurrence: Occurrence | None,
    ) -> bytes:
        next_start_ms = None
        with suppress(ScheduleRefusedError, StoreUnavailableError):
            next_start_ms = self._schedules.next_start_ms(schedule.schedule_id)
        row = None if occurrence is None else occurrence_row(occurrence, schedule.timezone)
        summary = schedule_summary(schedule, next_start_ms)
        return _encode(ScheduleEvent(at=at, transition=transition, schedule=summary, occurrence=row))


class Alarms:
    """Alarms: raised, updated, acknowledged, cleared."""

    facts: tuple[type[Fact], ...] = (AlarmChanged,)

    def __init__(self, register: AlarmRegister) -> None:
        self._register = register

    def changes(self, facts: Sequence[AlarmChanged], at: str) -> Steps[list[Change]]:
        """See `Topic`."""
        changes = []
        for fact in facts:
            event = AlarmEvent(at=at, transition=fact.transition, alarm=alarm_row(fact.alarm))
            data_for = _shown(_encode(event), partial(View.shows_alarm, alarm=fact.alarm))
            changes.append(Change("alarms", 1_000, data_for))
            yield _ROW_US
        return changes

    def snapshot(self, view: View, at: str) -> Iterator[bytes]:
        """See `Topic`."""
        for alarm in self._register.open_alarms():
            if view.shows_alarm(alarm):
                yield _encode(AlarmEvent(at=at, transition="open", alarm=alarm_row(alarm)))


class Sessions:
    """Agents' sessions: opened, closed. Each view is shown those of its assets that they drive."""

    facts: tuple[type[Fact], ...] = (SessionOpened, SessionClosed)

    def __init__(self, fleet: Fleet, sessions: SessionRegistry) -> None:
        self._asset_ids = fleet.asset_ids
        self._sessions = sessions

    def changes(self, facts: Sequence[SessionOpened | SessionClosed], at: str) -> Steps[list[Change]]:
        """See `Topic`."""
        changes = []
        for fact in facts:
            keys = frozenset(fact.asset_keys)
            size = _SESSION_BYTES + 64 * len(keys)
            changes.append(Change("sessions", size, partial(self._fact_for, fact, keys, at)))
            yield _ROW_US
        return changes

    def snapshot(self, view: View, at: str) -> Iterator[bytes]:
        """See `Topic`."""
        for session in self._sessions:
            shown = view.shown(frozenset(session.asset_keys))
            if shown:
                agent = {"session_id": session.session_id, "agent_id": session.agent_id}
                yield self._encoded(shown, at=at, transition="open", peer=session.peer, **agent)

    def _fact_for(
        self, fact: SessionOpened | SessionClosed, keys: frozenset[int], at: str, view: View
    ) -> bytes | None:
        shown = view.shown(keys)
        if not shown:
            return None
        agent = {"session_id": fact.session_id, "agent_id": fact.agent_id}
        if isinstance(fact, SessionOpened):
            return self._encoded(shown, at=at, transition="opened", peer=fact.peer, **agent)
        return self._encoded(shown, at=at, transition="closed", reason=fact.reason, **agent)

    def _encoded(self, shown: Sequence[int], *, peer: str | None = None, **fields: Any) -> bytes:
        listed = len(shown) <= MAX_SESSION_ASSETS
        asset_ids = [self._asset_ids[key] for key in shown] if listed else None
        reason = fields.pop("reason", None)
        return _encode(
            SessionEvent(assets=len(shown), asset_ids=asset_ids, peer=peer, reason=reason, **fields)
        )


def _shown(data: bytes, shows: Callable[[View], bool]) -> Callable[[View], bytes | None]:
    return lambda view: data if shows(view) else None


# Those of a stream that names none, in the order in which a snapshot has them.
CONFLATED = ("fleet", "telemetry")
TOPICS: tuple[str, ...] = (*CONFLATED, "dispatch", "schedules", "alarms", "sessions")
# Sent only where it is asked for: the sums of each site.
SITES = "sites"
ALL_TOPICS: tuple[str, ...] = ("fleet", SITES, *TOPICS[1:])


def topics_of(
    *,
    fleet: Fleet,
    dispatcher: Dispatcher,
    schedules: Schedules,
    alarms: AlarmRegister,
    sessions: SessionRegistry,
) -> Mapping[str, Topic]:
    """Return the topics whose changes follow from facts, by name."""
    return {
        "dispatch": Dispatches(fleet, dispatcher),
        "schedules": ScheduleChanges(fleet, schedules),
        "alarms": Alarms(alarms),
        "sessions": Sessions(fleet, sessions),
    }
