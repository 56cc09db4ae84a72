"""A whole fleet in one process, and how each of its parts is started, stopped and crashed.

The headend, the agents and the store's logic are the real ones; wires, disks and the database are models.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import trio

from tests.simulation.agent_memory import JournaledMemory
from tests.simulation.database import DatabaseClient, DatabaseServer
from tests.simulation.wire import Wire
from tests.unit.headend.parts import START_UNIX_S
from tests.unit.process.fake_clock import FakeSystemClock
from trioder.agent.config import AgentConfig
from trioder.agent.service import RunningAgent, run_agent
from trioder.api.context import Headend
from trioder.domain.fleet import Fleet, shard_fleet
from trioder.headend.service import open_headend
from trioder.process.addresses import Endpoint
from trioder.process.wall_time import WallClock
from trioder.rpc import serve_connection
from trioder.store.postgres.open import open_store_over
from trioder.store.postgres.store import PostgresStore
from trioder.store.records import NOTHING_COMMITTED

# How long everything may take to be well again once the attacks have ended.
CALM_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What is to be attacked, and how.

    Attributes:
        lasts_s: virtual seconds of attacks.
        attack_every_s: on average.
        queue_bytes: of the store; small enough to overflow.
    """

    fleet: Fleet
    shard_size: int
    tick_s: float
    lasts_s: float
    attack_every_s: float
    queue_bytes: int


class Agent:
    """One agent's slot: its programs start and end, its memory stays.

    Attributes:
        system: the clock of its machine; None for the world's own, which is right and never set.
    """

    def __init__(self, config: AgentConfig, memory: JournaledMemory) -> None:
        self.config = config
        self.memory = memory
        self.wire: Wire | None = None
        self.program = trio.CancelScope()
        self.running: RunningAgent | None = None
        self.stopping = trio.Event()
        self.crashes = 0
        self.system: FakeSystemClock | None = None


@dataclass(slots=True)
class Report:
    """The results.

    Attributes:
        digest: of everything that the database has; the same for the same seed.
        happened: how often each attack was made.
        errors: what was logged as an error.
    """

    digest: str = ""
    rows: int = 0
    happened: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    queue_bytes_max: int = 0
    commits_unheard: int = 0
    late_commits: int = 0
    refused: int = 0


class World:
    """The headend, the agents, the wires between them and the database, as they stand.

    Attributes:
        system: the clock of the headend's machine; None for the world's own.
    """

    def __init__(self, storm: Storm, *, rng: random.Random, nursery: trio.Nursery, report: Report) -> None:
        self.storm = storm
        self.rng = rng
        self.report = report
        self.wall = WallClock(START_UNIX_S, trio.current_time())
        self.system: FakeSystemClock | None = None
        self.server = DatabaseServer(self._own_rng(), nursery)
        self.headend: Headend | None = None
        self.store: PostgresStore | None = None
        self._client: DatabaseClient | None = None
        self._program = trio.CancelScope()
        self._stop = trio.Event()
        self._down = trio.Event()
        self._connections: trio.Nursery | None = None
        self._nursery = nursery
        self.agents = [
            Agent(
                AgentConfig(
                    agent_id=f"agent-{number}",
                    headend=Endpoint("headend", 50051),
                    tick_s=storm.tick_s,
                    phase=rng.random(),
                    assets=assets,
                ),
                JournaledMemory(
                    str(UUID(int=rng.getrandbits(128), version=4)), [asset.id for asset in assets]
                ),
            )
            for number, assets in enumerate(shard_fleet(storm.fleet, storm.shard_size))
        ]

    async def start(self) -> None:
        await self._nursery.start(self._run_headend)
        for agent in self.agents:
            self._nursery.start_soon(self._run_agent, agent)

    async def start_headend(self) -> None:
        if self.headend is None:
            await self._nursery.start(self._run_headend)

    async def crash_headend(self, *, noticed: bool) -> None:
        """All of it ends at once; the database's connection takes its course."""
        if self._client is not None:
            self._client.die()
        for agent in self.agents:
            if agent.wire is not None:
                agent.wire.cut(near_notices=noticed)
        self.headend = None
        self._program.cancel()
        await self._down.wait()

    async def stop_headend(self) -> None:
        self._stop.set()
        await self._down.wait()

    def crash_agent(self, agent: Agent, *, noticed: bool) -> None:
        if agent.wire is not None:
            agent.wire.cut(far_notices=noticed)
        agent.program.cancel()

    def check_bounds(self) -> None:
        if self.store is not None:
            queue_bytes = self.store.stats.queue_bytes
            self.report.queue_bytes_max = max(self.report.queue_bytes_max, queue_bytes)
            assert queue_bytes <= self.storm.queue_bytes

    def waiting(self, agent: Agent) -> int:
        """How many of the agent's batches the database does not have."""
        mark = self.server.marks.get(agent.memory.outbox_id, NOTHING_COMMITTED)
        return agent.memory.batches.last_seq - mark.batch_seq

    def keeps_up(self, agent: Agent) -> bool:
        return agent.running is not None and self.waiting(agent) <= 1

    async def until(self, condition: Callable[[], bool], what: str, within_s: float = CALM_WITHIN_S) -> None:
        """Wait until it holds, checked every 0.1 s."""
        with trio.move_on_after(within_s):
            while not condition():
                await trio.sleep(0.1)
            return
        raise AssertionError(f"within {within_s:g} s of calm: not so: {what}")

    def _wall_of(self, system: FakeSystemClock | None) -> WallClock:
        return self.wall if system is None else WallClock.following(system)

    def _own_rng(self) -> random.Random:
        return random.Random(self.rng.random())

    async def _run_headend(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._program, self._stop, self._down = trio.CancelScope(), trio.Event(), trio.Event()
        self._client = DatabaseClient(self.server)
        wall = self._wall_of(self.system)
        store = PostgresStore(self._client, wall=wall, queue_bytes=self.storm.queue_bytes, group_rows=1_000)
        with self._program:
            async with (
                open_store_over(store),
                open_headend(
                    fleet=self.storm.fleet, store=store, wall=wall, rng=self._own_rng(), tick_s=0
                ) as headend,
                trio.open_nursery() as self._connections,
            ):
                self.headend, self.store = headend, store
                task_status.started()
                await self._stop.wait()
                self.headend = None
                headend.closing.set()
        self.headend = self.store = self._client = None
        self._down.set()

    async def _run_agent(self, agent: Agent) -> None:
        # run_agent calls task_status.
        async def run_once(*, task_status: trio.TaskStatus[RunningAgent]) -> None:  # noqa: ASYNC128
            await run_agent(
                agent.config,
                dial=partial(self._dial, agent),
                wall=self._wall_of(agent.system),
                rng=self._own_rng(),
                report=lambda _: None,
                store=agent.memory,
                stopping=agent.stopping,
                task_status=task_status,
            )

        while not agent.stopping.is_set():
            with trio.CancelScope() as agent.program:
                async with trio.open_nursery() as nursery:
                    agent.running = await nursery.start(run_once)
            agent.running = None
            if not agent.stopping.is_set():
                agent.crashes += 1
                agent.memory.crash()
                with trio.move_on_after(self.rng.uniform(0, 20)):
                    await agent.stopping.wait()

    async def _dial(self, agent: Agent) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.headend is None or self._connections is None:
            raise ConnectionRefusedError("no headend")
        wire = agent.wire = Wire(delay_s=self.rng.uniform(0, 0.02))
        self._connections.start_soon(
            partial(serve_connection, wire.far, self.headend.services, drain=self.headend.closing)
        )
        return wire.near
