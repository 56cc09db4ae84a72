"""The `Database` on psycopg: one connection for telemetry, one for records; reads are in `psycopg_reads`."""

from array import array
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import ParamSpec, TypeVar

import trio

from trioder.domain.fleet import Fleet
from trioder.process.wall_time import WallClock
from trioder.store.postgres.batch_queue import PendingBatch
from trioder.store.postgres.batch_writes import write_batches
from trioder.store.postgres.database import MAX_WATERMARKS, DatabaseError, Maintenance, Watermarks, Written
from trioder.store.postgres.partitions import Partitions, day_of, days_of
from trioder.store.postgres.pending_records import PendingDispatch, PendingRecord
from trioder.store.postgres.pg_connection import (
    Connection,
    ConnectionPool,
    PgConnection,
    open_pg_connection,
)
from trioder.store.postgres.psycopg_reads import PsycopgReads
from trioder.store.postgres.reads import read_watermarks
from trioder.store.postgres.record_retention import RecordRetention
from trioder.store.postgres.record_writes import close_stale_sessions, write_records
from trioder.store.postgres.retention_runs import Retention
from trioder.store.postgres.schema import apply_schema, mirror_fleet, schema_is_current, warn_about_encoding
from trioder.store.postgres.summaries import summarize_next

P = ParamSpec("P")
T = TypeVar("T")

# A migration rewrites every old record.
_MIGRATE_WITHIN_S = 4 * 3600.0
_PREPARE_WITHIN_S = 60.0  # includes mirroring a fleet of 100,000 assets
_WRITE_WITHIN_S = 20.0
# Extra time for a dispatch to many assets; a slower database counts as unavailable.
_SHARES_PER_S = 1_000
# An hour of 100,000 assets with a sample a second.
_SUMMARIZE_WITHIN_S = 1800.0
_MAINTAIN_WITHIN_S = 60.0  # includes dropping a partition of several gigabytes


class PsycopgDatabase(PsycopgReads):
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
        super().__init__(conninfo)
        self._conninfo = conninfo
        self._fleet = fleet
        self._wall = wall
        self._partitions = Partitions()
        self._retention = Retention(retention_days=retention_days)
        # The database's key of each asset, by its position in the fleet.
        self._db_keys = array("i")
        self._connection: PgConnection | None = None
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

    async def _run(self, job: Callable[[Connection], Awaitable[T]], *, within_s: float) -> T:
        if self._connection is None:
            raise DatabaseError("not connected")
        return await self._connection.run(job, within_s=within_s)
