"""Five agents in a hundred lie: sums and splits are those of the honest, exactly once holds, nothing grows.

`--seeds N` runs that many, `--seed K` the one that failed.
"""

import random
from collections.abc import Sequence
from functools import partial

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.simulation.harness import TICK_S, World, open_world
from tests.simulation.liars import LIES, Liar
from tests.unit.headend.parts import asset_id, make_fleet, newest_records
from tests.unit.headend.stores import SlowStore
from trioder.api.context import Headend
from trioder.api.sums import Sums, add_assets
from trioder.domain.dispatch import DispatchRequest, DispatchTarget, GroupRequest
from trioder.rpc import serve_connection
from trioder.schemas.resources import PowerRow

ASSETS, SHARD = 1_000, 25
# Two of the forty agents.
LYING = 2
LASTS_S = 120.0
ORDERS = 200


def headend_of(world: World) -> Headend:
    assert world.headend is not None
    return world.headend


def start_liars(world: World, nursery: trio.Nursery, numbers: Sequence[int], seed: int) -> list[Liar]:
    def dial() -> trio.abc.Stream:
        near, far = trio.testing.memory_stream_pair()
        nursery.start_soon(partial(serve_connection, far, headend_of(world).services))
        return near

    liars = []
    for place, number in enumerate(numbers):
        liar = Liar(
            LIES[(LYING * seed + place) % len(LIES)],
            world.fleet.assets[number * SHARD : (number + 1) * SHARD],
            now_ms=world.wall.now_ms,
            rng=random.Random(world.rng.random()),
        )
        nursery.start_soon(partial(liar.run, dial, tick_s=TICK_S))
        liars.append(liar)
    return liars


def sums_of(world: World, keys: Sequence[int]) -> Sums:
    sums = Sums()
    add_assets(sums, keys, headend_of(world))
    return sums


def magnitudes(power: PowerRow) -> tuple[float, float]:
    return round(power.discharge_mw, 6), round(power.charge_mw, 6)


def shares(world: World, mw: float, keys: Sequence[int]) -> dict[int, float]:
    """What a group of these assets would be given, without those that are given nothing."""
    request = GroupRequest(target=DispatchTarget(kind="assets"), keys=keys, mw=mw, duration_s=900)
    command = headend_of(world).dispatcher.dispatch_group(request, dry_run=True)
    return {key: round(member.mw, 6) for key, member in command.setpoints.items() if member.mw}


async def commit_all(store: SlowStore) -> None:
    while True:
        await trio.sleep(1.0)
        store.commit()


@pytest.mark.timeout(120)
async def test_well_behaved_agents_are_served_as_if_they_were_alone(
    autojump_clock: MockClock, seed_of_storm: int
) -> None:
    store = SlowStore()
    with capture_logs() as logs:
        async with (
            open_world(make_fleet(ASSETS), store=store, seed=seed_of_storm) as world,
            trio.open_nursery() as nursery,
        ):
            lying = world.rng.sample(range(ASSETS // SHARD), LYING)
            liars = start_liars(world, nursery, lying, seed_of_storm)
            nursery.start_soon(commit_all, store)
            agents = await world.start_agents(
                shard_size=SHARD, numbers=set(range(ASSETS // SHARD)) - set(lying)
            )
            honest = [key for key in range(ASSETS) if key // SHARD not in lying]
            await trio.sleep(15.0)
            order(world, honest, [key for key in range(ASSETS) if key // SHARD in lying])
            await trio.sleep(LASTS_S)
            check_sums_and_splits(world, honest)
            store.commit()
            check_sequences(world, agents, store)
            check_nothing_grows(world)
            assert all(liar.sessions for liar in liars)
            nursery.cancel_scope.cancel()
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


def order(world: World, honest: Sequence[int], lying: Sequence[int]) -> None:
    dispatcher = headend_of(world).dispatcher
    for key in world.rng.sample(honest, ORDERS):
        dispatcher.dispatch(
            DispatchRequest(asset_id=asset_id(key), mw=world.rng.uniform(-10, 10), duration_s=600)
        )
    for key in lying:
        dispatcher.dispatch(DispatchRequest(asset_id=asset_id(key), mw=1.0, duration_s=60))


def check_sums_and_splits(world: World, honest: Sequence[int]) -> None:
    everything, alone = sums_of(world, range(ASSETS)), sums_of(world, honest)
    assert alone.live == len(honest)
    assert everything.current_mw == pytest.approx(alone.current_mw)
    assert magnitudes(everything.available["now"]) == magnitudes(alone.available["now"])
    for horizon, power in everything.available.items():
        assert magnitudes(power) == magnitudes(alone.available[horizon])
    for mw in (500.0, -500.0, 1e6):
        assert shares(world, mw, range(ASSETS)) == shares(world, mw, honest)


def check_sequences(world: World, agents: Sequence[str], store: SlowStore) -> None:
    """Each honest agent's batches are in the store once, in order, without a gap."""
    sessions = {session.agent_id: session for session in headend_of(world).sessions}
    for agent_id in agents:
        rows = store.rows[sessions[agent_id].outbox_id]
        assert rows == list(range(1, len(rows) + 1))
        assert len(rows) * TICK_S > LASTS_S
    assert headend_of(world).counters.batches_lost < 1_000 * LYING


def check_nothing_grows(world: World) -> None:
    headend = headend_of(world)
    assert len(headend.sessions) <= ASSETS // SHARD
    assert len(headend.ingest._outboxes) <= ASSETS // SHARD
    # An agent that reports a setpoint which nobody dispatched has at most one per asset.
    still_open = newest_records(headend.dispatcher, 10_000, counts=lambda command: not command.ended)
    assert len(still_open) <= ORDERS + LYING * SHARD
