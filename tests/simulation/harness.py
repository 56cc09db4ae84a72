"""A whole fleet in one process and in virtual time: the real headend, real agents, and wires that break.

Everything that chance decides comes from one seed.
"""

import math
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import trio
import trio.testing

from tests.unit.headend.parts import START_UNIX_S
from trioder.agent.config import AgentConfig
from trioder.agent.scenario import make_layer
from trioder.agent.service import RunningAgent, run_agent
from trioder.api.context import Headend
from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, shard_fleet
from trioder.domain.scenario import Scenario
from trioder.domain.telemetry import BessState
from trioder.gateway.sessions import Session
from trioder.headend.service import open_headend
from trioder.ingest.latest_values import LatestView
from trioder.process.addresses import Endpoint
from trioder.process.wall_time import WallClock
from trioder.rpc import serve_connection
from trioder.sim.bess import tick_asset
from trioder.store.interface import Store

TICK_S = 4.0


class WireEnd(trio.abc.Stream):
    """One end of a wire; once it is cut, whatever is done with it fails, as on a reset connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._waiting: set[trio.CancelScope] = set()
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True
        for scope in self._waiting:
            scope.cancel()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._uncut():
            await self._stream.send_all(data)
            return
        raise trio.BrokenResourceError("the wire was cut")

    async def wait_send_all_might_not_block(self) -> None:
        with self._uncut():
            await self._stream.wait_send_all_might_not_block()
            return
        raise trio.BrokenResourceError("the wire was cut")

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        with self._uncut():
            return await self._stream.receive_some(max_bytes)
        raise trio.BrokenResourceError("the wire was cut")

    async def aclose(self) -> None:
        if self.is_cut:
            # A cut wire reports the other end nothing.
            await trio.lowlevel.checkpoint()
        else:
            await self._stream.aclose()

    @contextmanager
    def _uncut(self) -> Iterator[None]:
        """Left early, without an exception, when the wire is cut."""
        with trio.CancelScope() as scope:
            if self.is_cut:
                scope.cancel()
            self._waiting.add(scope)
            try:
                yield
            finally:
                self._waiting.discard(scope)


class World:
    """A headend, its agents and the wires between them.

    Attributes:
        headend: the one that runs now; None while there is none.
        agents: the parts of each.
        rng: for whatever a test leaves to chance.
    """

    def __init__(self, fleet: Fleet, *, store: Store, seed: int, nursery: trio.Nursery) -> None:
        self.fleet = fleet
        self.store = store
        self.rng = random.Random(seed)
        self.wall = WallClock(START_UNIX_S, trio.current_time())
        self.headend: Headend | None = None
        self.agents: dict[str, RunningAgent] = {}
        self._nursery = nursery
        self._stop_headend = trio.Event()
        self._headend_stopped = trio.Event()
        self._wires: dict[str, tuple[WireEnd, WireEnd]] = {}

    async def start_headend(self) -> None:
        """Start a headend; agents that dial from now on reach it."""
        self.headend = await self._nursery.start(self._run_headend)

    async def stop_headend(self) -> None:
        """End the headend in good order."""
        self._stop_headend.set()
        await self._headend_stopped.wait()

    async def start_agents(
        self,
        *,
        shard_size: int,
        numbers: Collection[int] | None = None,
        tick: Callable[[Asset, BessState, float], BessState] = tick_asset,
        scenario: Scenario | None = None,
        comms_loss_hold_s: float = math.inf,
    ) -> list[str]:
        """Start one agent a shard (only `numbers`, if given), each with its own phase; return the ids.

        The time of a scenario starts now.
        """
        agent_ids = []
        for number, assets in enumerate(shard_fleet(self.fleet, shard_size)):
            if numbers is not None and number not in numbers:
                continue
            config = AgentConfig(
                agent_id=f"shard-{number}",
                headend=Endpoint("headend", 50051),
                tick_s=TICK_S,
                phase=self.rng.random(),
                assets=assets,
                comms_loss_hold_s=comms_loss_hold_s,
                scenario=None if scenario is None else scenario.cut(assets),
            )
            agent = partial(
                run_agent,
                config,
                dial=partial(self._dial, config.agent_id),
                wall=self.wall,
                rng=random.Random(self.rng.random()),
                report=lambda _: None,
                tick=tick,
                scenario=make_layer(config.scenario, assets, agent_id=config.agent_id, wall=self.wall),
            )
            self.agents[config.agent_id] = await self._nursery.start(agent)
            agent_ids.append(config.agent_id)
        return agent_ids

    def cut(self, agent_id: str, *, headend_notices: bool = True) -> None:
        """Break the wire of an agent; the headend may be left to find out by silence."""
        near, far = self._wires[agent_id]
        near.cut()
        if headend_notices:
            far.cut()

    def session_of(self, asset_key: int) -> Session | None:
        """The live session of an asset."""
        assert self.headend is not None
        return self.headend.sessions.session_of(asset_key)

    def view(self, asset_key: int) -> LatestView:
        """The latest sample of an asset."""
        assert self.headend is not None
        view = self.headend.latest.view(asset_key, self.wall.now_ms())
        assert view is not None
        return view

    async def until(self, condition: Callable[[], bool], *, within_s: float) -> None:
        """Wait until a condition holds, checked every 10 ms."""
        with trio.fail_after(within_s):
            while not condition():
                await trio.sleep(0.01)

    async def until_all_connected(self, *, within_s: float = 15.0) -> None:
        """Wait until every asset of the fleet has a live session."""
        assert self.headend is not None
        sessions = self.headend.sessions
        await self.until(lambda: sessions.assets_connected == len(self.fleet.assets), within_s=within_s)

    async def _run_headend(self, *, task_status: trio.TaskStatus[Headend] = trio.TASK_STATUS_IGNORED) -> None:
        self._stop_headend, self._headend_stopped = trio.Event(), trio.Event()
        async with (
            open_headend(
                fleet=self.fleet,
                store=self.store,
                wall=self.wall,
                rng=random.Random(self.rng.random()),
                tick_s=TICK_S,
            ) as headend,
            trio.open_nursery() as self._connections,
        ):
            task_status.started(headend)
            await self._stop_headend.wait()
            self.headend = None
            headend.closing.set()
        self._headend_stopped.set()

    async def _dial(self, agent_id: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.headend is None:
            raise ConnectionRefusedError("no headend")
        near, far = map(WireEnd, trio.testing.memory_stream_pair())
        self._wires[agent_id] = near, far
        self._connections.start_soon(
            partial(serve_connection, far, self.headend.services, drain=self.headend.closing)
        )
        return near


@asynccontextmanager
async def open_world(
    fleet: Fleet, *, store: Store, seed: int, within_s: float = 3600.0
) -> AsyncIterator[World]:
    """Yield a world without agents, its headend running; a test that hangs fails after a virtual hour."""
    with trio.fail_after(within_s):
        async with trio.open_nursery() as nursery:
            world = World(fleet, store=store, seed=seed, nursery=nursery)
            await world.start_headend()
            yield world
            nursery.cancel_scope.cancel()
