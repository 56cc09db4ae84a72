"""The audit, the bindings, alarms, events and limits of sites, as the models of the database keep them."""

from collections.abc import Sequence

from trioder.domain.access import ALL_TENANTS, AuditRecord, IdentityBinding, PastAuditRecord, Scope
from trioder.domain.alarms import Alarm, AlarmFilter, EventFilter, EventRecord, PastEvent
from trioder.domain.schedules import Occurrence, Schedule
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.store.postgres.pending_records import (
    PendingAlarm,
    PendingAudit,
    PendingBinding,
    PendingEvent,
    PendingOccurrence,
    PendingRecord,
    PendingSchedule,
    PendingSiteLimits,
)


class ModelAudit:
    """What is written twice is there once; alarms change, and limits of sites are changed and removed."""

    def __init__(self) -> None:
        self.records: dict[str, AuditRecord] = {}
        self.bindings: dict[tuple[str, str], IdentityBinding] = {}
        self.site_limits: dict[str, SiteLimitsRecord] = {}
        self.alarms: dict[str, Alarm] = {}
        self.events: dict[str, EventRecord] = {}
        self.schedules: dict[str, Schedule] = {}
        self.occurrences: dict[tuple[str, int], Occurrence] = {}

    def keep(self, record: PendingRecord) -> None:
        if isinstance(record, PendingSiteLimits):
            self.site_limits.pop(record.site_id, None)
            if record.record is not None:
                self.site_limits[record.site_id] = record.record
        elif isinstance(record, PendingAudit):
            self.records.setdefault(record.key, record.record)
        elif isinstance(record, PendingAlarm):
            self.alarms[record.alarm.alarm_id] = record.alarm
        elif isinstance(record, PendingEvent):
            self.events.setdefault(record.key, record.event)
        elif isinstance(record, PendingSchedule):
            self.schedules[record.schedule.schedule_id] = record.schedule
        elif isinstance(record, PendingOccurrence):
            occurrence = record.occurrence
            self.occurrences[occurrence.schedule_id, occurrence.start_ms] = occurrence
        elif isinstance(record, PendingBinding):
            self.bindings.setdefault((record.binding.claim, record.binding.value), record.binding)

    def newest(
        self, *, limit: int, before: int | None, principal: str | None, scope: Scope
    ) -> Sequence[PastAuditRecord]:
        found = [
            PastAuditRecord(number=number, record=record)
            for number, record in enumerate(self.records.values(), start=1)
            if (before is None or number < before)
            and (principal is None or record.principal == principal)
            and scope.tenant in {ALL_TENANTS, record.tenant}
        ]
        return found[::-1][:limit]

    def last_occurrences(self, *, now_ms: int) -> Sequence[Occurrence]:
        newest: dict[str, Occurrence] = {}
        for _, occurrence in sorted(self.occurrences.items()):
            if occurrence.state != "missed" or occurrence.start_ms <= now_ms:
                newest[occurrence.schedule_id] = occurrence
        running = [one for one in self.occurrences.values() if one.state == "running"]
        return [*running, *(one for one in newest.values() if one.state != "running")]

    def occurrences_of(
        self, schedule_id: str, *, after_ms: int, before_ms: int, limit: int
    ) -> Sequence[Occurrence]:
        found = [
            occurrence
            for key, occurrence in sorted(self.occurrences.items())
            if key[0] == schedule_id and after_ms <= occurrence.start_ms < before_ms
        ]
        return found[:limit]

    def newest_alarms(self, which: AlarmFilter, *, limit: int) -> Sequence[Alarm]:
        found = sorted(filter(which.matches, self.alarms.values()), key=lambda alarm: alarm.order)
        return found[::-1][:limit]

    def newest_events(self, which: EventFilter, *, limit: int) -> Sequence[PastEvent]:
        past = [PastEvent(number=n, event=event) for n, event in enumerate(self.events.values(), start=1)]
        return list(filter(which.matches, past))[::-1][:limit]
