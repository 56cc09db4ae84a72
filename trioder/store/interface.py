"""The interface of persistence. Only reads may wait: a slow or dead database never delays a stream."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Protocol

from trioder.domain.access import EVERYTHING, AuditRecord, IdentityBinding, PastAuditRecord, Scope
from trioder.domain.alarms import Alarm, AlarmFilter, EventFilter, EventRecord, PastEvent
from trioder.domain.assets import Asset
from trioder.domain.dispatch import AllocationOf, AllocationRecord, DispatchRecord
from trioder.domain.schedules import Occurrence, Schedule
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.domain.telemetry import PastSample, Samples, SiteBucket, SitePower, TelemetryBucket
from trioder.store.records import PastSession, SessionRecord, Watermark
from trioder.store.stats import StoreStats

StoreHealth = Literal["ok", "error", "disabled"]


class StoreListener(Protocol):
    """Receives the outcome of submitted batches; synchronous, and must not raise."""

    def batches_committed(self, outbox_id: str, watermark: Watermark) -> None:
        """Every batch of the outbox up to `watermark` is durable."""

    def capacity_available(self) -> None:
        """After a refused `submit`: batches are accepted again."""


class Queries(Protocol):
    """What is read from a database alone; a store's raise `StoreUnavailableError` if it does not answer.

    Reads with a `scope` return only what lies within it, whatever else is asked for.
    """

    async def dispatches(
        self,
        *,
        limit: int,
        asset: Asset | None = None,
        site_id: str | None = None,
        state: str | None = None,
        before: tuple[int, str] | None = None,
        whole: bool = False,
        scope: Scope = EVERYTHING,
    ) -> Sequence[DispatchRecord]:
        """Return the last `limit` dispatches, newest first; with the assets' shares if `whole`.

        Args:
            limit: at most so many.
            asset: only those with a setpoint of this asset.
            site_id: only those with a setpoint of an asset that is at this site now.
            state: only those in this state.
            before: only those that follow this one in a list: (dispatched_ms, dispatch_id).
            whole: see above.
            scope: see above.
        """

    async def allocations(
        self,
        dispatch_id: str,
        *,
        limit: int,
        after: str | None = None,
        state: str | None = None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[AllocationRecord] | None:
        """Return the first `limit` allocations of a dispatch, by their position in the fleet.

        Args:
            dispatch_id: of the dispatch.
            limit: at most so many.
            after: only those after this asset.
            state: only setpoints in this state; LEFT_OUT: only assets that were allocated nothing.
            scope: see above.

        Returns:
            None if `after` has no part in the dispatch.
        """

    async def history(
        self,
        asset: Asset,
        *,
        limit: int,
        start_ms: int | None = None,
        end_ms: int | None = None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[PastSample]:
        """Return the newest `limit` samples of an asset in [start_ms, end_ms), newest first."""

    async def history_buckets(
        self,
        asset: Asset,
        *,
        resolution_s: int,
        start_ms: int,
        end_ms: int,
        limit: int,
        scope: Scope = EVERYTHING,
    ) -> Sequence[TelemetryBucket]:
        """Aggregate an asset's samples in [start_ms, end_ms) by periods; the newest `limit`, newest first.

        Args:
            asset: whose samples.
            resolution_s: of a period; divides a day, and periods are multiples of it since the Unix epoch.
            start_ms: a multiple of it ...
            end_ms: ... and a later one.
            limit: periods without samples are omitted.
            scope: see above.
        """

    async def site_history(
        self,
        site_ids: Sequence[str] | None,
        *,
        resolution_s: int,
        start_ms: int,
        end_ms: int,
        limit: int,
        scope: Scope = EVERYTHING,
    ) -> Sequence[SiteBucket]:
        """Aggregate the samples of sites' assets by periods; the newest `limit`, newest first.

        Args:
            site_ids: of these sites together; None for all within the scope.
            resolution_s: of a period; a multiple of five minutes; else as in `history_buckets`.
            start_ms: see there.
            end_ms: see there.
            limit: see there.
            scope: see above.
        """

    async def site_power(self, *, start_ms: int, end_ms: int, step_s: int) -> Sequence[SitePower]:
        """Return the power of each site by periods of `step_s` in [start_ms, end_ms), in no order.

        Of the assets that are in the fleet; reads all of their samples.
        """

    async def reported_times(self, assets: Sequence[Asset], *, limit: int) -> Mapping[str, Sequence[int]]:
        """Return the times of the newest samples reported by agents, by asset id, oldest first.

        Args:
            assets: those without a sample are missing in the result.
            limit: the number of newest samples read per asset.
        """

    async def find_retired_asset(self, asset_id: str, *, scope: Scope = EVERYTHING) -> Asset | None:
        """Return an asset that is no longer in the fleet; None if there is none of this id."""

    async def sessions(
        self,
        *,
        limit: int,
        asset: Asset | None = None,
        site_id: str | None = None,
        agent_id: str | None = None,
        before: tuple[int, str] | None = None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[PastSession]:
        """Return the last `limit` sessions, newest first.

        Args:
            limit: at most so many.
            asset: only those of this asset.
            site_id: only those of this site's assets.
            agent_id: only those of this agent.
            before: only those that follow this one in a list: (connected_ms, session_id).
            scope: see above.
        """

    async def find_session(self, session_id: str, *, scope: Scope = EVERYTHING) -> PastSession | None:
        """Return the session with this id; None if there is none within the scope."""

    async def audit(
        self,
        *,
        limit: int,
        before: int | None = None,
        principal: str | None = None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[PastAuditRecord]:
        """Return the last `limit` audit records, newest first; of `scope.tenant`, or of all tenants.

        Args:
            limit: at most so many.
            before: only those with a smaller number.
            principal: only those of this principal.
            scope: its sites do not matter.
        """

    async def identity_bindings(self) -> Sequence[IdentityBinding]:
        """Return all bindings, for the headend's start."""

    async def site_limits(self) -> Sequence[SiteLimitsRecord]:
        """Return all limits of sites that users have set, those that have expired included."""

    async def alarms(self, which: AlarmFilter, *, limit: int) -> Sequence[Alarm]:
        """Return the newest `limit` alarms that match, newest first."""

    async def find_alarm(self, alarm_id: str, *, scope: Scope = EVERYTHING) -> Alarm | None:
        """Return the alarm with this id; None if there is none within the scope."""

    async def open_alarms(self, *, limit: int) -> Sequence[Alarm]:
        """Return the newest `limit` alarms that are open, oldest first, for the headend's start."""

    async def events(self, which: EventFilter, *, limit: int) -> Sequence[PastEvent]:
        """Return the newest `limit` events that match, newest first."""

    async def schedules(self) -> Sequence[Schedule]:
        """Return all schedules, oldest first, for the headend's start."""

    async def last_occurrences(self, *, now_ms: int) -> Sequence[Occurrence]:
        """Return the newest occurrence of each schedule and all that run, for the headend's start.

        One that was missed, and starts after `now_ms`, was missed by a wrong clock: it does not count.
        """

    async def occurrences(
        self, schedule_id: str, *, after_ms: int, before_ms: int, limit: int, scope: Scope = EVERYTHING
    ) -> Sequence[Occurrence]:
        """Return the recorded occurrences of a schedule that start in [after_ms, before_ms), oldest first."""


class Store(Queries, Protocol):
    """Stores telemetry, sessions and dispatches.

    An outbox's watermark and its rows are written in one transaction, so that they agree after any crash.
    """

    @property
    def health(self) -> StoreHealth:
        """Whether writes succeed at present; `disabled` if nothing is ever stored."""

    @property
    def health_reason(self) -> str:
        """Why health is `error`, for an operator; else empty."""

    @property
    def stats(self) -> StoreStats:
        """Counters and gauges."""

    def listen(self, listener: StoreListener) -> None:
        """Set the listener; there is one at a time."""

    async def watermark(self, outbox_id: str) -> Watermark:
        """Return the last committed batch of the outbox; `NOTHING_COMMITTED` if there is none.

        Waits at most a moment if the store has not read its watermarks since it started, then returns
        `NOTHING_COMMITTED`. Too low a watermark is harmless: what is committed is not written again.
        """

    def submit(self, outbox_id: str, batch_seq: int, samples: Samples) -> bool:
        """Submit the batch that follows the last one submitted for this outbox. The store owns its columns.

        Returns:
            False if there is no room: the batch was refused, and `capacity_available` follows.
        """

    def store_unsequenced(self, samples: Samples) -> None:
        """Submit samples without an outbox; if there is no room they are dropped, and counted."""

    def open_session(self, session: SessionRecord) -> None:
        """Record the start of a session."""

    def close_session(self, session_id: str, *, disconnected_ms: int, reason: str) -> None:
        """Record the end of a session."""

    def record_dispatch(
        self, dispatch: DispatchRecord, *, changed: Collection[int], share_of: AllocationOf
    ) -> None:
        """Record a dispatch in its present state.

        Args:
            dispatch: without members and left_out.
            changed: the keys of the assets whose share has changed since the last call; at first, all.
            share_of: called for these when they are written, so that their newest state is recorded.
        """

    def record_audit(self, record: AuditRecord) -> None:
        """Record it; waits in a queue while the database is away, like sessions and dispatches."""

    def record_binding(self, binding: IdentityBinding) -> None:
        """Record that an agent_id or outbox belongs to an identity."""

    def record_site_limits(self, site_id: str, record: SiteLimitsRecord | None) -> None:
        """Record limits that a user has set for a site; None: they were removed."""

    def record_alarm(self, alarm: Alarm) -> None:
        """Record the present state of an alarm; waits in a queue while the database is away."""

    def record_event(self, event: EventRecord) -> None:
        """Record an event; likewise."""

    def record_schedule(self, schedule: Schedule) -> None:
        """Record the present state of a schedule; likewise."""

    def record_occurrence(self, occurrence: Occurrence) -> None:
        """Record the present state of an occurrence; likewise.

        It is never written after a dispatch that is recorded later.
        """

    async def wait_recorded(self, occurrence: Occurrence) -> bool:
        """Wait until an occurrence is written; False when the database is away. May take long."""

    def fleet_changed(self) -> None:
        """The fleet was reloaded: mirror it before anything that refers to it is written."""

    async def open_dispatches(self) -> Sequence[DispatchRecord]:
        """Return the dispatches that have not ended, oldest first, for recovery.

        Also the last cancelled ones: agents that were away may report them as active.
        """

    async def find_dispatch(
        self,
        *,
        dispatch_id: str | None = None,
        idempotency_key: str | None = None,
        whole: bool = True,
        scope: Scope = EVERYTHING,
    ) -> DispatchRecord | None:
        """Return the dispatch with this id or idempotency key, written or waiting; None if there is none.

        With the assets' shares if `whole`. A tenant's idempotency keys are its own: the same key of another
        tenant is another key.

        Also raises if the database does not answer within about 2 s.
        """


class StoreConfigurationError(Exception):
    """The store cannot be opened as configured; the text says why and what to do."""


class StoreUnavailableError(Exception):
    """A query failed for now; the text says why."""
