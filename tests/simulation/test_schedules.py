"""Schedules with the real headend, agents and store logic, in virtual time: on time, without a dip, once."""

import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby, pairwise

import pytest
import trio
import trio.testing

from tests.simulation.world import Report, Storm, World
from tests.unit.headend.parts import asset_id, make_fleet
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.schedules import Schedule, ScheduleRequest, ScheduleStep, step_dispatch_id

STORM = Storm(
    fleet=make_fleet(4), shard_size=2, tick_s=1.0, lasts_s=0.0, attack_every_s=1.0, queue_bytes=1_000_000
)

THREE_MINUTES = "FREQ=MINUTELY;COUNT=3"


def make_world(nursery: trio.Nursery, seed: int) -> World:
    return World(STORM, rng=random.Random(seed), nursery=nursery, report=Report())


async def create(
    world: World,
    *steps: tuple[int, float],
    key: int | None,
    in_s: float = 20.0,
    recurrence: str | None = None,
) -> Schedule:
    assert world.headend is not None
    start = datetime.fromtimestamp(round(world.wall.now_s() + in_s), UTC).replace(tzinfo=None)
    schedule, _ = await world.headend.schedules.create(
        ScheduleRequest(
            target=DispatchTarget(kind="fleet")
            if key is None
            else DispatchTarget(kind="asset", id=asset_id(key)),
            site_ids=None,
            start=start,
            steps=[ScheduleStep(duration_s=duration_s, mw=mw) for duration_s, mw in steps],
            recurrence=recurrence,
            misfire_s=0,
            requested_by="anna",
        )
    )
    return schedule


def setpoints(world: World, key: int, *, before_ms: float = math.inf) -> Sequence[float]:
    """What the battery's setpoint was until then, in order, without repeats."""
    found = [
        (batch.watermark.ts_unix_ms, mw)
        for agent in world.agents
        for batch in world.server.batches[agent.memory.outbox_id]
        for asset_key, mw in zip(batch.asset_keys, batch.setpoint_mw, strict=True)
        if asset_key == key and batch.watermark.ts_unix_ms < before_ms
    ]
    return [mw for mw, _ in groupby(mw for _, mw in sorted(found))]


async def test_steps_follow_each_other_to_the_second(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = make_world(nursery, 1)
        await world.start()
        await trio.sleep(10)
        one = await create(world, (30, 5.0), (30, -4.0), (30, 2.0), key=0)
        many = await create(world, (30, 6.0), (30, -6.0), key=None, in_s=200)
        await trio.sleep(300)
        assert setpoints(world, 0) == [0.0, 5.0, -4.0, 2.0, 0.0, 1.5, -1.5, 0.0]
        assert setpoints(world, 3) == [0.0, 1.5, -1.5, 0.0]
        occurrences = world.server.audited.occurrences.values()
        assert [one.state for one in occurrences] == ["completed"] * 2
        for occurrence in occurrences:
            assert occurrence.begun_ms is not None
            assert 0 <= occurrence.begun_ms - occurrence.start_ms < 500
            dispatches = [world.server.dispatches[name] for name in occurrence.dispatch_ids]
            assert [each.state for each in dispatches] == ["completed"] * len(dispatches)
            dispatched = [each.dispatched_ms for each in dispatches]
            assert all(abs(at_ms - before_ms - 30_000) < 500 for before_ms, at_ms in pairwise(dispatched))
        assert {one.schedule_id, many.schedule_id} == set(world.server.audited.schedules)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(3))
async def test_headends_that_are_killed_begin_each_step_once(
    seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        world = make_world(nursery, seed)
        await world.start()
        await trio.sleep(10)
        schedules = [
            await create(world, (20, 5.0), (20, -4.0), (20, 2.0), key=0, recurrence="FREQ=MINUTELY;COUNT=4"),
            await create(
                world, (25, 6.0), (35, -6.0), key=None, in_s=320, recurrence="FREQ=MINUTELY;COUNT=3"
            ),
        ]
        ends_s = trio.current_time() + 560
        while trio.current_time() < ends_s:
            await trio.sleep(world.rng.uniform(0, 30))
            if world.rng.random() < 0.5:
                # Just when a step begins, perhaps before it is recorded.
                await trio.sleep(20 - world.wall.now_s() % 20 + world.rng.uniform(0, 0.3))
            await world.crash_headend(noticed=True)
            await trio.sleep(world.rng.choice((0.0, 0.0, 1.0, 8.0)))
            await world.start_headend()
        await trio.sleep(60)
        recorded = world.server.audited.occurrences
        for schedule, count in zip(schedules, (4, 3), strict=True):
            mine = {start: one for (name, start), one in recorded.items() if name == schedule.schedule_id}
            assert len(mine) == count
            assert {one.state for one in mine.values()} <= {"completed", "missed"}
            for start_ms, one in mine.items():
                for part in one.steps:
                    assert part.dispatch_id == step_dispatch_id(schedule.schedule_id, start_ms, part.number)
                    # Of each that was begun there is a record, and the battery had no other power.
                    assert bool(part.refusal) != (part.dispatch_id in world.server.dispatches)
        begun = {name for one in recorded.values() for name in one.dispatch_ids}
        assert {name for name, one in world.server.dispatches.items() if one.priority == "schedule"} == begun
        assert not any(one.is_open for one in world.server.dispatches.values())
        [first_ms, *_] = (start for name, start in sorted(recorded) if name == schedules[1].schedule_id)
        assert set(setpoints(world, 0, before_ms=first_ms)) == {0.0, 5.0, -4.0, 2.0}
        nursery.cancel_scope.cancel()
