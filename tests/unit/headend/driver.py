"""A headend in memory, and agents whose every message a test sends itself."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio
import trio.testing

from tests.unit.headend.parts import START_UNIX_S, asset_id, make_fleet
from trioder.api.context import Headend
from trioder.domain.dispatch import Setpoint
from trioder.domain.fleet import Fleet
from trioder.headend.service import open_headend
from trioder.process.wall_time import WallClock
from trioder.rpc import ClientCall, RpcError, open_channel, serve_connection
from trioder.store.interface import Store
from trioder.store.none import NoneStore
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import read_downlink
from trioder.wire.records import Batch, Downlink, SessionGrant, Setpoints
from trioder.wire.service import AGENT_LINK_STREAM
from trioder.wire.uplink import write_batch

NOW = int(START_UNIX_S * 1000)


class ScriptedAgent:
    """One stream to the headend."""

    def __init__(self, call: ClientCall[pb.AgentToHeadend, pb.HeadendToAgent]) -> None:
        self.call = call
        self.leaving = trio.Event()
        self.left = trio.Event()

    async def disconnect(self) -> None:
        """Cut the connection, and wait until the headend has noticed."""
        self.leaving.set()
        await self.left.wait()
        await trio.testing.wait_all_tasks_blocked()

    async def send(self, message: pb.AgentToHeadend) -> None:
        await self.call.send(message)

    async def receive(self) -> Downlink | None:
        return read_downlink(await self.call.receive())

    async def setpoints(self) -> Sequence[Setpoint]:
        """Receive the next message, which must have setpoints, and return them."""
        received = await self.receive()
        assert isinstance(received, Setpoints)
        return received.setpoints

    async def register(
        self, *keys: int, agent_id: str = "agent", epoch: int = 1, outbox_id: str = "box"
    ) -> SessionGrant:
        await self.send(registration(*keys, agent_id=agent_id, epoch=epoch, outbox_id=outbox_id))
        grant = await self.receive()
        assert isinstance(grant, SessionGrant)
        return grant

    async def refusal(self) -> RpcError:
        """Listen until the headend ends the stream, and return how."""
        try:
            async for _ in self.call:
                pass
        except RpcError as error:
            return error
        raise AssertionError("the stream ended well")


class Rig:
    """A running headend and the way to it."""

    def __init__(self, headend: Headend, nursery: trio.Nursery) -> None:
        self.headend = headend
        self._nursery = nursery

    async def agent(self) -> ScriptedAgent:
        """One with a connection of its own, which it keeps until it disconnects or the test ends."""
        agent: ScriptedAgent = await self._nursery.start(self._connect)
        return agent

    async def registered(
        self, *keys: int, agent_id: str = "agent", epoch: int = 1, outbox_id: str = "box"
    ) -> ScriptedAgent:
        """One whose session is open."""
        agent = await self.agent()
        await agent.register(*keys, agent_id=agent_id, epoch=epoch, outbox_id=outbox_id)
        return agent

    async def _connect(
        self, *, task_status: trio.TaskStatus[ScriptedAgent] = trio.TASK_STATUS_IGNORED
    ) -> None:
        near, far = trio.testing.memory_stream_pair()
        self._nursery.start_soon(partial(serve_connection, far, self.headend.services))
        async with (
            open_channel(near, authority="headend") as channel,
            channel.open_call(AGENT_LINK_STREAM) as call,
        ):
            agent = ScriptedAgent(call)
            task_status.started(agent)
            await agent.leaving.wait()
        agent.left.set()


@asynccontextmanager
async def open_rig(
    *,
    assets: int = 3,
    store: Store | None = None,
    tick_s: float = 0,
    read_fleet: Callable[[], Fleet] | None = None,
    wall: WallClock | None = None,
    within_s: float = 3600,
) -> AsyncIterator[Rig]:
    """Yield a headend over `store`; a test that hangs fails, by default after a virtual hour."""
    with trio.fail_after(within_s):
        async with (
            open_headend(
                fleet=make_fleet(assets),
                store=store or NoneStore(),
                wall=wall or WallClock(START_UNIX_S, trio.current_time()),
                rng=random.Random(11),
                tick_s=tick_s,
                read_fleet=read_fleet,
            ) as headend,
            trio.open_nursery() as nursery,
        ):
            yield Rig(headend, nursery)
            nursery.cancel_scope.cancel()


def registration(
    *keys: int, agent_id: str = "agent", epoch: int = 1, outbox_id: str = "box", protocol: int = 1
) -> pb.AgentToHeadend:
    return pb.AgentToHeadend(
        register=pb.Register(
            assets=[pb.AssetDescriptor(asset_id=asset_id(key)) for key in keys],
            agent_id=agent_id,
            epoch=epoch,
            outbox_id=outbox_id,
            protocol=protocol,
        )
    )


def pulse(
    seq: int, *indexes: int, soc: float = 20.0, mw: float = 1.0, ts_ms: int | None = None
) -> pb.AgentToHeadend:
    rows = len(indexes)
    return write_batch(
        Batch(
            batch_seq=seq,
            ts_unix_ms=ts_ms or NOW + seq,
            asset_index=indexes,
            soc_mwhr=[soc] * rows,
            current_mw=[mw] * rows,
            setpoint_mw=[1.0] * rows,
            available_discharge_mw=[10.0] * rows,
            available_charge_mw=[10.0] * rows,
        )
    )
