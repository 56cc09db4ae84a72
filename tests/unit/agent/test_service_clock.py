"""A whole agent whose clock is wrong: what its samples, its leases and its headend see of that."""

from itertools import pairwise
from pathlib import Path

import pytest
import structlog.testing
import trio
from trio.testing import MockClock

from tests.unit.agent.parts import START_UNIX_S, FakeHeadend, make_config, start_agent
from tests.unit.agent.test_service_leases import open_at, reported
from tests.unit.process.fake_clock import STEPS_S, FakeSystemClock
from trioder.agent.headend_client import HEARTBEAT_EVERY_S
from trioder.process.wall_time import WallClock
from trioder.wire.records import CLOCK_STEP

START_MS = int(START_UNIX_S * 1000)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size_s", STEPS_S)
async def test_samples_have_the_right_time_soon_after_the_clock_was_set(
    autojump_clock: MockClock, nursery: trio.Nursery, size_s: float, sign: int
) -> None:
    headend, system = FakeHeadend(), FakeSystemClock(wrong_s=-sign * size_s)
    await start_agent(nursery, headend, wall=WallClock.following(system))
    await trio.sleep(6.0)
    system.set_by(sign * size_s)
    await trio.sleep(20.0)
    times_ms = [batch.ts_unix_ms for batch in headend.batches]
    assert 0 <= times_ms[0] - (START_MS - round(sign * size_s * 1000)) <= 4_000
    assert 0 <= START_MS + 26_000 - times_ms[-1] <= 4_000
    # Samples are in order but for the one step, which is as large as what was wrong.
    gaps_ms = [after - before for before, after in pairwise(times_ms)]
    assert sorted(abs(gap_ms - 4_000) > 5 for gap_ms in gaps_ms) == [False] * (len(gaps_ms) - 1) + [True]
    assert 4_000 + round(sign * size_s * 1000) == pytest.approx(
        max(gaps_ms, key=lambda ms: abs(ms - 4_000)), abs=5
    )
    assert [batch.batch_seq for batch in headend.batches] == list(range(1, len(headend.batches) + 1))
    [event] = headend.events
    assert (event.event_type, event.severity, event.asset_id) == (CLOCK_STEP, "warning", "")
    assert f"set by {sign * size_s:+.3f} s" in event.message


async def test_heartbeats_show_the_clock_at_once_now_and_then_and_after_a_step(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend, system = FakeHeadend(), FakeSystemClock()
    await start_agent(nursery, headend, wall=WallClock.following(system))
    await trio.sleep(1.0)
    assert [one.clock_unix_ms for one in headend.heartbeats] == [START_MS]
    await trio.sleep(2 * HEARTBEAT_EVERY_S)
    assert len(headend.heartbeats) == 3
    system.set_by(3_600.0)
    await trio.sleep(5.0)
    assert len(headend.heartbeats) == 4
    assert headend.heartbeats[-1].clock_unix_ms is not None
    assert headend.heartbeats[-1].clock_unix_ms >= START_MS + 3_630_000


async def test_each_registration_has_the_clock_of_its_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend = FakeHeadend()
    await start_agent(nursery, headend)
    await trio.sleep(10.0)
    headend.cut()
    await trio.sleep(1.0)
    first, second = headend.registrations
    assert first.clock_unix_ms == START_MS
    assert second.clock_unix_ms == round(
        (START_UNIX_S + headend.registered_s[1] - headend.registered_s[0]) * 1000
    )


@pytest.mark.parametrize(("ahead_s", "warns"), [(0.0, False), (1.9, False), (2.1, True), (-3_600.0, True)])
async def test_a_headend_whose_clock_differs_is_warned_of(
    autojump_clock: MockClock, nursery: trio.Nursery, ahead_s: float, warns: bool
) -> None:
    headend = FakeHeadend(clock_unix_ms=START_MS + round(ahead_s * 1000))
    with structlog.testing.capture_logs() as logs:
        await start_agent(nursery, headend)
        await trio.sleep(1.0)
    warned = [entry for entry in logs if "clock differs" in entry["event"]]
    assert [entry["headend_ahead_s"] for entry in warned] == ([ahead_s] if warns else [])


async def test_a_valid_until_is_evaluated_again_when_the_clock_is_set(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend, system = FakeHeadend(), FakeSystemClock(wrong_s=-3_600.0)
    await start_agent(nursery, headend, wall=WallClock.following(system))
    await trio.sleep(1.0)
    await headend.send_setpoint(10.0, valid_until_s=60.0)
    await trio.sleep(19.0)
    system.set_by(3_600.0)
    await trio.sleep(39.0)
    assert reported(headend) == [("d-1", "applied")]
    await trio.sleep(2.0)
    assert reported(headend) == [("d-1", "applied"), ("d-1", "completed")]


async def test_a_setpoint_ends_when_the_machine_wakes_after_its_time(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend, system = FakeHeadend(), FakeSystemClock()
    await start_agent(nursery, headend, wall=WallClock.following(system))
    await trio.sleep(1.0)
    await headend.send_setpoint(10.0, duration_s=600)
    await trio.sleep(1.0)
    system.sleep(3_600.0)
    await trio.sleep(2.0)
    assert reported(headend) == [("d-1", "applied"), ("d-1", "completed")]
    assert "suspended for 3600" in headend.events[0].message


async def test_time_without_a_headend_goes_on_while_the_machine_sleeps(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    headend, system = FakeHeadend(), FakeSystemClock()
    config = make_config(comms_loss_hold_s=300.0)
    agent = await start_agent(nursery, headend, config, wall=WallClock.following(system))
    await trio.sleep(1.0)
    await headend.send_setpoint(10.0)
    await trio.sleep(1.0)
    headend.go_down()
    await trio.sleep(10.0)
    assert agent.pool.snapshot()[0].setpoint_mw == 10.0
    system.sleep(300.0)
    await trio.sleep(2.0)
    assert agent.pool.snapshot()[0].setpoint_mw == 0.0


@pytest.mark.parametrize("wrong_s", [-2.0, -3_600.0, -86_400.0, -365 * 86_400.0])
async def test_a_lease_survives_a_power_cut_no_longer_than_its_duration(
    autojump_clock: MockClock, tmp_path: Path, wrong_s: float
) -> None:
    headend, path = FakeHeadend(), tmp_path / "agent.sqlite"
    async with trio.open_nursery() as first:
        with open_at(path) as store:
            await start_agent(first, headend, store=store, wall=WallClock.following(FakeSystemClock()))
            await trio.sleep(1.0)
            await headend.send_setpoint(10.0, duration_s=30)
            await trio.sleep(3.0)
            first.cancel_scope.cancel()
    headend.answers.clear()
    async with trio.open_nursery() as second:
        with open_at(path) as store:
            # It restarts at the same instant, so that a right clock would read 4 s later.
            system = FakeSystemClock(wrong_s=4.0 + wrong_s)
            agent = await start_agent(second, headend, store=store, wall=WallClock.following(system))
            await trio.sleep(1.0)
            [active] = headend.answers
            assert active.status == "active"
            assert active.remaining_s is not None
            assert active.remaining_s <= 30.0
            await trio.sleep(30.0)
            assert reported(headend)[-1] == ("d-1", "completed")
            assert agent.pool.snapshot()[0].setpoint_mw == 0.0
            second.cancel_scope.cancel()
