"""The store of the grpcio peer: the headend's queue, groups and transaction, in one asyncio task.

Nothing crosses from Trio to asyncio, and the loss of the database is not handled.
"""

import asyncio
from array import array
from datetime import UTC, datetime

from trioder.domain.fleet import Fleet
from trioder.domain.telemetry import Samples
from trioder.process.wall_time import WallClock
from trioder.store.none import NoneStore
from trioder.store.postgres.batch_queue import BatchQueue, PendingBatch, UnsequencedBuffer
from trioder.store.postgres.batch_writes import write_batches
from trioder.store.postgres.partitions import Partitions, day_of, days_of
from trioder.store.postgres.pg_connection import Connection, open_connection
from trioder.store.postgres.schema import apply_schema, mirror_fleet
from trioder.store.postgres.store import GROUP_ROWS, PACE_S, QUEUE_BYTES
from trioder.store.records import NOTHING_COMMITTED, Watermark


class AsyncioStore(NoneStore):
    """A `Store` of samples only, which `run` writes; it begins with an empty database."""

    def __init__(self, url: str, *, fleet: Fleet, wall: WallClock) -> None:
        super().__init__()
        self._url = url
        self._fleet = fleet
        self._wall = wall
        self._queue = BatchQueue(max_bytes=QUEUE_BYTES, group_rows=GROUP_ROWS)
        self._partitions = Partitions()
        self._keys = array("i")
        self._loose = UnsequencedBuffer(self._queue, max_bytes=QUEUE_BYTES, started_ms=wall.now_ms())
        self._work = asyncio.Event()
        self._full = asyncio.Event()
        self.ready = asyncio.Event()

    async def watermark(self, outbox_id: str) -> Watermark:  # noqa: ARG002  # the interface's
        """No outbox has been committed before."""
        return NOTHING_COMMITTED

    def submit(self, outbox_id: str, batch_seq: int, samples: Samples) -> bool:
        """See `Store.submit`."""
        if not self._queue.put(PendingBatch.of(outbox_id, batch_seq, samples)):
            return False
        self._wake()
        return True

    def store_unsequenced(self, samples: Samples) -> None:
        """See `Store.store_unsequenced`."""
        if self._loose.put(samples):
            self._wake()

    async def run(self) -> None:
        """Write what is submitted, until cancelled."""
        async with await open_connection(self._url) as connection:
            await connection.execute("SET TimeZone = 'UTC'")
            await apply_schema(connection)
            self._keys = await mirror_fleet(connection, self._fleet)
            await self._partitions.make_ahead(connection, day_of(self._wall.now_ms()))
            self.ready.set()
            loop = asyncio.get_running_loop()
            while True:
                if not self._queue and not self._loose.rows:
                    self._work.clear()
                    await self._work.wait()
                group_s = loop.time()
                await self._write(connection)
                await self._pace(group_s + PACE_S)

    async def _write(self, connection: Connection) -> None:
        self._loose.seal()
        group = self._queue.first_group()
        await self._partitions.make(connection, days_of(group), datetime.now(UTC).date())
        written = await write_batches(connection, group, self._keys, rows=True)
        self._queue.remove_first(len(group))
        if self._listener is None:
            return
        for outbox_id, mark in written.watermarks.items():
            self._listener.batches_committed(outbox_id, mark)
        if self._queue.take_capacity_available():
            self._listener.capacity_available()

    async def _pace(self, until_s: float) -> None:
        if self._queue.has_full_group:
            return
        self._full.clear()
        try:
            async with asyncio.timeout_at(until_s):
                await self._full.wait()
        except TimeoutError:
            return

    def _wake(self) -> None:
        self._work.set()
        if self._queue.has_full_group:
            self._full.set()
