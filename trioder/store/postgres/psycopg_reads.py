"""The reads of the `Database` on psycopg: a few connections; with a scope, under row-level security."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from trioder.domain.access import EVERYTHING, IdentityBinding, PastAuditRecord, Scope
from trioder.domain.alarms import Alarm, AlarmFilter, EventFilter, PastEvent
from trioder.domain.assets import Asset
from trioder.domain.dispatch import AllocationRecord, DispatchRecord
from trioder.domain.schedules import Occurrence, Schedule
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.domain.telemetry import PastSample, SiteBucket, SitePower, TelemetryBucket
from trioder.store.postgres.alarm_records import read_alarm, read_alarms, read_events, read_open_alarms
from trioder.store.postgres.audit_records import read_audit, read_identity_bindings
from trioder.store.postgres.buckets import read_buckets
from trioder.store.postgres.dispatch_reads import (
    read_allocations,
    read_dispatch,
    read_dispatches,
    read_open_dispatches,
)
from trioder.store.postgres.pg_connection import Connection, ConnectionPool
from trioder.store.postgres.reader_role import ReaderRole
from trioder.store.postgres.reads import (
    read_history,
    read_reported_times,
    read_retired_asset,
    read_session,
    read_sessions,
    read_watermark,
)
from trioder.store.postgres.schedule_records import read_last_occurrences, read_occurrences, read_schedules
from trioder.store.postgres.site_limit_records import read_site_limits
from trioder.store.postgres.site_reads import read_site_history, read_site_power
from trioder.store.records import PastSession, Watermark

P = ParamSpec("P")
T = TypeVar("T")

_READ_WITHIN_S = 10.0
_MAX_READERS = 3


class PsycopgReads:
    """The `Queries` of a `Database`."""

    def __init__(self, conninfo: str) -> None:
        self._reader = ReaderRole()
        self._read_pool = ConnectionPool(
            conninfo, max_connections=_MAX_READERS, statement_timeout_s=_READ_WITHIN_S
        )

    async def watermark(self, outbox_id: str) -> Watermark:
        """See `Database.watermark`."""
        return await self._read(read_watermark, outbox_id)

    async def find_retired_asset(
        self,
        asset_id: str,
        *,
        scope: Scope = EVERYTHING,
    ) -> Asset | None:
        """See `Database.find_retired_asset`."""
        return await self._read_in(scope, read_retired_asset, asset_id)

    async def history(
        self,
        asset: Asset,
        *,
        limit: int,
        start_ms: int | None = None,
        end_ms: int | None = None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[PastSample]:
        """See `Database.history`."""
        return await self._read_in(scope, read_history, asset, limit=limit, start_ms=start_ms, end_ms=end_ms)

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
        """See `Database.history_buckets`."""
        return await self._read_in(
            scope,
            read_buckets,
            asset,
            resolution_s=resolution_s,
            start_ms=start_ms,
            end_ms=end_ms,
            limit=limit,
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
        """See `Database.site_history`."""
        return await self._read_in(
            scope,
            read_site_history,
            site_ids,
            resolution_s=resolution_s,
            start_ms=start_ms,
            end_ms=end_ms,
            limit=limit,
        )

    async def site_power(self, *, start_ms: int, end_ms: int, step_s: int) -> Sequence[SitePower]:
        """See `Database.site_power`."""
        return await self._read(read_site_power, start_ms=start_ms, end_ms=end_ms, step_s=step_s)

    async def reported_times(self, assets: Sequence[Asset], *, limit: int) -> Mapping[str, Sequence[int]]:
        """See `Database.reported_times`."""
        return await self._read(read_reported_times, assets, limit=limit)

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
        """See `Database.sessions`."""
        return await self._read_in(
            scope,
            read_sessions,
            limit=limit,
            asset=asset,
            site_id=site_id,
            agent_id=agent_id,
            before=before,
        )

    async def find_session(self, session_id: str, *, scope: Scope = EVERYTHING) -> PastSession | None:
        """See `Database.find_session`."""
        return await self._read_in(scope, read_session, session_id)

    async def open_dispatches(self, *, limit: int) -> Sequence[DispatchRecord]:
        """See `Database.open_dispatches`."""
        return await self._read(read_open_dispatches, limit=limit)

    async def find_dispatch(
        self,
        *,
        dispatch_id: str | None,
        idempotency_key: str | None,
        whole: bool,
        scope: Scope = EVERYTHING,
    ) -> DispatchRecord | None:
        """See `Database.find_dispatch`."""
        return await self._read_in(
            scope, read_dispatch, dispatch_id=dispatch_id, idempotency_key=idempotency_key, whole=whole
        )

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
        """See `Database.dispatches`."""
        return await self._read_in(
            scope,
            read_dispatches,
            limit=limit,
            asset=asset,
            site_id=site_id,
            state=state,
            before=before,
            whole=whole,
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
        """See `Database.allocations`."""
        return await self._read_in(
            scope, read_allocations, dispatch_id, limit=limit, after=after, state=state
        )

    async def audit(
        self,
        *,
        limit: int,
        before: int | None = None,
        principal: str | None = None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[PastAuditRecord]:
        """See `Database.audit`."""
        return await self._read_in(scope, read_audit, limit=limit, before=before, principal=principal)

    async def identity_bindings(self) -> Sequence[IdentityBinding]:
        """See `Database.identity_bindings`."""
        return await self._read(read_identity_bindings)

    async def site_limits(self) -> Sequence[SiteLimitsRecord]:
        """See `Database.site_limits`."""
        return await self._read(read_site_limits)

    async def alarms(self, which: AlarmFilter, *, limit: int) -> Sequence[Alarm]:
        """See `Database.alarms`."""
        return await self._read_in(which.scope, read_alarms, which, limit=limit)

    async def find_alarm(self, alarm_id: str, *, scope: Scope = EVERYTHING) -> Alarm | None:
        """See `Database.find_alarm`."""
        return await self._read_in(scope, read_alarm, alarm_id)

    async def open_alarms(self, *, limit: int) -> Sequence[Alarm]:
        """See `Database.open_alarms`."""
        return await self._read(read_open_alarms, limit=limit)

    async def events(self, which: EventFilter, *, limit: int) -> Sequence[PastEvent]:
        """See `Database.events`."""
        return await self._read_in(which.scope, read_events, which, limit=limit)

    async def schedules(self) -> Sequence[Schedule]:
        """See `Database.schedules`."""
        return await self._read(read_schedules)

    async def last_occurrences(self, *, now_ms: int) -> Sequence[Occurrence]:
        """See `Database.last_occurrences`."""
        return await self._read(read_last_occurrences, now_ms=now_ms)

    async def occurrences(
        self, schedule_id: str, *, after_ms: int, before_ms: int, limit: int, scope: Scope = EVERYTHING
    ) -> Sequence[Occurrence]:
        """See `Database.occurrences`."""
        return await self._read_in(
            scope, read_occurrences, schedule_id, after_ms=after_ms, before_ms=before_ms, limit=limit
        )

    async def _read(
        self,
        query: Callable[Concatenate[Connection, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._read_pool.run(
            lambda connection: query(connection, *args, **kwargs), within_s=_READ_WITHIN_S + 2
        )

    async def _read_in(
        self,
        scope: Scope,
        query: Callable[Concatenate[Connection, Scope, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Read under row-level security, so that a query that lacks its filter returns nothing more."""

        async def read(connection: Connection) -> T:
            return await self._reader.run(
                connection, scope, lambda connection: query(connection, scope, *args, **kwargs)
            )

        return await self._read_pool.run(read, within_s=_READ_WITHIN_S + 2)
