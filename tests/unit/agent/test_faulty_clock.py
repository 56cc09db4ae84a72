"""The machine's clock with steps and drifts, in virtual time."""

import pytest
import trio
from trio.testing import MockClock

from tests.unit.agent.parts import START_UNIX_S
from trioder.agent.faulty_clock import FaultyClock, SteadyClock
from trioder.process.wall_time import WallClock


def make_clock() -> tuple[FaultyClock, WallClock]:
    wall = WallClock(START_UNIX_S, trio.current_time())
    return FaultyClock(SteadyClock(wall)), wall


async def test_without_an_error_it_is_right(autojump_clock: MockClock) -> None:
    clock, wall = make_clock()
    await trio.sleep(100.0)
    assert (clock.unix_s(), clock.suspended_s()) == (wall.now_s(), 0.0)


async def test_a_step_lasts_until_it_is_corrected(autojump_clock: MockClock) -> None:
    clock, wall = make_clock()
    clock.step(1, -7.0)
    await trio.sleep(100.0)
    assert clock.unix_s() - wall.now_s() == -7.0
    clock.correct(1)
    assert clock.unix_s() == wall.now_s()


async def test_a_drift_grows_from_its_beginning(autojump_clock: MockClock) -> None:
    clock, wall = make_clock()
    await trio.sleep(50.0)
    # Begun 10 s before: an agent that starts in the middle of it.
    clock.drift(1, 500.0, since_s=trio.current_time() - 10.0)
    assert clock.unix_s() - wall.now_s() == pytest.approx(0.005, abs=1e-6)
    await trio.sleep(990.0)
    assert clock.unix_s() - wall.now_s() == pytest.approx(0.5, abs=1e-6)


async def test_errors_add_up(autojump_clock: MockClock) -> None:
    clock, wall = make_clock()
    clock.step(1, 5.0)
    clock.step(2, -2.0)
    assert clock.unix_s() - wall.now_s() == 3.0
    clock.correct(1)
    assert clock.unix_s() - wall.now_s() == -2.0
