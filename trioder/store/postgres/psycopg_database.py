"""The database as it is, through psycopg: a connection for telemetry, one for records, a few for readers."""

from array import array
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import TypeVar

import psycopg
import trio

from trioder.domain.assets import Asset
from trioder.domain.dispatch import DispatchRecord
from trioder.domain.fleet import Fleet
from trioder.domain.telemetry import PastSample
from trioder.process.wall_time import WallClock
from trioder.store.postgres.database import (
    DatabaseError,
    DispatchNote,
    Maintenance,
    Note,
    PendingBatch,
    Watermarks,
    Written,
)
from trioder.store.postgres.encoding import names_refused, warn_of_encoding
from trioder.store.postgres.held_connection import KeptLink
from trioder.store.postgres.partitions import Partitions, day_of, days_of
from trioder.store.postgres.pg_connection import Connection, PgConnection, open_link
from trioder.store.postgres.read_dispatches import read_dispatch, read_dispatches, read_open_dispatches
from trioder.store.postgres.readers import Readers
from trioder.store.postgres.reads import (
    read_history,
    read_mark,
    read_marks,
    read_reported_times,
    read_retired_asset,
    read_sessions,
)
from trioder.store.postgres.record_retention import RecordRetention
from trioder.store.postgres.retention_runs import Retention
from trioder.store.postgres.schema import apply_schema, mirror_fleet, schema_is_current
from trioder.store.postgres.write_records import clean_up_after_predecessor, write_notes
from trioder.store.postgres.writes import write_batches
from trioder.store.records import PastSession, Watermark

T = TypeVar("T")

# A migration rewrites every old record.
_MIGRATE_WITHIN_S = 4 * 3600.0
_PREPARE_WITHIN_S = 60.0  # the fleet of 100,000 assets is mirrored in it
_WRITE_WITHIN_S = 20.0
# Of a dispatch to many assets; a database that is slower is as good as away.
_SHARES_A_S = 1_000
_TEND_WITHIN_S = 60.0  # a partition with its gigabytes is dropped


class PsycopgDatabase:
    """A `Database`.

    Args:
        conninfo: whom to connect to.
        fleet: what `sites` and `assets` mirror, and what asset keys stand for.
        wall: tells which day it is.
        retention_days: see `Retention`.
        records_retention_days: see `RecordRetention`.
        max_marks: how many marks `connect` returns.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        fleet: Fleet,
        wall: WallClock,
        retention_days: int,
        records_retention_days: int,
        max_marks: int,
    ) -> None:
        self._conninfo = conninfo
        self._fleet = fleet
        self._wall = wall
        self._max_marks = max_marks
        self._partitions = Partitions()
        self._retention = Retention(retention_days=retention_days)
        self._keys = array("i")
        self._link: PgConnection | None = None
        self._readers = Readers(conninfo)
        self._records = KeptLink(conninfo, statement_timeout_s=_WRITE_WITHIN_S)
        self._record_retention = RecordRetention(retention_days=records_retention_days)
        self._first_connected_s = trio.current_time()

    async def connect(self, *, first: bool) -> Watermarks:
        """See `Database.connect`."""
        self._link = await open_link(self._conninfo, statement_timeout_s=_PREPARE_WITHIN_S)
        if not await self._run(schema_is_current, within_s=_PREPARE_WITHIN_S):
            await self._run(apply_schema, within_s=_MIGRATE_WITHIN_S)
        now = self._now()

        async def prepare(connection: Connection) -> Watermarks:
            await self._mirror(connection)
            if first:
                warn_of_encoding(connection)
                await self._record_retention.learn(connection, now)
                self._first_connected_s = trio.current_time()
                await clean_up_after_predecessor(connection, now)
            await self._maintain(connection)
            return await read_marks(connection, limit=self._max_marks)

        return await self._run(prepare, within_s=_PREPARE_WITHIN_S)

    async def disconnect(self) -> None:
        """See `Database.disconnect`."""
        link, self._link = self._link, None
        if link is not None:
            await link.aclose()
        await self._readers.aclose()
        await self._records.aclose()

    async def write(self, batches: Sequence[PendingBatch], *, rows: bool = True) -> Written:
        """See `Database.write`."""
        days = days_of(batches)

        async def write(connection: Connection) -> Written:
            await self._partitions.make(connection, days, self._today())
            return await write_batches(connection, batches, self._keys, rows=rows)

        return await self._run(write, within_s=_WRITE_WITHIN_S)

    async def note(self, notes: Iterable[Note]) -> None:
        """See `Database.note`."""
        wanted = list(notes)
        shares = sum(len(note.changed) for note in wanted if isinstance(note, DispatchNote))

        async def write(connection: Connection) -> None:
            await write_notes(connection, wanted, self._keys)

        await self._records.run(write, within_s=_WRITE_WITHIN_S + shares / _SHARES_A_S)

    async def drop_old_records(self) -> bool:
        """See `Database.drop_old_records`."""
        drop = partial(
            self._record_retention.drop_old,
            now=self._now(),
            run_s=trio.current_time() - self._first_connected_s,
        )
        return await self._records.run(drop, within_s=_TEND_WITHIN_S)

    async def mirror_fleet(self) -> None:
        """See `Database.mirror_fleet`."""
        await self._run(self._mirror, within_s=_PREPARE_WITHIN_S)

    async def tend(self) -> Maintenance:
        """See `Database.tend`."""

        async def tend(connection: Connection) -> None:
            await self._maintain(connection)

        await self._run(tend, within_s=_TEND_WITHIN_S)
        return Maintenance(
            partition_failures=self._partitions.failures,
            days_dropped=self._retention.days_dropped,
            days_held=self._retention.days_held,
        )

    async def watermark(self, outbox_id: str) -> Watermark:
        """See `Database.watermark`."""
        return await self._readers.run(partial(read_mark, outbox_id=outbox_id))

    async def find_retired_asset(self, asset_id: str) -> Asset | None:
        """See `Database.find_retired_asset`."""
        return await self._readers.run(partial(read_retired_asset, asset_id=asset_id))

    async def history(
        self, asset: Asset, *, limit: int, start_ms: int | None, end_ms: int | None
    ) -> Sequence[PastSample]:
        """See `Database.history`."""
        return await self._readers.run(
            partial(read_history, asset=asset, limit=limit, start_ms=start_ms, end_ms=end_ms)
        )

    async def reported_times(self, asset_ids: Sequence[str], *, limit: int) -> Mapping[str, Sequence[int]]:
        """See `Database.reported_times`."""
        return await self._readers.run(partial(read_reported_times, asset_ids=asset_ids, limit=limit))

    async def sessions(
        self, *, limit: int, asset: Asset | None, agent_id: str | None
    ) -> Sequence[PastSession]:
        """See `Database.sessions`."""
        return await self._readers.run(partial(read_sessions, limit=limit, asset=asset, agent_id=agent_id))

    async def open_dispatches(self, *, limit: int) -> Sequence[DispatchRecord]:
        """See `Database.living_dispatches`."""
        return await self._readers.run(partial(read_open_dispatches, limit=limit))

    async def find_dispatch(
        self, *, dispatch_id: str | None, idempotency_key: str | None, whole: bool
    ) -> DispatchRecord | None:
        """See `Database.find_dispatch`."""
        return await self._readers.run(
            partial(read_dispatch, dispatch_id=dispatch_id, idempotency_key=idempotency_key, whole=whole)
        )

    async def dispatches(
        self, *, limit: int, asset: Asset | None, state: str | None, whole: bool
    ) -> Sequence[DispatchRecord]:
        """See `Database.dispatches`."""
        return await self._readers.run(
            partial(read_dispatches, limit=limit, asset=asset, state=state, whole=whole)
        )

    async def _mirror(self, connection: Connection) -> None:
        try:
            self._keys = await mirror_fleet(connection, self._fleet)
        except psycopg.errors.UntranslatableCharacter as error:
            raise names_refused(connection, error, self._fleet) from error

    async def _maintain(self, connection: Connection) -> None:
        today = self._today()
        await self._partitions.make_ahead(connection, today)
        await self._retention.run(connection, self._partitions, today)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall.now_s(), UTC)

    def _today(self) -> date:
        return day_of(self._wall.now_ms())

    async def _run(self, job: Callable[[Connection], Awaitable[T]], *, within_s: float) -> T:
        if self._link is None:
            raise DatabaseError("not connected")
        return await self._link.run(job, within_s=within_s)
