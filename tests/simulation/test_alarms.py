"""Real agents that are killed and return: the alarms are exactly those that an operator expects."""

import random
from functools import partial

import pytest
import trio

from tests.alarms import Listed, list_alarms
from tests.simulation.harness import TICK_S, World, open_world
from tests.unit.headend.parts import make_fleet
from trioder.agent.config import AgentConfig
from trioder.agent.service import run_agent
from trioder.domain.fleet import shard_fleet
from trioder.process.addresses import Endpoint
from trioder.store.none import NoneStore

SHARD = 10


class Program:
    """An agent that can be killed, and started again."""

    def __init__(self, world: World, number: int, nursery: trio.Nursery) -> None:
        self._world = world
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self.config = AgentConfig(
            agent_id=f"shard-{number}",
            headend=Endpoint("headend", 50051),
            tick_s=TICK_S,
            phase=0.5,
            assets=shard_fleet(world.fleet, SHARD)[number],
        )

    def start(self) -> None:
        self._scope = trio.CancelScope()
        self._nursery.start_soon(self._run)

    def kill(self) -> None:
        """Without a farewell; the headend finds out by silence."""
        self._world.cut(self.config.agent_id, headend_notices=False)
        self._scope.cancel()

    async def _run(self) -> None:
        with self._scope:
            await run_agent(
                self.config,
                dial=partial(self._world._dial, self.config.agent_id),  # as its own agents
                wall=self._world.wall,
                rng=random.Random(1),
                report=lambda _: None,
            )


def alarms(world: World) -> list[Listed]:
    assert world.headend is not None
    return list(list_alarms(world.headend))


async def test_a_killed_agent_is_one_alarm_and_its_return_clears_it(autojump_clock: object) -> None:
    async with open_world(make_fleet(30), store=NoneStore(), seed=3) as world, trio.open_nursery() as nursery:
        await world.start_agents(shard_size=SHARD, numbers={0, 1})
        agent = Program(world, 2, nursery)
        agent.start()
        await world.until_all_connected()
        await trio.sleep(120.0)
        assert alarms(world) == []
        killed_s = trio.current_time()
        agent.kill()
        await trio.sleep(60.0)
        agent.start()
        await world.until_all_connected()
        returned_s = trio.current_time()
        await trio.sleep(120.0)
        [alarm] = alarms(world)
        assert alarm[:4] == ("away", "major", "agent shard-2", SHARD)
        # At most 15 s until the silence is noticed, and 10 s of delay.
        assert killed_s + 10 < alarm.raised_s < killed_s + 27
        assert alarm.cleared_s == pytest.approx(returned_s + 5.0, abs=2.0)
        nursery.cancel_scope.cancel()


async def test_short_cuts_of_every_link_are_no_alarms(autojump_clock: object) -> None:
    async with open_world(make_fleet(30), store=NoneStore(), seed=4) as world:
        agents = await world.start_agents(shard_size=SHARD)
        await world.until_all_connected()
        for _ in range(20):
            for agent_id in agents:
                world.cut(agent_id)
            await world.until_all_connected(within_s=9)
            await trio.sleep(5.0)
        assert alarms(world) == []


async def test_a_restarted_headend_whose_agents_return_has_no_alarm(autojump_clock: object) -> None:
    async with open_world(make_fleet(30), store=NoneStore(), seed=5) as world:
        await world.start_agents(shard_size=SHARD)
        await world.until_all_connected()
        await world.stop_headend()
        await trio.sleep(20.0)
        await world.start_headend()
        await world.until_all_connected(within_s=60)
        await trio.sleep(120.0)
        assert alarms(world) == []
