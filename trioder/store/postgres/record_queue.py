"""Records waiting to be written: the newest state of each session and dispatch wins. Synchronous, bounded.

Never dropped are the end of a session that the database has open, an open dispatch or alarm, a binding,
limits of a site, and schedules with their occurrences. There are no more of these than sessions open when the
database went away, than the others in memory, and than occurrences that were due meanwhile.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple
from uuid import uuid4

from trioder.domain.access import ALL_TENANTS, AuditRecord, IdentityBinding
from trioder.domain.alarms import Alarm, EventRecord
from trioder.domain.dispatch import AllocationOf, DispatchRecord
from trioder.domain.schedules import Occurrence, Schedule
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.store.postgres.pending_records import (
    PendingAlarm,
    PendingAudit,
    PendingBinding,
    PendingDispatch,
    PendingEvent,
    PendingOccurrence,
    PendingRecord,
    PendingSchedule,
    PendingSession,
    PendingSiteLimits,
)
from trioder.store.records import SessionRecord

# Written in one transaction, unless a single dispatch has more.
_SHARES_PER_GROUP = 20_000


class Dropped(NamedTuple):
    """What was dropped for lack of room.

    Attributes:
        records: sessions, dispatches and cleared alarms.
        shares: of dispatches that stay otherwise.
        audit_records: of the audit.
        events: of agents and alarms.
    """

    records: int = 0
    shares: int = 0
    audit_records: int = 0
    events: int = 0


class RecordQueue:
    """One pending record per session, dispatch, binding and alarm, and all audit records and events in order.

    When full, these are dropped, oldest first: events; audit records of refusals, which strangers can cause;
    sessions opened and closed while unwritten; cleared alarms; the shares of ended dispatches, except the
    newest; then such dispatches themselves; other audit records.

    Args:
        max_bytes: the bound.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._pending: dict[str, PendingRecord] = {}
        # Returned by the last `first`, and not known to be written.
        self._in_flight: dict[str, PendingRecord] = {}
        self._open_sessions: dict[str, SessionRecord] = {}
        # The open sessions that the database has.
        self._written: set[str] = set()

    def __len__(self) -> int:
        """The number of records waiting."""
        return len(self._pending)

    def open_session(self, session: SessionRecord) -> Dropped:
        """Add a session; return what was dropped for it."""
        self._open_sessions[session.session_id] = session
        return self._put(PendingSession(session=session))

    def close_session(self, session_id: str, *, disconnected_ms: int, reason: str) -> Dropped:
        """Add the end of a session; return what was dropped for it."""
        session = self._open_sessions.pop(session_id, None)
        if session is None:
            return Dropped()
        return self._put(PendingSession(session=session, disconnected_ms=disconnected_ms, reason=reason))

    def record_dispatch(
        self, dispatch: DispatchRecord, *, changed: Collection[int], share_of: AllocationOf
    ) -> Dropped:
        """Add a dispatch in its present state; return what was dropped for it."""
        key = dispatch.dispatch_id
        record = PendingDispatch(dispatch=dispatch, changed=frozenset(changed), share_of=share_of)
        previous = self._pending.get(key)
        # What is being written now is written again only if that fails.
        if isinstance(previous, PendingDispatch) and self._in_flight.get(key) is not previous:
            record = previous.merged_with(record)
        return self._put(record)

    def record_audit(self, record: AuditRecord) -> Dropped:
        """Add an audit record; return what was dropped for it."""
        return self._put(PendingAudit(record=record, key=str(uuid4())))

    def record_binding(self, binding: IdentityBinding) -> Dropped:
        """Add a binding, unless one of the same claim and value waits; return what was dropped for it."""
        record = PendingBinding(binding=binding)
        return Dropped() if record.key in self._pending else self._put(record)

    def record_site_limits(self, site_id: str, record: SiteLimitsRecord | None) -> Dropped:
        """Add the limits of a site, or their removal; return what was dropped for it."""
        return self._put(PendingSiteLimits(site_id=site_id, record=record))

    def record_alarm(self, alarm: Alarm) -> Dropped:
        """Add an alarm in its present state; return what was dropped for it."""
        return self._put(PendingAlarm(alarm=alarm))

    def record_event(self, event: EventRecord) -> Dropped:
        """Add an event; return what was dropped for it."""
        return self._put(PendingEvent(event=event, key=str(uuid4())))

    def record_schedule(self, schedule: Schedule) -> Dropped:
        """Add a schedule in its present state; return what was dropped for it."""
        return self._put(PendingSchedule(schedule=schedule))

    def record_occurrence(self, occurrence: Occurrence) -> Dropped:
        """Add an occurrence in its present state; return what was dropped for it."""
        return self._put(PendingOccurrence(occurrence=occurrence))

    def has_occurrence(self, occurrence: Occurrence) -> bool:
        """Whether a state of this occurrence waits."""
        return PendingOccurrence(occurrence=occurrence).key in self._pending

    def find_dispatch(
        self, *, dispatch_id: str | None, idempotency_key: str | None, tenant: str = ALL_TENANTS
    ) -> PendingDispatch | None:
        """Return the pending record of the tenant's dispatch with this id, or this idempotency key."""

        def is_tenants(record: PendingRecord | None) -> bool:
            return isinstance(record, PendingDispatch) and tenant in {ALL_TENANTS, record.dispatch.tenant}

        if dispatch_id is not None and is_tenants(self._pending.get(dispatch_id)):
            return self._unwritten_dispatch(dispatch_id)
        if idempotency_key is not None:
            for key, record in self._pending.items():
                if (
                    isinstance(record, PendingDispatch)
                    and record.dispatch.idempotency_key == idempotency_key
                    and is_tenants(record)
                ):
                    return self._unwritten_dispatch(key)
        return None

    def first(self, count: int) -> list[PendingRecord]:
        """Return the oldest records without removing them; those returned before were not written."""
        for key in self._in_flight.keys() & self._pending.keys():
            unwritten = self._unwritten_dispatch(key)
            if unwritten is not None:
                self._replace(unwritten)
        self._in_flight = {}
        shares = 0
        for key, record in self._pending.items():
            shares += len(record.changed) if isinstance(record, PendingDispatch) else 0
            if self._in_flight and (len(self._in_flight) == count or shares > _SHARES_PER_GROUP):
                break
            self._in_flight[key] = record
        return list(self._in_flight.values())

    def remove_written(self, records: Sequence[PendingRecord]) -> None:
        """Remove records that are written, or never will be; one that has changed meanwhile stays."""
        for record in records:
            key = record.key
            if isinstance(record, PendingSession):
                if key in self._open_sessions or record.disconnected_ms is None:
                    # If it was closed while its opening was written, its end waits and must be written.
                    self._written.add(key)
                else:
                    self._written.discard(key)
            self._in_flight.pop(key, None)
            if self._pending.get(key) is record:
                self._remove(key)

    def _unwritten_dispatch(self, key: str) -> PendingDispatch | None:
        """A dispatch's record merged with the one in flight, which may never be written."""
        record, in_flight = self._pending[key], self._in_flight.get(key)
        if not isinstance(record, PendingDispatch):
            return None
        return in_flight.merged_with(record) if isinstance(in_flight, PendingDispatch) else record

    def _put(self, record: PendingRecord) -> Dropped:
        if record.key in self._pending:
            # It keeps its place: what changes all the time must be written, too.
            self._replace(record)
        else:
            self._size += record.size
            self._pending[record.key] = record
        return Dropped() if self._size <= self._max_bytes else self._free_memory()

    def _free_memory(self) -> Dropped:
        # A quarter at a time: this search is too slow for every record.
        goal = self._max_bytes * 3 // 4
        # Those in flight are removed soon anyway.
        events = [
            key
            for key, record in self._pending.items()
            if isinstance(record, PendingEvent) and key not in self._in_flight
        ]
        cleared_alarms = [
            key
            for key, record in self._pending.items()
            if isinstance(record, PendingAlarm) and not record.alarm.is_open and key not in self._in_flight
        ]
        audit = [
            record
            for key, record in self._pending.items()
            if isinstance(record, PendingAudit) and key not in self._in_flight
        ]
        refusals = [record.key for record in audit if record.record.outcome == "refused"]
        others = [record.key for record in audit if record.record.outcome != "refused"]
        sessions = [key for key, record in self._pending.items() if self._is_droppable_session(record)]
        # The newest stays.
        ended = [
            record
            for key, record in self._pending.items()
            if isinstance(record, PendingDispatch)
            and not record.dispatch.is_open
            and key not in self._in_flight
        ][:-1]
        dropped_events = self._remove_until(goal, events)
        dropped_audit = self._remove_until(goal, refusals)
        dropped_records = self._remove_until(goal, sessions)
        dropped_records += self._remove_until(goal, cleared_alarms)
        dropped_shares = 0
        for record in ended:
            if self._size <= goal:
                break
            dropped_shares += len(record.changed)
            self._replace(record.without_shares())
        dropped_records += self._remove_until(goal, [record.key for record in ended])
        dropped_audit += self._remove_until(goal, others)
        return Dropped(dropped_records, dropped_shares, dropped_audit, dropped_events)

    def _remove_until(self, goal: int, keys: Iterable[str]) -> int:
        """Remove records in this order until the size is down to `goal`; return how many."""
        removed = 0
        for key in keys:
            if self._size <= goal:
                break
            self._remove(key)
            removed += 1
        return removed

    def _is_droppable_session(self, record: PendingRecord) -> bool:
        return (
            isinstance(record, PendingSession)
            and record.disconnected_ms is not None
            and record.key not in self._written
        )

    def _replace(self, record: PendingRecord) -> None:
        self._size += record.size - self._pending[record.key].size
        self._pending[record.key] = record

    def _remove(self, key: str) -> None:
        self._size -= self._pending.pop(key).size
