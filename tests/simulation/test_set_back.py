"""An agent whose memory is an older copy, and which has made more batches than the headend has of it."""

import copy
import random

import trio
import trio.testing

from tests.simulation.world import Agent, Report, Storm, World
from tests.unit.headend.parts import make_fleet
from trioder.wire.uplink import batch_ts_unix_ms

STORM = Storm(
    fleet=make_fleet(3), shard_size=3, tick_s=4.0, lasts_s=0.0, attack_every_s=1.0, queue_bytes=100_000
)


def kept_times(world: World, outbox_id: str) -> list[int]:
    return [ts_ms for batch in world.server.batches[outbox_id] for ts_ms in batch.run_ts_unix_ms]


def made_times(agent: Agent, *, after_seq: int = 0) -> list[int]:
    journal = agent.memory.batches.journal
    return [batch_ts_unix_ms(payload) for seq, payload in journal.items() if seq > after_seq]


def is_connected(agent: Agent) -> bool:
    return agent.running is not None and agent.running.client.connected


async def test_what_is_made_after_a_restore_is_kept_although_its_numbers_are_the_headends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        world = World(STORM, rng=random.Random(3), nursery=nursery, report=Report())
        await world.start()
        [agent] = world.agents
        await trio.sleep(60)
        older = copy.deepcopy(agent.memory)
        await trio.sleep(60)
        before, former = older.outbox_id, agent.memory
        await world.crash_headend(noticed=True)
        mark = world.server.marks[before]
        world.crash_agent(agent, noticed=True)
        agent.memory = older
        copied_seq = older.batches.last_seq
        assert copied_seq < mark.batch_seq
        # The headend is down for long enough that the copy's numbers pass those that are committed.
        await world.until(lambda: older.batches.last_seq > mark.batch_seq + 5, "the copy has made more")
        assert older.outbox_id == before
        assert older.batches.read(mark.batch_seq) is not None

        await world.start_headend()
        await world.until(lambda: older.outbox_id != before, "it goes on in a new outbox")
        await world.until(lambda: is_connected(agent) and world.keeps_up(agent), "the backlog is worked off")
        agent.stopping.set()
        await world.until(lambda: world.waiting(agent) == 0, "the last batches are committed")
        assert world.headend is not None
        assert world.headend.counters.outboxes_replaced == 1
        assert kept_times(world, older.outbox_id) == made_times(agent, after_seq=copied_seq)
        # In the old outbox is what was made by the agent that the copy is older than, and nothing else.
        assert kept_times(world, before) == [
            batch_ts_unix_ms(former.batches.journal[seq]) for seq in range(1, mark.batch_seq + 1)
        ]
        nursery.cancel_scope.cancel()


async def test_reconnecting_with_what_is_committed_but_not_acknowledged_is_no_set_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        world = World(STORM, rng=random.Random(4), nursery=nursery, report=Report())
        world.server.delay_s = 3.0
        await world.start()
        [agent] = world.agents
        unacknowledged = 0
        for crashes in range(400):
            # About every fifteenth crash falls between a commit and its acknowledgement.
            if crashes >= 40 and unacknowledged:
                break
            await trio.sleep(world.rng.uniform(1, 8))
            mark = world.server.marks.get(agent.memory.outbox_id)
            unacknowledged += mark is not None and agent.memory.batches.first_seq <= mark.batch_seq
            world.crash_agent(agent, noticed=True)
            await world.crash_headend(noticed=True)
            await trio.sleep(world.rng.uniform(0, 8))
            await world.start_headend()
            await world.until(lambda: agent.running is not None, "the agent runs")
        outbox_ids = {agent.memory.outbox_id}
        # An agent that stops waits for its last batches, but not for a database as slow as that.
        world.server.delay_s = 0.01
        # One that has no session when it is stopped keeps what it has for its next start.
        await world.until(lambda: is_connected(agent) and world.keeps_up(agent), "the backlog is worked off")
        agent.stopping.set()
        await world.until(lambda: world.waiting(agent) == 0, "the last batches are committed")
        # Else nothing was tried.
        assert unacknowledged > 0
        assert set(world.server.batches) == outbox_ids
        assert kept_times(world, agent.memory.outbox_id) == made_times(agent)
        nursery.cancel_scope.cancel()
