"""A group dispatch over real agents in virtual time: honest batteries are left alone, others are found."""

import random
from dataclasses import replace

import pytest
import trio

from tests.simulation.harness import World, open_world
from tests.unit.headend.parts import find_record, make_fleet
from trioder.domain.assets import Asset
from trioder.domain.dispatch import DispatchRecord, DispatchTarget, GroupRequest
from trioder.domain.fleet import Fleet
from trioder.domain.telemetry import BessState
from trioder.sim.bess import tick_asset
from trioder.store.none import NoneStore

SHARD = 4


def mixed_fleet(count: int, seed: int) -> Fleet:
    """Ramps from a second to 20 minutes for the whole swing, and from 3 minutes to 4 hours of energy."""
    rng = random.Random(seed)
    fleet = make_fleet(count)
    assets = tuple(
        replace(
            asset,
            capacity_mwhr=rng.choice((1.0, 5.0, 80.0)),
            ramp_rate_mw_per_min=rng.choice((1.0, 5.0, 60.0, 6000.0)),
            charge_efficiency=rng.uniform(0.85, 1.0),
            discharge_efficiency=rng.uniform(0.85, 1.0),
        )
        for asset in fleet.assets
    )
    return Fleet(sites=fleet.sites, assets=assets)


def command_all(world: World, mw: float, **asked: object) -> str:
    assert world.headend is not None
    request = GroupRequest(
        target=DispatchTarget(kind="fleet"),
        keys=range(len(world.fleet.assets)),
        mw=mw,
        **asked,  # type: ignore[arg-type]  # a test's shorthand
    )
    return world.headend.dispatcher.dispatch_group(request).dispatch_id


def record_of(world: World, dispatch_id: str) -> DispatchRecord:
    assert world.headend is not None
    found = find_record(world.headend.dispatcher, dispatch_id)
    assert found is not None
    return found


def swapped(asset: Asset, state: BessState, dt_secs: float) -> BessState:
    """It charges when it is to discharge."""
    mirrored = state._replace(setpoint_mw=-state.setpoint_mw)
    return tick_asset(asset, mirrored, dt_secs)._replace(setpoint_mw=state.setpoint_mw)


def dead(asset: Asset, state: BessState, dt_secs: float) -> BessState:
    """It answers and does nothing."""
    return tick_asset(asset, state._replace(setpoint_mw=0.0), dt_secs)._replace(setpoint_mw=state.setpoint_mw)


@pytest.mark.parametrize("seed", range(8))
async def test_fault_free_batteries_of_all_kinds_track_and_are_never_deviating(
    autojump_clock: object, seed: int
) -> None:
    async with open_world(mixed_fleet(16, seed), store=NoneStore(), seed=seed) as world:
        await world.start_agents(shard_size=SHARD)
        await world.until_all_connected()
        await trio.sleep(5)
        assert world.headend is not None
        counters = world.headend.counters
        for mw in (40.0, -25.0, 3.0, 0.0, 90.0):
            dispatch_id = command_all(world, mw, duration_s=180)
            await trio.sleep(190)
            record = record_of(world, dispatch_id)
            assert set(record.by_state) == {"completed"}, record.by_state
            assert record.allocated_mw + record.shortfall_mw == pytest.approx(mw, abs=1e-6)
        assert (counters.dispatches_deviating, counters.dispatches_not_tracked) == (0, 0)


@pytest.mark.parametrize("tick", [swapped, dead])
async def test_what_a_liar_does_not_deliver_the_others_do(autojump_clock: object, tick: object) -> None:
    fleet = make_fleet(8)
    async with open_world(fleet, store=NoneStore(), seed=1) as world:
        await world.start_agents(shard_size=1, numbers=range(7))
        await world.start_agents(shard_size=1, numbers=[7], tick=tick)  # type: ignore[arg-type]  # both are ticks
        await world.until_all_connected()
        await trio.sleep(5)
        dispatch_id = command_all(world, 24.0, duration_s=50)
        await trio.sleep(10 + 4 + 1)
        record = record_of(world, dispatch_id)
        assert record.members[7].state == "not_tracked"
        await trio.sleep(9)
        delivered_mw = sum(world.view(key).telemetry.current_mw for key in range(8))
        assert delivered_mw == pytest.approx(24.0)
        await trio.sleep(40)
        assert record_of(world, dispatch_id).by_state == {"completed": 7, "not_tracked": 1}


async def test_agents_that_connect_after_the_dispatch_take_over_what_is_short(autojump_clock: object) -> None:
    async with open_world(make_fleet(8), store=NoneStore(), seed=2) as world:
        await world.start_agents(shard_size=SHARD, numbers=[0])
        assert world.headend is not None
        sessions = world.headend.sessions
        await world.until(lambda: sessions.assets_connected == SHARD, within_s=15)
        await trio.sleep(5)
        dispatch_id = command_all(world, 60.0, duration_s=600)
        assert record_of(world, dispatch_id).shortfall_mw == 20.0
        await world.start_agents(shard_size=SHARD, numbers=[1])
        await world.until_all_connected()
        await trio.sleep(25)
        record = record_of(world, dispatch_id)
        assert (record.shortfall_mw, record.by_state) == (0.0, {"tracking": 8})
        assert sum(world.view(key).telemetry.current_mw for key in range(8)) == pytest.approx(60.0)
