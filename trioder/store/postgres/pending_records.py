"""What waits to be written, one kind of record each: its key in the queue, and the memory that it takes."""

from dataclasses import dataclass, replace

from trioder.domain.access import AuditRecord, IdentityBinding
from trioder.domain.alarms import Alarm, EventRecord
from trioder.domain.dispatch import AllocationOf, AllocationRecord, DispatchRecord
from trioder.domain.schedules import Occurrence, Schedule
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.store.records import SessionRecord

_RECORD_BYTES = 1_000
_KEY_BYTES = 64
# An id as text.
_ID_BYTES = 90
_SHARE_BYTES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSession:
    """A session to be written; a later record of the same session replaces it."""

    session: SessionRecord
    disconnected_ms: int | None = None
    reason: str | None = None

    @property
    def key(self) -> str:
        """The session's id."""
        return self.session.session_id

    @property
    def size(self) -> int:
        """Memory used, in bytes."""
        return _RECORD_BYTES + 4 * len(self.session.asset_keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingDispatch:
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
    def is_whole(self) -> bool:
        """Whether every share is to be written: nothing is in the database alone."""
        return len(self.changed) == self._assets

    @property
    def size(self) -> int:
        """Memory used, or kept from being freed, in bytes."""
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
class PendingAudit:
    """An audit record to be written.

    Attributes:
        key: a UUID, so that one written twice is recorded once.
    """

    record: AuditRecord
    key: str

    @property
    def size(self) -> int:
        """Memory used, in bytes."""
        record = self.record
        return _RECORD_BYTES + len(record.principal) + len(record.target) + len(record.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingBinding:
    """The binding of an agent_id or an outbox to be written."""

    binding: IdentityBinding

    @property
    def key(self) -> str:
        """The claim and its value: no UUID, as the other keys are."""
        return f"{self.binding.claim} {self.binding.value}"

    @property
    def size(self) -> int:
        """Memory used, in bytes."""
        return _RECORD_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSiteLimits:
    """Limits of a site to be written; a later record of the same site replaces it.

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
    def size(self) -> int:
        """Memory used, in bytes."""
        return _RECORD_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAlarm:
    """The newest state of an alarm to be written."""

    alarm: Alarm

    @property
    def key(self) -> str:
        """The alarm's id: no bare UUID, as the other keys are."""
        return f"alarm {self.alarm.alarm_id}"

    @property
    def size(self) -> int:
        """Memory used, in bytes."""
        alarm = self.alarm
        return _RECORD_BYTES + _ID_BYTES * (len(alarm.asset_ids or ()) + len(alarm.site_ids or ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingEvent:
    """An event to be written.

    Attributes:
        key: a UUID, so that one written twice is recorded once.
    """

    event: EventRecord
    key: str

    @property
    def size(self) -> int:
        """Memory used, in bytes."""
        return _RECORD_BYTES + len(self.event.message) + _ID_BYTES * len(self.event.site_ids or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSchedule:
    """The newest state of a schedule to be written."""

    schedule: Schedule

    @property
    def key(self) -> str:
        """The schedule's id: no bare UUID, as the other keys are."""
        return f"schedule {self.schedule.schedule_id}"

    @property
    def size(self) -> int:
        """Memory used, in bytes."""
        schedule = self.schedule
        ids = len(schedule.asset_ids) + len(schedule.site_ids or ()) + len(schedule.skipped)
        return _RECORD_BYTES + _ID_BYTES * (ids + len(schedule.steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingOccurrence:
    """The newest state of an occurrence to be written."""

    occurrence: Occurrence

    @property
    def key(self) -> str:
        """The schedule's id and the start."""
        return f"occurrence {self.occurrence.schedule_id} {self.occurrence.start_ms}"

    @property
    def size(self) -> int:
        """Memory used, in bytes."""
        return _RECORD_BYTES + 2 * _ID_BYTES * len(self.occurrence.steps)


PendingRecord = (
    PendingSession
    | PendingDispatch
    | PendingAudit
    | PendingBinding
    | PendingSiteLimits
    | PendingAlarm
    | PendingEvent
    | PendingSchedule
    | PendingOccurrence
)
