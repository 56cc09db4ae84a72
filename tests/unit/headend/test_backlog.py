"""How far an agent is behind: by the commits of its batches, not by their receipt."""

import trio

from tests.unit.headend.driver import NOW, ScriptedAgent, open_rig, pulse
from tests.unit.headend.stores import SlowStore


async def send_all(agent: ScriptedAgent, *seqs: int) -> None:
    """A batch a second, sent at once."""
    for seq in seqs:
        await agent.send(pulse(seq, 0, ts_ms=NOW + seq * 1000))
    await trio.testing.wait_all_tasks_blocked()


async def test_an_agent_that_has_sent_nothing_is_not_behind(autojump_clock: object) -> None:
    async with open_rig() as rig:
        await (await rig.agent()).register(0)
        await trio.sleep(100)
        assert rig.headend.ingest.furthest_behind_s() == 0


async def test_an_agent_whose_batches_are_committed_at_once_is_as_far_behind_as_its_last_pulse(
    autojump_clock: object,
) -> None:
    async with open_rig() as rig:
        agent = await rig.registered(0)
        await trio.sleep(3)
        await send_all(agent, 1, 2, 3)
        assert rig.headend.ingest.furthest_behind_s() == 0
        await trio.sleep(4)
        assert rig.headend.ingest.furthest_behind_s() == 4


async def test_batches_waiting_for_the_database_count_as_behind(autojump_clock: object) -> None:
    store = SlowStore()
    async with open_rig(store=store) as rig:
        agent = await rig.registered(0)
        await trio.sleep(1)
        await send_all(agent, 1)
        store.commit()
        await trio.sleep(59)
        await send_all(agent, *range(2, 60))
        assert rig.headend.ingest.furthest_behind_s() == 59
        store.commit()
        await send_all(agent, 60)
        store.commit()
        assert rig.headend.ingest.furthest_behind_s() == 0


async def test_refused_batches_count_as_behind(autojump_clock: object) -> None:
    async with open_rig(store=SlowStore(room=0)) as rig:
        agent = await rig.registered(0)
        await trio.sleep(60)
        await send_all(agent, *range(1, 60))
        assert rig.headend.ingest.furthest_behind_s() == 59


async def test_the_furthest_behind_is_reported_until_it_leaves(autojump_clock: object) -> None:
    store = SlowStore()
    async with open_rig(store=store) as rig:
        behind, ahead = await rig.agent(), await rig.agent()
        await behind.register(0, agent_id="behind", outbox_id="a")
        await ahead.register(1, agent_id="ahead", outbox_id="b")
        await trio.sleep(1)
        await send_all(behind, 1)
        await trio.sleep(9)
        await send_all(ahead, 10)
        assert rig.headend.ingest.furthest_behind_s() == 9
        await behind.disconnect()
        assert rig.headend.ingest.furthest_behind_s() == 0


async def test_a_clock_that_is_ahead_is_not_behind(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await rig.registered(0)
        await send_all(agent, 1, 2, 3)
        assert rig.headend.ingest.furthest_behind_s() == 0


async def test_an_outbox_is_as_large_as_the_newest_batch_less_the_committed_ones(
    autojump_clock: object,
) -> None:
    store = SlowStore()
    async with open_rig(store=store) as rig:
        agent, other = await rig.agent(), await rig.agent()
        await agent.register(0, agent_id="agent-1", outbox_id="box-1")
        await other.register(1, agent_id="agent-2", outbox_id="box-2")
        early = pulse(40, 0)
        early.telemetry_batch.live_only = True
        assert rig.headend.ingest.outbox_batches() == (0, 0)
        await send_all(agent, 1, 2)
        await agent.send(early)
        await send_all(other, 1)
        assert rig.headend.ingest.outbox_batches() == (41, 40)
        store.commit()
        await trio.testing.wait_all_tasks_blocked()
        assert rig.headend.ingest.outbox_batches() == (38, 38)
        await agent.disconnect()
        assert rig.headend.ingest.outbox_batches() == (0, 0)
