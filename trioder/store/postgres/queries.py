"""The store's reads: from the database, and of dispatches that still wait to be written."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import ParamSpec, TypeVar

import trio

from trioder.domain.access import EVERYTHING, IdentityBinding, PastAuditRecord, Scope
from trioder.domain.alarms import Alarm, AlarmFilter, EventFilter, PastEvent
from trioder.domain.assets import Asset
from trioder.domain.dispatch import (
    AllocationRecord,
    DispatchRecord,
    page_of_allocations,
    with_allocations,
)
from trioder.domain.fleet import Fleet
from trioder.domain.schedules import Occurrence, Schedule
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.domain.telemetry import PastSample, SiteBucket, SitePower, TelemetryBucket
from trioder.store.interface import StoreUnavailableError
from trioder.store.postgres.database import Database, DatabaseError, DatabaseHealth
from trioder.store.postgres.pending_records import PendingDispatch
from trioder.store.postgres.record_queue import RecordQueue
from trioder.store.records import PastSession

# An unavailable database delays a caller of `find_dispatch` no longer than this.
_FIND_WITHIN_S = 2.0
# A headend resumes at most so many: a fleet has far fewer assets.
_MAX_OPEN_DISPATCHES = 10_000

P = ParamSpec("P")
T = TypeVar("T")


class PostgresQueries:
    """The `Queries` of a store.

    Args:
        database: asked unless it is known to be unavailable.
        health: of the database.
        queue: the records that wait to be written.
        fleet: the sites of assets, by their key.
    """

    def __init__(
        self, database: Database, *, health: DatabaseHealth, queue: RecordQueue, fleet: Fleet | None
    ) -> None:
        self._database = database
        self._health = health
        self._records = queue
        self._fleet = fleet

    async def history(
        self,
        asset: Asset,
        *,
        limit: int,
        start_ms: int | None = None,
        end_ms: int | None = None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[PastSample]:
        """See `Store.history`."""
        return await self._read(
            self._database.history, asset, limit=limit, start_ms=start_ms, end_ms=end_ms, scope=scope
        )

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
        """See `Store.history_buckets`."""
        return await self._read(
            self._database.history_buckets,
            asset,
            resolution_s=resolution_s,
            start_ms=start_ms,
            end_ms=end_ms,
            limit=limit,
            scope=scope,
        )

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
        """See `Store.site_history`."""
        return await self._read(
            self._database.site_history,
            site_ids,
            resolution_s=resolution_s,
            start_ms=start_ms,
            end_ms=end_ms,
            limit=limit,
            scope=scope,
        )

    async def site_power(self, *, start_ms: int, end_ms: int, step_s: int) -> Sequence[SitePower]:
        """See `Store.site_power`."""
        return await self._read(self._database.site_power, start_ms=start_ms, end_ms=end_ms, step_s=step_s)

    async def reported_times(self, assets: Sequence[Asset], *, limit: int) -> Mapping[str, Sequence[int]]:
        """See `Store.reported_times`."""
        return await self._read(self._database.reported_times, assets, limit=limit)

    async def find_retired_asset(self, asset_id: str, *, scope: Scope = EVERYTHING) -> Asset | None:
        """See `Store.find_retired_asset`."""
        return await self._read(self._database.find_retired_asset, asset_id, scope=scope)

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
        """See `Store.sessions`."""
        return await self._read(
            self._database.sessions,
            limit=limit,
            asset=asset,
            site_id=site_id,
            agent_id=agent_id,
            before=before,
            scope=scope,
        )

    async def find_session(self, session_id: str, *, scope: Scope = EVERYTHING) -> PastSession | None:
        """See `Store.find_session`."""
        return await self._read(self._database.find_session, session_id, scope=scope)

    async def audit(
        self,
        *,
        limit: int,
        before: int | None = None,
        principal: str | None = None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[PastAuditRecord]:
        """See `Store.audit`."""
        return await self._read(
            self._database.audit, limit=limit, before=before, principal=principal, scope=scope
        )

    async def identity_bindings(self) -> Sequence[IdentityBinding]:
        """See `Store.identity_bindings`."""
        return await self._read(self._database.identity_bindings)

    async def site_limits(self) -> Sequence[SiteLimitsRecord]:
        """See `Store.site_limits`."""
        return await self._read(self._database.site_limits)

    async def alarms(self, which: AlarmFilter, *, limit: int) -> Sequence[Alarm]:
        """See `Store.alarms`."""
        return await self._read(self._database.alarms, which, limit=limit)

    async def find_alarm(self, alarm_id: str, *, scope: Scope = EVERYTHING) -> Alarm | None:
        """See `Store.find_alarm`."""
        return await self._read(self._database.find_alarm, alarm_id, scope=scope)

    async def open_alarms(self, *, limit: int) -> Sequence[Alarm]:
        """See `Store.open_alarms`."""
        return await self._read(self._database.open_alarms, limit=limit)

    async def events(self, which: EventFilter, *, limit: int) -> Sequence[PastEvent]:
        """See `Store.events`."""
        return await self._read(self._database.events, which, limit=limit)

    async def schedules(self) -> Sequence[Schedule]:
        """See `Store.schedules`."""
        return await self._read(self._database.schedules)

    async def last_occurrences(self, *, now_ms: int) -> Sequence[Occurrence]:
        """See `Store.last_occurrences`."""
        return await self._read(self._database.last_occurrences, now_ms=now_ms)

    async def occurrences(
        self, schedule_id: str, *, after_ms: int, before_ms: int, limit: int, scope: Scope = EVERYTHING
    ) -> Sequence[Occurrence]:
        """See `Store.occurrences`."""
        return await self._read(
            self._database.occurrences,
            schedule_id,
            after_ms=after_ms,
            before_ms=before_ms,
            limit=limit,
            scope=scope,
        )

    async def open_dispatches(self) -> Sequence[DispatchRecord]:
        """See `Store.open_dispatches`."""
        return await self._read(self._database.open_dispatches, limit=_MAX_OPEN_DISPATCHES)

    async def find_dispatch(
        self,
        *,
        dispatch_id: str | None = None,
        idempotency_key: str | None = None,
        whole: bool = True,
        scope: Scope = EVERYTHING,
    ) -> DispatchRecord | None:
        """See `Store.find_dispatch`."""
        record = self._records.find_dispatch(
            dispatch_id=dispatch_id, idempotency_key=idempotency_key, tenant=scope.tenant
        )
        if record is not None and not self._at_sites_of(scope, record):
            await trio.lowlevel.checkpoint()
            return None
        if record is not None and record.is_whole:
            await trio.lowlevel.checkpoint()
            return with_allocations(record.dispatch, record.shares) if whole else record.dispatch
        find = partial(
            self._database.find_dispatch,
            dispatch_id=dispatch_id,
            idempotency_key=idempotency_key,
            scope=scope,
        )
        with trio.move_on_after(_FIND_WITHIN_S) as within:
            found = await self._read(find, whole=False)
        if within.cancelled_caught:
            raise StoreUnavailableError(f"the database did not answer within {_FIND_WITHIN_S:g} s")
        if found is not None and whole:
            # Existence must be known soon; reading the shares of 100,000 assets takes longer.
            found = await self._read(find, whole=True)
        # Of what is not whole the database alone knows all sites.
        if record is None or (found is None and scope.site_ids is not None):
            return found
        if not whole:
            return record.dispatch
        written: Sequence[AllocationRecord] = () if found is None else (*found.members, *found.left_out)
        return with_allocations(record.dispatch, record.shares, former=written)

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
        """See `Store.dispatches`."""
        return await self._read(
            self._database.dispatches,
            limit=limit,
            asset=asset,
            site_id=site_id,
            state=state,
            before=before,
            whole=whole,
            scope=scope,
        )

    async def allocations(
        self,
        dispatch_id: str,
        *,
        limit: int,
        after: str | None = None,
        state: str | None = None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[AllocationRecord] | None:
        """See `Store.allocations`."""
        read = partial(
            self._database.allocations, dispatch_id, limit=limit, after=after, state=state, scope=scope
        )
        if self._records.find_dispatch(dispatch_id=dispatch_id, idempotency_key=None) is None:
            return await self._read(read)
        # Some are not written yet.
        whole = await self.find_dispatch(dispatch_id=dispatch_id, scope=scope)
        return () if whole is None else page_of_allocations(whole, limit=limit, after=after, state=state)

    def _at_sites_of(self, scope: Scope, record: PendingDispatch) -> bool:
        """Whether all assets of the record are at sites of the scope."""
        if scope.site_ids is None:
            return True
        if self._fleet is None:
            return False
        return all(self._fleet.assets[key].site_id in scope.site_ids for key in record.changed)

    async def _read(self, query: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._health.reason:
            raise StoreUnavailableError(self._health.reason)
        try:
            return await query(*args, **kwargs)
        except DatabaseError as error:
            raise StoreUnavailableError(str(error)) from None
