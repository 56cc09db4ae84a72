"""The `Database` on psycopg: one connection for telemetry, one for records, a few for reads."""

from array import array
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

import trio

from trioder.domain.access import EVERYTHING, IdentityBinding, PastAuditRecord, Scope
from trioder.domain.alarms import Alarm, AlarmFilter, EventFilter, PastEvent
from trioder.domain.assets import Asset
from trioder.domain.dispatch import DispatchRecord
from trioder.domain.fleet import Fleet
from trioder.domain.schedules import Occurrence, Schedule
from trioder.domain.site_limits import SiteLimitsRecord
from trioder.domain.telemetry import PastSample, TelemetryBucket
from trioder.process.wall_time import WallClock
from trioder.store.postgres.alarm_records import read_alarm, read_alarms, read_events, read_open_alarms
from trioder.store.postgres.audit_records import read_audit, read_identity_bindings
from trioder.store.postgres.batch_queue import PendingBatch
from trioder.store.postgres.batch_writes import write_batches
from trioder.store.postgres.buckets import read_buckets
from trioder.store.postgres.database import MAX_WATERMARKS, DatabaseError, Maintenance, Watermarks, Written
from trioder.store.postgres.partitions import Partitions, day_of, days_of
from trioder.store.postgres.pending_records import PendingDispatch, PendingRecord
from trioder.store.postgres.pg_connection import (
    Connection,
    ConnectionPool,
    PgConnection,
    open_pg_connection,
)
from trioder.store.postgres.reader_role import ReaderRole
from trioder.store.postgres.reads import (
    read_dispatch,
    read_dispatches,
    read_history,
    read_open_dispatches,
    read_reported_times,
    read_retired_asset,
    read_sessions,
    read_watermark,
    read_watermarks,
)
from trioder.store.postgres.record_retention import RecordRetention
from trioder.store.postgres.record_writes import close_stale_sessions, write_records
from trioder.store.postgres.retention_runs import Retention
from trioder.store.postgres.schedule_records import read_last_occurrences, read_occurrences, read_schedules
from trioder.store.postgres.schema import apply_schema, mirror_fleet, schema_is_current, warn_about_encoding
from trioder.store.postgres.site_limit_records import read_site_limits
from trioder.store.postgres.summaries import summarize_next
from trioder.store.records import PastSession, Watermark

P = ParamSpec("P")
T = TypeVar("T")

# A migration rewrites every old record.
_MIGRATE_WITHIN_S = 4 * 3600.0
_PREPARE_WITHIN_S = 60.0  # includes mirroring a fleet of 100,000 assets
_WRITE_WITHIN_S = 20.0
_READ_WITHIN_S = 10.0
_MAX_READERS = 3
# Extra time for a dispatch to many assets; a slower database counts as unavailable.
_SHARES_PER_S = 1_000
# An hour of 100,000 assets with a sample a second.
_SUMMARIZE_WITHIN_S = 1800.0
_MAINTAIN_WITHIN_S = 60.0  # includes dropping a partition of several gigabytes


class PsycopgDatabase:
    """A `Database`.

    Args:
        conninfo: of the server.
        fleet: mirrored to the database; asset keys are positions in it.
        wall: gives the present day.
        retention_days: see `Retention`.
        records_retention_days: see `RecordRetention`.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        fleet: Fleet,
        wall: WallClock,
        retention_days: int,
        records_retention_days: int,
    ) -> None:
        self._conninfo = conninfo
        self._fleet = fleet
        self._wall = wall
        self._partitions = Partitions()
        self._retention = Retention(retention_days=retention_days)
        # The database's key of each asset, by its position in the fleet.
        self._db_keys = array("i")
        self._connection: PgConnection | None = None
        self._reader = ReaderRole()
        self._read_pool = ConnectionPool(
            conninfo, max_connections=_MAX_READERS, statement_timeout_s=_READ_WITHIN_S
        )
        self._record_pool = ConnectionPool(conninfo, max_connections=1, statement_timeout_s=_WRITE_WITHIN_S)
        self._summary_pool = ConnectionPool(
            conninfo, max_connections=1, statement_timeout_s=_SUMMARIZE_WITHIN_S
        )
        self._record_retention = RecordRetention(retention_days=records_retention_days)
        self._first_connected_s = trio.current_time()

    async def connect(self, *, first: bool) -> Watermarks:
        """See `Database.connect`."""
        self._connection = await open_pg_connection(self._conninfo, statement_timeout_s=_PREPARE_WITHIN_S)
        if not await self._run(schema_is_current, within_s=_PREPARE_WITHIN_S):
            await self._run(apply_schema, within_s=_MIGRATE_WITHIN_S)
        await self._run(self._reader.prepare, within_s=_PREPARE_WITHIN_S)
        now = self._now()

        async def prepare(connection: Connection) -> Watermarks:
            await self._mirror_fleet(connection)
            if first:
                warn_about_encoding(connection)
                await self._record_retention.learn(connection, now)
                self._first_connected_s = trio.current_time()
                await close_stale_sessions(connection, now)
            await self._maintain(connection)
            return await read_watermarks(connection, limit=MAX_WATERMARKS)

        return await self._run(prepare, within_s=_PREPARE_WITHIN_S)

    async def disconnect(self) -> None:
        """See `Database.disconnect`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()
        await self._read_pool.aclose()
        await self._record_pool.aclose()
        await self._summary_pool.aclose()

    async def write(self, batches: Sequence[PendingBatch], *, rows: bool = True) -> Written:
        """See `Database.write`."""
        days = days_of(batches)

        async def write(connection: Connection) -> Written:
            await self._partitions.make(connection, days, self._today())
            return await write_batches(connection, batches, self._db_keys, rows=rows, now=self._now())

        return await self._run(write, within_s=_WRITE_WITHIN_S)

    async def write_records(self, records: Iterable[PendingRecord]) -> None:
        """See `Database.write_records`."""
        pending = list(records)
        shares = sum(len(record.changed) for record in pending if isinstance(record, PendingDispatch))

        async def write(connection: Connection) -> None:
            await write_records(connection, pending, self._db_keys, self._fleet)

        await self._record_pool.run(write, within_s=_WRITE_WITHIN_S + shares / _SHARES_PER_S)

    async def drop_old_records(self) -> bool:
        """See `Database.drop_old_records`."""
        drop = partial(
            self._record_retention.drop_old,
            now=self._now(),
            run_s=trio.current_time() - self._first_connected_s,
        )
        return await self._record_pool.run(drop, within_s=_MAINTAIN_WITHIN_S)

    async def summarize(self) -> bool:
        """See `Database.summarize`."""
        return await self._summary_pool.run(summarize_next, within_s=_SUMMARIZE_WITHIN_S + 2)

    async def mirror_fleet(self) -> None:
        """See `Database.mirror_fleet`."""
        await self._run(self._mirror_fleet, within_s=_PREPARE_WITHIN_S)

    async def maintain(self) -> Maintenance:
        """See `Database.maintain`."""
        await self._run(self._maintain, within_s=_MAINTAIN_WITHIN_S)
        return Maintenance(
            partition_failures=self._partitions.failures,
            days_dropped=self._retention.days_dropped,
            days_held=self._retention.days_held,
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

    async def reported_times(self, assets: Sequence[Asset], *, limit: int) -> Mapping[str, Sequence[int]]:
        """See `Database.reported_times`."""
        return await self._read(read_reported_times, assets, limit=limit)

    async def sessions(
        self,
        *,
        limit: int,
        asset: Asset | None = None,
        agent_id: str | None = None,
        scope: Scope = EVERYTHING,
    ) -> Sequence[PastSession]:
        """See `Database.sessions`."""
        return await self._read_in(scope, read_sessions, limit=limit, asset=asset, agent_id=agent_id)

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
        state: str | None = None,
        whole: bool = False,
        scope: Scope = EVERYTHING,
    ) -> Sequence[DispatchRecord]:
        """See `Database.dispatches`."""
        return await self._read_in(scope, read_dispatches, limit=limit, asset=asset, state=state, whole=whole)

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

    async def _mirror_fleet(self, connection: Connection) -> None:
        self._db_keys = await mirror_fleet(connection, self._fleet)

    async def _maintain(self, connection: Connection) -> None:
        today = self._today()
        await self._partitions.make_ahead(connection, today)
        await self._retention.run(connection, self._partitions, today)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall.now_s(), UTC)

    def _today(self) -> date:
        return day_of(self._wall.now_ms())

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

    async def _run(self, job: Callable[[Connection], Awaitable[T]], *, within_s: float) -> T:
        if self._connection is None:
            raise DatabaseError("not connected")
        return await self._connection.run(job, within_s=within_s)
