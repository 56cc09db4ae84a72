"""The store without a database: a batch counts as committed once the headend has it."""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

from trioder.domain.access import (
    ALL_TENANTS,
    EVERYTHING,
    AuditRecord,
    IdentityBinding,
    PastAuditRecord,
    Scope,
)
from trioder.domain.alarms import Alarm, EventFilter, EventRecord, PastEvent
from trioder.domain.assets import Asset
from trioder.domain.dispatch import AllocationOf, AllocationRecord, DispatchRecord
from trioder.domain.schedules import Occurrence, Schedule
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.domain.telemetry import PastSample, Samples, SiteBucket, SitePower, TelemetryBucket
from trioder.store.interface import StoreHealth, StoreListener
from trioder.store.records import NOTHING_COMMITTED, PastSession, SessionRecord, Watermark
from trioder.store.stats import StoreStats

_AUDIT_RECORDS = 10_000
_EVENTS = 10_000


class NoneStore:
    """A `Store` that keeps nothing but the newest audit records and events.

    Where an outbox stands is known for as long as its session lasts.
    A reconnected agent sends what it still has, as after a restart of the headend.
    """

    def __init__(self) -> None:
        self._listener: StoreListener | None = None
        self._stats = StoreStats()
        self._audit: deque[PastAuditRecord] = deque(maxlen=_AUDIT_RECORDS)
        self._audited = 0
        self._events: deque[PastEvent] = deque(maxlen=_EVENTS)
        self._events_recorded = 0

    @property
    def health(self) -> StoreHealth:
        """Always `disabled`."""
        return "disabled"

    @property
    def health_reason(self) -> str:
        """Always empty."""
        return ""

    @property
    def stats(self) -> StoreStats:
        """All 0."""
        return self._stats

    def listen(self, listener: StoreListener) -> None:
        """See `Store.listen`."""
        self._listener = listener

    async def watermark(self, outbox_id: str) -> Watermark:  # noqa: ARG002  # the interface's
        """See `Store.watermark`; does not wait."""
        return NOTHING_COMMITTED

    def submit(self, outbox_id: str, batch_seq: int, samples: Samples) -> bool:
        """Acknowledge the batch at once."""
        if self._listener is not None:
            self._listener.batches_committed(outbox_id, Watermark(batch_seq, samples.ts_unix_ms))
        return True

    def store_unsequenced(self, samples: Samples) -> None:
        """Discard them."""

    def open_session(self, session: SessionRecord) -> None:
        """Discard it."""

    def close_session(self, session_id: str, *, disconnected_ms: int, reason: str) -> None:
        """Discard it."""

    def record_dispatch(
        self, dispatch: DispatchRecord, *, changed: Collection[int], share_of: AllocationOf
    ) -> None:
        """Discard it."""

    def record_audit(self, record: AuditRecord) -> None:
        """Keep the newest in memory."""
        self._audited += 1
        self._audit.append(PastAuditRecord(number=self._audited, record=record))

    def record_binding(self, binding: IdentityBinding) -> None:
        """Discard it: the headend remembers it for as long as it runs."""

    def record_site_limits(self, site_id: str, record: SiteLimitsRecord | None) -> None:
        """Discard it: the headend remembers it for as long as it runs."""

    def record_alarm(self, alarm: Alarm) -> None:
        """Discard it: the headend keeps the newest."""

    def record_event(self, event: EventRecord) -> None:
        """Keep the newest in memory."""
        self._events_recorded += 1
        self._events.append(PastEvent(number=self._events_recorded, event=event))

    def record_schedule(self, schedule: Schedule) -> None:
        """Discard it: the headend remembers it for as long as it runs."""

    def record_occurrence(self, occurrence: Occurrence) -> None:
        """Discard it: the headend keeps the newest."""

    async def wait_recorded(self, occurrence: Occurrence) -> bool:  # noqa: ARG002  # the interface's
        """Return at once: there is no database."""
        return False

    def fleet_changed(self) -> None:
        """Do nothing."""

    async def open_dispatches(self) -> Sequence[DispatchRecord]:
        """Return none."""
        return ()

    async def find_dispatch(self, **_query: object) -> DispatchRecord | None:
        """Return none."""
        return None

    async def dispatches(self, **_query: object) -> Sequence[DispatchRecord]:
        """Return none."""
        return ()

    async def allocations(self, *_dispatch_id: object, **_query: object) -> Sequence[AllocationRecord] | None:
        """Return none."""
        return ()

    async def history(self, *_asset: object, **_query: object) -> Sequence[PastSample]:
        """Return none."""
        return ()

    async def history_buckets(self, *_asset: object, **_query: object) -> Sequence[TelemetryBucket]:
        """Return none."""
        return ()

    async def site_history(self, *_site_ids: object, **_query: object) -> Sequence[SiteBucket]:
        """Return none."""
        return ()

    async def site_power(self, **_query: object) -> Sequence[SitePower]:
        """Return none."""
        return ()

    async def reported_times(self, *_assets: object, **_query: object) -> Mapping[str, Sequence[int]]:
        """Return none."""
        return {}

    async def find_retired_asset(self, *_asset_id: object, **_query: object) -> Asset | None:
        """Return none."""
        return None

    async def sessions(self, **_query: object) -> Sequence[PastSession]:
        """Return none."""
        return ()

    async def find_session(self, *_session_id: object, **_query: object) -> PastSession | None:
        """Return none."""
        return None

    async def audit(
        self,
        *,
        limit: int,
        before: int | None = None,
        principal: str | None = None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[PastAuditRecord]:
        """Return what is kept."""
        found = (
            past
            for past in reversed(self._audit)
            if (before is None or past.number < before)
            and (principal is None or past.record.principal == principal)
            and scope.tenant in {ALL_TENANTS, past.record.tenant}
        )
        return list(islice(found, limit))

    async def site_limits(self) -> Sequence[SiteLimitsRecord]:
        """Return none."""
        return ()

    async def identity_bindings(self) -> Sequence[IdentityBinding]:
        """Return none."""
        return ()

    async def alarms(self, *_which: object, **_query: object) -> Sequence[Alarm]:
        """Return none."""
        return ()

    async def find_alarm(self, *_alarm_id: object, **_query: object) -> Alarm | None:
        """Return none."""
        return None

    async def open_alarms(self, **_query: object) -> Sequence[Alarm]:
        """Return none."""
        return ()

    async def events(self, which: EventFilter, *, limit: int) -> Sequence[PastEvent]:
        """Return what is kept."""
        return list(islice(filter(which.matches, reversed(self._events)), limit))

    async def schedules(self) -> Sequence[Schedule]:
        """Return none."""
        return ()

    async def last_occurrences(self, **_query: object) -> Sequence[Occurrence]:
        """Return none."""
        return ()

    async def occurrences(self, *_schedule_id: object, **_query: object) -> Sequence[Occurrence]:
        """Return none."""
        return ()
