"""Whose clock is wrong, since when, which way and by how much: the fleet is read and dispatched as ever.

The world's own time is Trio's. Each process follows the clock of its own machine, which may be wrong from the
start and be put right later, or be set wrong while it runs; or the machine that all run on is suspended.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import pytest
import trio

from tests.simulation.exactly_once import check_exactly_once
from tests.simulation.storm import calm_down
from tests.simulation.world import Report, Storm, World
from tests.unit.headend.parts import asset_id, find_record, make_fleet
from tests.unit.process.fake_clock import STEPS_S, FakeSystemClock
from trioder.api.context import Headend
from trioder.domain.dispatch import DispatchRecord, DispatchRequest
from trioder.gateway.sessions import Session
from trioder.ingest.latest_values import LatestView

TICK_S = 4.0
# A step is taken over after 3 to 4 s; then the next pulse shows it.
TAKEN_OVER_S = 4.5 + TICK_S + 0.5
STORM = Storm(
    fleet=make_fleet(4),
    shard_size=2,
    tick_s=TICK_S,
    lasts_s=0.0,
    attack_every_s=1.0,
    queue_bytes=1_000_000,
)
# Of the first agent, whose machine's clock is the one that is wrong where it is an agent's.
KEY = 0

Who = Literal["agent", "headend", "both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatteryPool:
    """A world whose machines' clocks may be set."""

    world: World

    @property
    def headend(self) -> Headend:
        assert self.world.headend is not None
        return self.world.headend

    @property
    def session(self) -> Session:
        session = self.headend.sessions.session_of(KEY)
        assert session is not None
        return session

    @property
    def view(self) -> LatestView:
        view = self.headend.latest.view(KEY, self.headend.wall.now_ms())
        assert view is not None
        return view

    @property
    def setpoint_mw(self) -> float:
        """What the battery itself holds, whoever knows of it."""
        running = self.world.agents[0].running
        assert running is not None
        return running.pool.snapshot()[0].setpoint_mw

    def set_clock(self, who: Who, by_s: float) -> None:
        for system in self.systems(who):
            system.set_by(by_s)

    def suspend(self, for_s: float) -> None:
        """The one machine that all run on."""
        for system in [*self.systems("headend"), *(agent.system for agent in self.world.agents)]:
            assert system is not None
            system.sleep(for_s)

    def systems(self, who: Who) -> list[FakeSystemClock]:
        headend, agent = self.world.system, self.world.agents[0].system
        assert headend is not None
        assert agent is not None
        return {"agent": [agent], "headend": [headend], "both": [headend, agent]}[who]

    def dispatch(self, mw: float, duration_s: int) -> str:
        request = DispatchRequest(asset_id=asset_id(KEY), mw=mw, duration_s=duration_s)
        command = self.headend.dispatcher.dispatch(request)
        assert command.state == "sent"
        return command.dispatch_id

    def record(self, dispatch_id: str) -> DispatchRecord:
        record = find_record(self.headend.dispatcher, dispatch_id)
        assert record is not None
        return record

    def remaining_s(self) -> float | None:
        member = self.headend.dispatcher.in_force(KEY)
        if member is None or member.ends_ms is None:
            return None
        return (member.ends_ms - self.headend.wall.now_ms()) / 1000

    async def reports_and_tracks(self, mw: float) -> None:
        """The battery is good, and its setpoint is in its telemetry within two pulses."""
        dispatch_id = self.dispatch(mw, 60)
        await trio.sleep(2 * TICK_S + 0.5)
        assert self.record(dispatch_id).state == "tracking"
        assert (self.view.quality, self.view.telemetry.setpoint_mw) == ("good", mw)
        assert self.view.age_s <= TICK_S + 0.5
        remaining_s = self.remaining_s()
        assert remaining_s is not None
        assert 60 - 2 * TICK_S - 2 < remaining_s <= 60

    def time_is_right(self) -> None:
        """The newest sample is of a time not long ago, as the world has it."""
        late_s = self.world.wall.now_s() - self.view.telemetry.ts_unix_ms / 1000
        assert -0.1 <= late_s <= TICK_S + 0.5


@asynccontextmanager
async def open_plant(
    *, headend_wrong_s: float = 0.0, agent_wrong_s: float = 0.0
) -> AsyncIterator[BatteryPool]:
    """Yield a plant that is up and has run for a few pulses; at the end all is committed exactly once."""
    report = Report()
    with trio.fail_after(3_600):
        async with trio.open_nursery() as nursery:
            world = World(STORM, rng=random.Random(1), nursery=nursery, report=report)
            world.system = FakeSystemClock(wrong_s=headend_wrong_s)
            for number, agent in enumerate(world.agents):
                agent.system = FakeSystemClock(wrong_s=0.0 if number else agent_wrong_s)
            await world.start()
            await trio.sleep(3 * TICK_S)
            yield BatteryPool(world=world)
            await calm_down(world)
            nursery.cancel_scope.cancel()
    check_exactly_once(world)
    assert report.rows > 0


def wrongs(who: Who, wrong_s: float) -> dict[str, float]:
    sides = {"agent": ("agent",), "headend": ("headend",), "both": ("agent", "headend")}[who]
    return {f"{side}_wrong_s": wrong_s for side in sides}


def skew_s(who: Who, wrong_s: float) -> float:
    return {"agent": wrong_s, "headend": -wrong_s, "both": 0.0}[who]


every_clock = pytest.mark.parametrize("who", ["agent", "headend", "both"])
every_size = pytest.mark.parametrize("wrong_s", [sign * size_s for size_s in STEPS_S for sign in (1, -1)])


@every_clock
@every_size
async def test_a_clock_that_is_wrong_from_the_start_and_put_right(
    autojump_clock: object, who: Who, wrong_s: float
) -> None:
    async with open_plant(**wrongs(who, wrong_s)) as plant:
        assert plant.session.clock_skew_s == pytest.approx(skew_s(who, wrong_s), abs=0.1)
        await plant.reports_and_tracks(3.0)
        lease = plant.dispatch(5.0, 30)
        await trio.sleep(10.0)
        plant.set_clock(who, -wrong_s)
        await trio.sleep(TAKEN_OVER_S)
        assert plant.session.clock_skew_s == pytest.approx(0.0, abs=0.1)
        assert plant.view.quality == "good"
        plant.time_is_right()
        # Neither cut nor prolonged.
        await trio.sleep(29.5 - 10.0 - TAKEN_OVER_S)
        assert (plant.setpoint_mw, plant.record(lease).state) == (5.0, "tracking")
        await trio.sleep(1.5)
        assert (plant.setpoint_mw, plant.record(lease).state) == (0.0, "completed")
        await plant.reports_and_tracks(-2.0)


@every_clock
@every_size
async def test_a_clock_that_is_set_wrong_while_it_runs_and_put_right(
    autojump_clock: object, who: Who, wrong_s: float
) -> None:
    async with open_plant() as plant:
        lease = plant.dispatch(5.0, 60)
        await trio.sleep(10.0)
        plant.set_clock(who, wrong_s)
        await trio.sleep(TAKEN_OVER_S)
        assert plant.session.clock_skew_s == pytest.approx(skew_s(who, wrong_s), abs=0.1)
        assert plant.view.quality == "good"
        remaining_s = plant.remaining_s()
        assert remaining_s == pytest.approx(50.0 - TAKEN_OVER_S, abs=1.0)
        await trio.sleep(49.5 - TAKEN_OVER_S)
        assert (plant.setpoint_mw, plant.record(lease).state) == (5.0, "tracking")
        await trio.sleep(1.5)
        assert (plant.setpoint_mw, plant.record(lease).state) == (0.0, "completed")
        await plant.reports_and_tracks(3.0)
        plant.set_clock(who, -wrong_s)
        await trio.sleep(TAKEN_OVER_S)
        assert plant.session.clock_skew_s == pytest.approx(0.0, abs=0.1)
        plant.time_is_right()
        await plant.reports_and_tracks(-2.0)


@every_clock
@every_size
async def test_a_machine_that_is_started_again_with_a_clock_that_is_wrong(
    autojump_clock: object, who: Who, wrong_s: float
) -> None:
    async with open_plant() as plant:
        plant.dispatch(5.0, 60)
        await trio.sleep(10.0)
        world = plant.world
        if who != "agent":
            await world.crash_headend(noticed=True)
        if who != "headend":
            world.crash_agent(world.agents[0], noticed=True)
        plant.set_clock(who, wrong_s)
        await world.start_headend()
        # Until the end of the session is noticed.
        await trio.sleep(1.0)
        # An agent is back within 20 s of its crash, and connected within 30 s of the headend's.
        await world.until(lambda: plant.headend.sessions.assets_connected == 4, "all are back", within_s=52.0)
        remaining_s = plant.remaining_s()
        assert remaining_s is None or remaining_s <= 60.0
        # From the new boot on it is its duration at most, and it is over for the headend soon after.
        await trio.sleep(62.0)
        assert plant.setpoint_mw == 0.0
        assert plant.headend.dispatcher.in_force(KEY) is None
        assert plant.session.clock_skew_s == pytest.approx(skew_s(who, wrong_s), abs=0.1)
        await plant.reports_and_tracks(3.0)
        plant.set_clock(who, -wrong_s)
        await trio.sleep(TAKEN_OVER_S)
        plant.time_is_right()
        await plant.reports_and_tracks(-2.0)


@pytest.mark.parametrize("for_s", STEPS_S)
async def test_the_machine_is_suspended(autojump_clock: object, for_s: float) -> None:
    async with open_plant() as plant:
        lease = plant.dispatch(5.0, 600)
        await trio.sleep(10.0)
        plant.suspend(for_s)
        await trio.sleep(TAKEN_OVER_S)
        # The time has passed, seen or not.
        over = for_s >= 600
        assert plant.setpoint_mw == (0.0 if over else 5.0)
        assert plant.record(lease).state == ("completed" if over else "tracking")
        assert plant.session.clock_skew_s == pytest.approx(0.0, abs=0.1)
        assert plant.view.quality == "good"
        late_s = plant.headend.wall.now_s() - plant.view.telemetry.ts_unix_ms / 1000
        assert 0.0 <= late_s <= TICK_S + 0.5
        if not over:
            assert plant.remaining_s() == pytest.approx(590 - for_s - TAKEN_OVER_S, abs=1.0)
        await plant.reports_and_tracks(3.0)


@pytest.mark.parametrize("by_s", [3_600.0, -3_600.0])
async def test_a_step_makes_no_gap_and_no_double_in_a_backlog(autojump_clock: object, by_s: float) -> None:
    async with open_plant() as plant:
        plant.world.server.crash("the server was killed")
        await trio.sleep(20.0)
        plant.set_clock("both", by_s)
        await trio.sleep(20.0)
        plant.world.server.are_restored()
        await trio.sleep(60.0)
        assert plant.world.waiting(plant.world.agents[0]) <= 1
