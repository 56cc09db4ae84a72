"""An agent that restarts continues where it was: its batteries, its backlog, its sequence."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.unit.agent.parts import (
    START_UNIX_S,
    FakeHeadend,
    asset_id,
    make_battery,
    start_agent,
)
from trioder.agent.battery import Battery
from trioder.agent.persistence.state_store import InMemoryStateStore, SavedBattery
from trioder.process.wall_time import WallClock
from trioder.wire.records import Acknowledgement


def make_memory(count: int = 2) -> InMemoryStateStore:
    return InMemoryStateStore("box", [asset_id(number) for number in range(count)])


@asynccontextmanager
async def running(headend: FakeHeadend, store: InMemoryStateStore, wall: WallClock) -> AsyncIterator[None]:
    """Run an agent until the block ends, then crash it."""
    async with trio.open_nursery() as nursery:
        await start_agent(nursery, headend, store=store, wall=wall)
        yield
        nursery.cancel_scope.cancel()


def resumed(saved: SavedBattery) -> Battery:
    """Resumed at 100 s, at which the wall clock reads START_UNIX_S + 100."""
    battery = make_battery()
    battery.resume(saved, now_s=100.0)
    return battery


async def test_after_a_crash_the_charge_the_setpoint_and_the_backlog_are_restored(
    autojump_clock: MockClock,
) -> None:
    headend, store = FakeHeadend(), make_memory()
    wall = WallClock(START_UNIX_S, trio.current_time())
    async with running(headend, store, wall):
        await trio.sleep(1.0)
        await headend.send_setpoint(36.0, duration_s=60)
        await trio.sleep(0.5)
        headend.go_down()
        await trio.sleep(19.0)
    await trio.sleep(10.0)
    headend.refuses_dial = False
    async with running(headend, store, wall):
        await trio.sleep(20.0)
        batches = [batch for batch in headend.batches if not batch.live_only]
        assert [batch.batch_seq for batch in batches] == list(range(1, len(batches) + 1))
        assert [registration.outbox_id for registration in headend.registrations] == ["box", "box"]
        assert headend.registrations[0].epoch < headend.registrations[1].epoch
        # 19 s applied before the crash (to its last save), then on from the restart at 30.5 s.
        assert batches[-1].setpoint_mw[0] == 36.0
        assert batches[-1].soc_mwhr[0] < batches[5].soc_mwhr[0] < batches[1].soc_mwhr[0]


async def test_a_setpoints_end_counts_on_while_the_agent_is_disconnected(autojump_clock: MockClock) -> None:
    headend, store = FakeHeadend(), make_memory()
    wall = WallClock(START_UNIX_S, trio.current_time())
    async with running(headend, store, wall):
        await trio.sleep(1.0)
        await headend.send_setpoint(36.0, duration_s=30)
        await trio.sleep(1.0)
    await trio.sleep(10.0)
    async with running(headend, store, wall):
        await trio.sleep(18.9)
        assert store.batteries()[asset_id(0)].setpoint_mw == 36.0
        await trio.sleep(5.0)
        assert store.batteries()[asset_id(0)].setpoint_mw == 0.0


async def test_a_setpoint_is_saved_before_it_is_answered(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend, store = FakeHeadend(), make_memory()
    await start_agent(nursery, headend, store=store)
    await trio.sleep(1.0)
    await headend.send_setpoint(36.0)
    await trio.sleep(0.1)
    assert [answer.status for answer in headend.answers] == ["applied"]
    assert store.batteries()[asset_id(0)].setpoint_mw == 36.0


def test_a_setpoint_that_ended_meanwhile_has_reverted() -> None:
    battery = resumed(SavedBattery(50.0, 10.0, 10.0, START_UNIX_S + 99.0, -3.0))
    assert (battery.state.setpoint_mw, battery.lease_end_s) == (-3.0, math.inf)


def test_of_a_setpoint_that_ended_meanwhile_the_time_of_its_end_is_reported() -> None:
    battery = resumed(SavedBattery(50.0, 10.0, 10.0, START_UNIX_S + 99.0, -3.0, "d-1"))
    assert battery.is_notified
    [reported] = battery.take_messages()
    assert isinstance(reported, Acknowledgement)
    assert (reported.dispatch_id, reported.status, reported.ts_unix_ms) == (
        "d-1",
        "completed",
        (START_UNIX_S + 99.0) * 1000,
    )
    assert reported.reason == "its time was over while the agent was away; now -3 MW"
    assert (reported.setpoint_mw, reported.remaining_s, reported.reversion_mw) == (-3.0, None, -3.0)


def test_what_is_left_of_a_setpoint_goes_on() -> None:
    battery = resumed(SavedBattery(50.0, 10.0, 10.0, START_UNIX_S + 160.0, -3.0, "d-1"))
    assert (battery.state.setpoint_mw, battery.lease_end_s) == (10.0, 160.0)
    assert (battery.reversion_mw, battery.dispatch_id) == (-3.0, "d-1")
    assert battery.take_messages() == ()


@pytest.mark.parametrize(("saved", "held"), [(-5.0, 0.0), (130.0, 100.0), (70.0, 70.0)])
def test_the_charge_is_held_within_the_capacity(saved: float, held: float) -> None:
    assert resumed(SavedBattery(saved, 0.0, 0.0, math.inf)).state.soc_mwhr == held


@pytest.mark.parametrize(
    "saved",
    [
        SavedBattery(math.nan, 0.0, 0.0, math.inf),
        SavedBattery(1.0, math.inf, 0.0, math.inf),
        SavedBattery(1.0, 0.0, math.nan, math.inf),
        SavedBattery(1.0, 0.0, 0.0, math.nan),
        SavedBattery(1.0, 0.0, 0.0, -math.inf),
        SavedBattery(1.0, 0.0, 0.0, math.inf, math.nan),
    ],
)
def test_what_is_not_a_number_is_refused(saved: SavedBattery) -> None:
    with pytest.raises(ValueError, match="not finite"):
        resumed(saved)
