"""The kinds of records that wait to be written: what each is keyed by, occupies, and may be dropped for.

A new kind is one class here, its writer in `record_writes.py`, and its method of the store.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import ClassVar, Literal, Self
from uuid import uuid4

from trioder.domain.access import AuditRecord, IdentityBinding
from trioder.domain.alarms import Alarm, EventRecord
from trioder.domain.dispatch import AllocationOf, AllocationRecord, DispatchRecord
from trioder.domain.schedules import Occurrence, Schedule
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.process.rfc3339 import format_ms
from trioder.store.records import SessionRecord

_RECORD_BYTES = 1_000
_KEY_BYTES = 64
# An id as text.
_ID_BYTES = 90
_SHARE_BYTES = 500


class DropOrder(IntEnum):
    """What is dropped first when there is no room."""

    EVENT = 0
    # Strangers can cause them.
    REFUSAL = 1
    # Opened and closed while unwritten.
    ENDED_SESSION = 2
    CLEARED_ALARM = 3
    # First the shares of all, then they themselves.
    ENDED_DISPATCH = 4
    AUDIT = 5


class PendingRecord(ABC):
    """A record to be written; a later one with the same key replaces it.

    Attributes:
        counted_as: the field of `Dropped` that counts it.
    """

    __slots__ = ()
    counted_as: ClassVar[Literal["records", "audit_records", "events"]] = "records"

    @property
    @abstractmethod
    def key(self) -> str:
        """What no other record has, of whatever kind."""

    @property
    @abstractmethod
    def names(self) -> dict[str, str]:
        """What the record is about, for the log."""

    @property
    def drop_order(self) -> DropOrder | None:
        """When it may be dropped; None: never."""
        return None

    @property
    def size(self) -> int:
        """Memory used, or kept from being freed, in bytes."""
        return _RECORD_BYTES

    def merged_with(self, newer: Self) -> Self:
        """Return the one record to be written instead of this one and a newer one."""
        return newer


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSession(PendingRecord):
    """A session to be written."""

    session: SessionRecord
    disconnected_ms: int | None = None
    reason: str | None = None

    @property
    def key(self) -> str:
        """The session's id."""
        return self.session.session_id

    @property
    def names(self) -> dict[str, str]:
        """See `PendingRecord.names`."""
        return {"session_id": self.session.session_id}

    @property
    def drop_order(self) -> DropOrder | None:
        """An ended one; the queue keeps it if the database has it as open."""
        return None if self.disconnected_ms is None else DropOrder.ENDED_SESSION

    @property
    def size(self) -> int:
        """See `PendingRecord.size`."""
        return _RECORD_BYTES + 4 * len(self.session.asset_keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingDispatch(PendingRecord):
    """A dispatch to be written, with what has changed since it was last written.

    Attributes:
        dispatch: without members and left_out.
        changed: the keys of the assets whose share is to be written.
        share_of: returns an asset's present share.
    """

    dispatch: DispatchRecord
    changed: frozenset[int]
    share_of: AllocationOf

    @property
    def key(self) -> str:
        """The dispatch's id."""
        return self.dispatch.dispatch_id

    @property
    def names(self) -> dict[str, str]:
        """See `PendingRecord.names`."""
        return {"dispatch_id": self.dispatch.dispatch_id}

    @property
    def drop_order(self) -> DropOrder | None:
        """Open ones are never dropped: there are no more of them than in memory."""
        return None if self.dispatch.is_open else DropOrder.ENDED_DISPATCH

    @property
    def is_whole(self) -> bool:
        """Whether every share is to be written: nothing is in the database alone."""
        return len(self.changed) == self._assets

    @property
    def size(self) -> int:
        """See `PendingRecord.size`."""
        if self.dispatch.is_open or not self.changed:
            # The headend holds the shares anyway.
            return _RECORD_BYTES + _KEY_BYTES * len(self.changed)
        return _RECORD_BYTES + _KEY_BYTES * len(self.changed) + _SHARE_BYTES * self._assets

    @property
    def _assets(self) -> int:
        return sum(self.dispatch.by_state.values()) + self.dispatch.assets_left_out

    @property
    def shares(self) -> list[AllocationRecord]:
        """The changed shares, in fleet order."""
        return [self.share_of(key) for key in sorted(self.changed)]

    def merged_with(self, newer: "PendingDispatch") -> "PendingDispatch":
        """Return one record of both changes."""
        return replace(newer, changed=self.changed | newer.changed)

    def without_shares(self) -> "PendingDispatch":
        """Return the dispatch's own row alone."""
        return replace(self, changed=frozenset(), share_of=_no_share)


def _no_share(key: int) -> AllocationRecord:
    raise KeyError(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAudit(PendingRecord):
    """An audit record to be written.

    Attributes:
        key: a UUID, so that one written twice is recorded once.
    """

    counted_as = "audit_records"
    record: AuditRecord
    key: str = field(default_factory=lambda: str(uuid4()))

    @property
    def names(self) -> dict[str, str]:
        """See `PendingRecord.names`."""
        return {"audit_action": self.record.action, "principal": self.record.principal}

    @property
    def drop_order(self) -> DropOrder:
        """Those of commands last of all."""
        return DropOrder.REFUSAL if self.record.outcome == "refused" else DropOrder.AUDIT

    @property
    def size(self) -> int:
        """See `PendingRecord.size`."""
        record = self.record
        return _RECORD_BYTES + len(record.principal) + len(record.target) + len(record.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingBinding(PendingRecord):
    """The binding of an agent_id or an outbox to be written."""

    binding: IdentityBinding

    @property
    def key(self) -> str:
        """The claim and its value: no UUID, as the other keys are."""
        return f"{self.binding.claim} {self.binding.value}"

    @property
    def names(self) -> dict[str, str]:
        """See `PendingRecord.names`."""
        binding = self.binding
        return {"claim": binding.claim, "value": binding.value, "identity": binding.identity}

    def merged_with(self, newer: "PendingBinding") -> "PendingBinding":
        """The first one binds."""
        del newer
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSiteLimits(PendingRecord):
    """Limits of a site to be written.

    Attributes:
        record: None removes them.
    """

    site_id: str
    record: SiteLimitsRecord | None

    @property
    def key(self) -> str:
        """The site's id, which no other record has as its key alone."""
        return f"site limits {self.site_id}"

    @property
    def names(self) -> dict[str, str]:
        """See `PendingRecord.names`."""
        return {"limits_of_site_id": self.site_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAlarm(PendingRecord):
    """The newest state of an alarm to be written."""

    alarm: Alarm

    @property
    def key(self) -> str:
        """The alarm's id: no bare UUID, as the other keys are."""
        return f"alarm {self.alarm.alarm_id}"

    @property
    def names(self) -> dict[str, str]:
        """See `PendingRecord.names`."""
        return {"alarm_id": self.alarm.alarm_id, "kind": self.alarm.kind}

    @property
    def drop_order(self) -> DropOrder | None:
        """Open ones are never dropped: there are no more of them than in memory."""
        return None if self.alarm.is_open else DropOrder.CLEARED_ALARM

    @property
    def size(self) -> int:
        """See `PendingRecord.size`."""
        alarm = self.alarm
        return _RECORD_BYTES + _ID_BYTES * (len(alarm.asset_ids or ()) + len(alarm.site_ids or ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingEvent(PendingRecord):
    """An event to be written.

    Attributes:
        key: a UUID, so that one written twice is recorded once.
    """

    counted_as = "events"
    event: EventRecord
    key: str = field(default_factory=lambda: str(uuid4()))

    @property
    def names(self) -> dict[str, str]:
        """See `PendingRecord.names`."""
        return {"event_type": self.event.event_type, "agent_id": self.event.agent_id}

    @property
    def drop_order(self) -> DropOrder:
        """First of all."""
        return DropOrder.EVENT

    @property
    def size(self) -> int:
        """See `PendingRecord.size`."""
        return _RECORD_BYTES + len(self.event.message) + _ID_BYTES * len(self.event.site_ids or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSchedule(PendingRecord):
    """The newest state of a schedule to be written."""

    schedule: Schedule

    @property
    def key(self) -> str:
        """The schedule's id: no bare UUID, as the other keys are."""
        return f"schedule {self.schedule.schedule_id}"

    @property
    def names(self) -> dict[str, str]:
        """See `PendingRecord.names`."""
        return {"schedule_id": self.schedule.schedule_id}

    @property
    def size(self) -> int:
        """See `PendingRecord.size`."""
        schedule = self.schedule
        ids = len(schedule.asset_ids) + len(schedule.site_ids or ()) + len(schedule.skipped)
        return _RECORD_BYTES + _ID_BYTES * (ids + len(schedule.steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingOccurrence(PendingRecord):
    """The newest state of an occurrence to be written."""

    occurrence: Occurrence

    @property
    def key(self) -> str:
        """The schedule's id and the start."""
        return f"occurrence {self.occurrence.schedule_id} {self.occurrence.start_ms}"

    @property
    def names(self) -> dict[str, str]:
        """See `PendingRecord.names`."""
        occurrence = self.occurrence
        return {"schedule_id": occurrence.schedule_id, "start": format_ms(occurrence.start_ms)}

    @property
    def size(self) -> int:
        """See `PendingRecord.size`."""
        return _RECORD_BYTES + 2 * _ID_BYTES * len(self.occurrence.steps)
