"""`python -m scripts.benchmarks.grpcio_peer`: the protocol's ingest served by grpcio's asyncio server.

Decoding, checks, sequence, latest state and the transaction are the headend's own code; the transport and the
event loop are grpcio's and asyncio's. It writes its port to standard output, and ends with SIGTERM.
"""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import grpc  # type: ignore[import-untyped]

# Before all else of the store.
import scripts.benchmarks.plain_asyncio  # noqa: F401  # isort: skip
from scripts.benchmarks.grpcio_store import AsyncioStore
from trioder.domain.fleet import Fleet
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.fleet import load_fleet
from trioder.gateway.downlink_queue import DownlinkQueue
from trioder.gateway.sessions import Session
from trioder.ingest.latest import LatestState
from trioder.ingest.service import Ingest
from trioder.process.wall_time import WallClock
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import write_batch_ack, write_grant, write_replay
from trioder.wire.records import Batch, Registration, SessionGrant, SingleSample
from trioder.wire.service import AGENT_LINK_STREAM, PROTOCOL
from trioder.wire.uplink import read_uplink

_MAX_MESSAGE_BYTES = 32 * 1024 * 1024

# A grpc.aio.ServicerContext, which has no types.
Call = Any


class _SystemClock(WallClock):
    """The system's wall time; there is no Trio here."""

    def now_s(self) -> float:
        return time.time()


class AsyncioDownlinkQueue(DownlinkQueue):
    """A downlink queue for an asyncio task: the newest acknowledgement, and a replay request."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def put_ack(self, batch_seq: int) -> None:
        """See `DownlinkQueue`."""
        super().put_ack(batch_seq)
        self._changed.set()

    def put_replay(self, from_batch_seq: int) -> None:
        """See `DownlinkQueue`."""
        super().put_replay(from_batch_seq)
        self._changed.set()

    async def send(self, call: Call) -> None:
        """Send what is put, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            pending = self._take_nowait()
            if pending.committed_seq is not None:
                await call.write(write_batch_ack(pending.committed_seq))
            if pending.replay_from_seq is not None:
                await call.write(write_replay(pending.replay_from_seq))


class _Service:
    """Serves the agents' streams; one for all."""

    def __init__(self, fleet: Fleet, store: AsyncioStore, wall: WallClock) -> None:
        self._fleet = fleet
        self._wall = wall
        counters = Counters()
        self._ingest = Ingest(
            fleet=fleet,
            latest=LatestState(fleet),
            store=store,
            counters=counters,
            events=EventBus(counters),
            wall=wall,
        )
        store.listen(self._ingest)

    async def serve(self, messages: AsyncIterator[pb.AgentToHeadend], call: Call) -> None:
        registration = read_uplink(await anext(messages), asset_count=0)
        if not isinstance(registration, Registration):
            await call.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be Register")
            return
        downlink = AsyncioDownlinkQueue()
        keys = [self._fleet.index_by_id[asset_id] for asset_id in registration.asset_ids]
        session = Session(
            session_id=registration.agent_id,
            agent_id=registration.agent_id,
            epoch=registration.epoch,
            protocol=PROTOCOL,
            outbox_id=registration.outbox_id,
            asset_keys=keys,
            batch_keys=keys,
            peer=call.peer(),
            connected_ms=self._wall.now_ms(),
            downlink=downlink,
        )
        mark = await self._ingest.session_opened(session)
        grant = SessionGrant(
            session_id=session.session_id,
            committed_batch_seq=mark.batch_seq,
            protocol=PROTOCOL,
            committed_ts_unix_ms=mark.ts_unix_ms,
        )
        await call.write(write_grant(grant))
        sending = asyncio.create_task(downlink.send(call))
        own = set(session.asset_keys)
        try:
            async for message in messages:
                self._receive(message, session, own)
        finally:
            sending.cancel()
            self._ingest.session_closed(session)

    def _receive(self, message: pb.AgentToHeadend, session: Session, own: set[int]) -> None:
        match read_uplink(message, asset_count=len(session.asset_keys)):
            case Batch() as batch:
                self._ingest.receive_batch(session, batch)
            case SingleSample() as sample:
                key = self._fleet.index_by_id[sample.asset_id]
                if key in own:
                    self._ingest.receive_single(session, key, sample)


@click.command()
@click.option("--fleet", "fleet_path", type=click.Path(path_type=Path), required=True)
@click.option("--database", "url", required=True)
def main(*, fleet_path: Path, url: str) -> None:
    """Serve the fleet's agents into an empty database."""
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(_serve(load_fleet(fleet_path), url))


async def _serve(fleet: Fleet, url: str) -> None:
    wall = _SystemClock(0.0, 0.0)
    store = AsyncioStore(url, fleet=fleet, wall=wall)
    service = _Service(fleet, store, wall)
    server = grpc.aio.server(
        options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)]
    )
    handler = grpc.stream_stream_rpc_method_handler(
        service.serve,
        request_deserializer=pb.AgentToHeadend.FromString,
        response_serializer=pb.HeadendToAgent.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(AGENT_LINK_STREAM.service, {AGENT_LINK_STREAM.name: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(store.run())
        await store.ready.wait()
        await server.start()
        # As the headend does.
        gc.collect()
        gc.freeze()
        print(port, flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    main()
