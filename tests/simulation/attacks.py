"""What can go wrong with a fleet: one attack after another, as the seed has it."""

import trio

from tests.simulation.world import World
from trioder.domain.dispatch import DispatchRequest


async def attack(world: World) -> None:
    """Do harm until the time is up; then stop, and leave things as they are."""
    rng, storm = world.rng, world.storm
    acts = [
        *[_cut_a_wire, _silence_a_wire, _slow_a_wire, _crash_an_agent, _fill_a_disk, _command] * 2,
        *[_crash_the_headend, _stop_the_headend, _take_the_database_away, _slow_the_database],
    ]
    end_s = trio.current_time() + storm.lasts_s
    while trio.current_time() < end_s:
        await trio.sleep(min(rng.expovariate(1 / storm.attack_every_s), 4 * storm.attack_every_s))
        act = rng.choice(acts)
        name = act.__name__.strip("_")
        world.report.happened[name] = world.report.happened.get(name, 0) + 1
        await act(world)
        world.check_bounds()


async def _cut_a_wire(world: World) -> None:
    agent = world.rng.choice(world.agents)
    if agent.wire is not None:
        near, far = world.rng.choice([(True, True), (True, False), (False, True), (False, False)])
        agent.wire.cut(near_notices=near, far_notices=far)


async def _silence_a_wire(world: World) -> None:
    wire = world.rng.choice(world.agents).wire
    if wire is not None:
        wire.fall_silent()
        await trio.sleep(world.rng.uniform(0, 20))
        if world.rng.random() < 0.7:
            wire.speak_again()


async def _slow_a_wire(world: World) -> None:
    wire = world.rng.choice(world.agents).wire
    if wire is not None:
        wire.delay_s = world.rng.uniform(0, 6)


async def _crash_an_agent(world: World) -> None:
    world.crash_agent(world.rng.choice(world.agents), noticed=world.rng.random() < 0.5)


async def _fill_a_disk(world: World) -> None:
    memory = world.rng.choice(world.agents).memory
    memory.full = not memory.full


async def _command(world: World) -> None:
    asset = world.rng.choice(world.storm.fleet.assets)
    request = DispatchRequest(
        asset_id=asset.id,
        mw=world.rng.uniform(asset.min_mw, asset.max_mw),
        duration_s=world.rng.choice([None, 5, 60]),
    )
    if world.headend is not None:
        world.headend.dispatcher.dispatch(request)


async def _crash_the_headend(world: World) -> None:
    if world.headend is not None:
        await world.crash_headend(noticed=world.rng.random() < 0.5)
        await trio.sleep(world.rng.uniform(0, 10))
    await world.start_headend()


async def _stop_the_headend(world: World) -> None:
    if world.headend is not None:
        with trio.fail_after(30):
            await world.stop_headend()
        await trio.sleep(world.rng.uniform(0, 10))
    await world.start_headend()


async def _take_the_database_away(world: World) -> None:
    world.server.crash("the server was killed")
    await trio.sleep(world.rng.choice([world.rng.uniform(0, 5), world.rng.uniform(5, 60)]))
    world.server.are_restored()


async def _slow_the_database(world: World) -> None:
    world.server.failure = world.rng.choice([0.0, 0.1, 0.5])
    world.server.delay_s = world.rng.choice([0.01, 0.5, 5.0, 20.0])
