"""`python -m scripts.benchmarks.grpcio_peer FLEET URL`: the protocol's ingest by grpcio's asyncio server.

Decoding, checks, sequence, latest state, the queue and the transaction are the headend's own code; transport
and event loop are grpcio's and asyncio's. The loss of the database is not handled. It writes its port to
standard output as JSON, serves until SIGTERM, and needs an empty database.
"""

import asyncio
import gc
import json
import sys
import time
from array import array
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]

# Before all else of the store.
import scripts.benchmarks.plain_asyncio  # noqa: F401  # isort: skip
from trioder.domain.fleet import Fleet
from trioder.domain.telemetry import Samples
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.fleet import load_fleet
from trioder.gateway.downlink_queue import DownlinkQueue, PendingDownlink
from trioder.gateway.sessions import Session
from trioder.ingest.latest import LatestState
from trioder.ingest.service import Ingest
from trioder.process.wall_time import WallClock
from trioder.store.none import NoneStore
from trioder.store.postgres.batch_queue import BatchQueue, PendingBatch, UnsequencedBuffer
from trioder.store.postgres.batch_writes import write_batches
from trioder.store.postgres.partitions import Partitions, days_of
from trioder.store.postgres.pg_connection import Connection, open_connection
from trioder.store.postgres.schema import apply_schema, mirror_fleet
from trioder.store.postgres.store import GROUP_ROWS, PACE_S, QUEUE_BYTES
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import write_batch_ack, write_grant, write_replay
from trioder.wire.records import Batch, Registration, SessionGrant, SingleSample
from trioder.wire.service import AGENT_LINK_STREAM, PROTOCOL
from trioder.wire.uplink import read_uplink

_POLL_S = 0.005
_OPTIONS = [("grpc.max_receive_message_length", 32 * 1024 * 1024), ("grpc.so_reuseport", 0)]

# A grpc.aio.ServicerContext, which has no types.
Call = Any


class _SystemClock(WallClock):
    """The system's wall time; there is no Trio here."""

    def now_s(self) -> float:
        return time.time()


class _AsyncioStore(NoneStore):
    """A `Store` of samples only, which `run` writes; it begins with an empty database."""

    def __init__(self, connection: Connection, db_keys: "array[int]", wall: WallClock) -> None:
        super().__init__()
        self._connection = connection
        self._db_keys = db_keys
        self._partitions = Partitions()
        self._queue = BatchQueue(max_bytes=QUEUE_BYTES, group_rows=GROUP_ROWS)
        self._loose = UnsequencedBuffer(self._queue, max_bytes=QUEUE_BYTES, started_ms=wall.now_ms())

    def submit(self, outbox_id: str, batch_seq: int, samples: Samples) -> bool:
        return self._queue.put(PendingBatch.of(outbox_id, batch_seq, samples))

    def store_unsequenced(self, samples: Samples) -> None:
        self._loose.put(samples)

    async def run(self) -> None:
        """Write what is submitted, until cancelled, in transactions paced as the headend's."""
        while True:
            next_s = time.monotonic() + PACE_S
            self._loose.seal()
            if self._queue:
                await self._write(self._queue.first_group())
            # Under full load the next group is full already.
            while not self._queue.has_full_group and time.monotonic() < next_s:  # noqa: ASYNC110  # seldom
                await asyncio.sleep(_POLL_S)

    async def _write(self, group: Sequence[PendingBatch]) -> None:
        now = datetime.now(UTC)
        await self._partitions.make(self._connection, days_of(group), now.date())
        written = await write_batches(self._connection, group, self._db_keys, rows=True, now=now)
        self._queue.remove_first(len(group))
        if self._listener is not None:
            for outbox_id, mark in written.watermarks.items():
                self._listener.batches_committed(outbox_id, mark)
            if self._queue.take_capacity_available():
                self._listener.capacity_available()


class _AsyncioDownlinkQueue(DownlinkQueue):
    """A downlink queue whose event is asyncio's."""

    def __init__(self) -> None:
        super().__init__()
        self._filled = asyncio.Event()  # type: ignore[assignment]  # with the methods that are used

    def _take_nowait(self) -> PendingDownlink:
        pending = super()._take_nowait()
        self._filled = asyncio.Event()  # type: ignore[assignment]  # as above
        return pending

    async def send(self, call: Call) -> None:
        """Send what is put, until cancelled."""
        while True:
            pending = await self.take()
            if pending.committed_seq is not None:
                await call.write(write_batch_ack(pending.committed_seq))
            if pending.replay_from_seq is not None:
                await call.write(write_replay(pending.replay_from_seq))


async def _serve_agent(
    fleet: Fleet, wall: WallClock, ingest: Ingest, messages: AsyncIterator[pb.AgentToHeadend], call: Call
) -> None:
    registration = read_uplink(await anext(messages), asset_count=0)
    if not isinstance(registration, Registration):
        raise TypeError(registration)
    downlink = _AsyncioDownlinkQueue()
    keys = [fleet.index_by_id[asset_id] for asset_id in registration.asset_ids]
    session = Session(
        session_id=registration.agent_id,
        agent_id=registration.agent_id,
        epoch=registration.epoch,
        protocol=PROTOCOL,
        outbox_id=registration.outbox_id,
        asset_keys=keys,
        batch_keys=keys,
        peer=call.peer(),
        connected_ms=wall.now_ms(),
        downlink=downlink,
    )
    mark = await ingest.session_opened(session)
    grant = SessionGrant(
        session_id=session.session_id,
        committed_batch_seq=mark.batch_seq,
        protocol=PROTOCOL,
        committed_ts_unix_ms=mark.ts_unix_ms,
    )
    await call.write(write_grant(grant))
    sending = asyncio.create_task(downlink.send(call))
    own = set(keys)
    try:
        async for message in messages:
            match read_uplink(message, asset_count=len(keys)):
                case Batch() as batch:
                    ingest.receive_batch(session, batch)
                case SingleSample() as sample if (key := fleet.index_by_id[sample.asset_id]) in own:
                    ingest.receive_single(session, key, sample)
    finally:
        sending.cancel()
        ingest.session_closed(session)


async def _serve(fleet: Fleet, url: str) -> None:
    """Serve the fleet's agents into an empty database."""
    wall, counters = _SystemClock(0.0, 0.0), Counters()
    async with await open_connection(url) as connection:
        await connection.execute("SET TimeZone = 'UTC'")
        await apply_schema(connection)
        store = _AsyncioStore(connection, await mirror_fleet(connection, fleet), wall)
        latest, events = LatestState(fleet), EventBus(counters)
        ingest = Ingest(fleet=fleet, latest=latest, store=store, counters=counters, events=events, wall=wall)
        store.listen(ingest)
        handler = grpc.stream_stream_rpc_method_handler(
            partial(_serve_agent, fleet, wall, ingest),
            request_deserializer=pb.AgentToHeadend.FromString,
            response_serializer=pb.HeadendToAgent.SerializeToString,
        )
        methods = {AGENT_LINK_STREAM.name: handler}
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(AGENT_LINK_STREAM.service, methods)]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        # As the headend does.
        gc.collect()
        gc.freeze()
        print(json.dumps({"port": port}), flush=True)
        await store.run()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(_serve(load_fleet(Path(sys.argv[1])), sys.argv[2]))
