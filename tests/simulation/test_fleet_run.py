"""A whole fleet in virtual time: it follows setpoints, survives its wires, and delivers every sample once."""

import pytest
import trio

from tests.simulation.harness import TICK_S, World, open_world
from tests.unit.headend.parts import asset_id, make_fleet
from tests.unit.headend.stores import SlowStore
from trioder.domain.dispatch import DispatchRequest
from trioder.store.none import NoneStore

# A pulse that is due just now still has to be computed and carried over.
MARGIN_S = 0.1


def dispatch(world: World, key: int, mw: float, *, duration_s: int | None = None) -> str:
    assert world.headend is not None
    request = DispatchRequest(asset_id=asset_id(key), mw=mw, duration_s=duration_s)
    return world.headend.dispatcher.dispatch(request).state


async def test_the_fleet_connects_and_is_reported_by_its_agents(autojump_clock: object) -> None:
    async with open_world(make_fleet(20), store=NoneStore(), seed=1) as world:
        await world.start_agents(shard_size=5)
        await world.until_all_connected()
        await trio.sleep(TICK_S + MARGIN_S)
        assert [world.view(key).source for key in range(20)] == ["agent"] * 20
        assert [world.view(key).quality for key in range(20)] == ["good"] * 20


async def test_a_dispatch_is_visible_within_one_pulse(autojump_clock: object) -> None:
    async with open_world(make_fleet(10), store=NoneStore(), seed=2) as world:
        await world.start_agents(shard_size=5)
        await world.until_all_connected()
        assert dispatch(world, 7, -6.0, duration_s=20) == "sent"
        await trio.sleep(TICK_S + MARGIN_S)
        seen = world.view(7)
        assert (seen.source, seen.telemetry.setpoint_mw, seen.telemetry.current_mw) == ("agent", -6.0, -6.0)
        await trio.sleep(20)
        assert world.view(7).telemetry.current_mw == 0.0


async def test_a_cut_link_reconnects_under_a_new_session(autojump_clock: object) -> None:
    async with open_world(make_fleet(10), store=NoneStore(), seed=3) as world:
        agents = await world.start_agents(shard_size=5)
        await world.until_all_connected()
        before, other = world.session_of(0), world.session_of(5)
        world.cut(agents[0])
        await world.until(lambda: world.session_of(0) is None, within_s=1)
        await world.until_all_connected(within_s=2)
        assert world.session_of(0) is not before
        assert world.session_of(5) is other


async def test_a_half_open_session_is_superseded_and_its_late_end_harms_nothing(
    autojump_clock: object,
) -> None:
    async with open_world(make_fleet(5), store=NoneStore(), seed=4) as world:
        [agent] = await world.start_agents(shard_size=5)
        await world.until_all_connected()
        before = world.session_of(0)
        world.cut(agent, headend_notices=False)
        await world.until(lambda: world.session_of(0) is not before, within_s=2)
        after = world.session_of(0)
        assert after is not None
        # Long enough for the silence of the old wire to be found.
        await trio.sleep(60)
        assert world.session_of(0) is after
        assert world.view(0).quality == "good"
        assert dispatch(world, 0, 3.0) == "sent"
        await trio.sleep(TICK_S + MARGIN_S)
        assert world.view(0).telemetry.current_mw == 3.0


async def test_a_dispatch_made_while_the_link_is_cut_arrives_afterwards(autojump_clock: object) -> None:
    async with open_world(make_fleet(5), store=NoneStore(), seed=5) as world:
        [agent] = await world.start_agents(shard_size=5)
        await world.until_all_connected()
        world.cut(agent)
        await world.until(lambda: world.session_of(0) is None, within_s=1)
        assert dispatch(world, 0, 4.0) == "queued"
        await world.until_all_connected(within_s=2)
        await trio.sleep(TICK_S + MARGIN_S)
        seen = world.view(0)
        assert (seen.source, seen.telemetry.setpoint_mw) == ("agent", 4.0)


async def test_a_restarted_headend_gets_its_fleet_back(autojump_clock: object) -> None:
    async with open_world(make_fleet(20), store=SlowStore(), seed=6) as world:
        await world.start_agents(shard_size=5)
        await world.until_all_connected()
        with trio.fail_after(1):
            await world.stop_headend()
        await trio.sleep(5)
        await world.start_headend()
        await world.until_all_connected(within_s=15)


@pytest.mark.parametrize("seed", range(4))
async def test_every_sample_is_stored_once_whatever_the_wires_and_the_store_do(
    autojump_clock: object, seed: int
) -> None:
    store = SlowStore(room=20)
    async with open_world(make_fleet(12), store=store, seed=seed) as world:
        agents = await world.start_agents(shard_size=4)
        await world.until_all_connected()
        for _ in range(60):
            await trio.sleep(world.rng.uniform(0, 2 * TICK_S))
            if world.rng.random() < 0.25:
                world.cut(world.rng.choice(agents), headend_notices=world.rng.random() < 0.5)
            else:
                store.commit(world.rng.randrange(10))
        await world.until_all_connected(within_s=60)
        # All works again: the backlog drains.
        for _ in range(100):
            store.commit()
            await trio.sleep(0.5)
        assert len(store.rows) == len(agents)
        for rows in store.rows.values():
            assert rows == list(range(1, len(rows) + 1))
            # From the first pulse to the last but one.
            assert len(rows) * TICK_S > trio.current_time() - 3 * TICK_S
