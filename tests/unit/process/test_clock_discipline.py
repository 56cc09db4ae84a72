"""A process's wall time follows the system's: at once where that was set, gently where it drifts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from tests.unit.process.fake_clock import START_UNIX_S, STEPS_S, FakeSystemClock
from trioder.process.clock_discipline import (
    CHECK_EVERY_S,
    MAX_SLEW,
    STEP_CHECKS,
    ClockStep,
    StepFilter,
    discipline_clock,
)
from trioder.process.wall_time import MachineClock, WallClock

# The first check that sees a step may be a whole period after it.
TAKEN_OVER_S = CHECK_EVERY_S * (STEP_CHECKS + 1)


class Followed:
    def __init__(self) -> None:
        self.system = FakeSystemClock()
        self.wall = WallClock.following(self.system)
        self.steps: list[ClockStep] = []

    @property
    def behind_s(self) -> float:
        return self.system.unix_s() - self.wall.now_s()


@asynccontextmanager
async def open_followed() -> AsyncIterator[Followed]:
    followed = Followed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(discipline_clock, followed.wall, stepped=followed.steps.append))
        await trio.testing.wait_all_tasks_blocked()
        yield followed
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size_s", STEPS_S)
async def test_a_step_that_lasts_is_taken_over_once_with_its_size(
    autojump_clock: object, size_s: float, sign: int
) -> None:
    async with open_followed() as followed:
        await trio.sleep(10.25)
        followed.system.set_by(sign * size_s)
        await trio.sleep(TAKEN_OVER_S)
        assert followed.behind_s == pytest.approx(0.0, abs=1e-4)
        await trio.sleep(60)
        [step] = followed.steps
        assert step.by_s == pytest.approx(sign * size_s, abs=1e-3)
        assert step.corrected_s == step.by_s


async def test_a_difference_that_does_not_last_is_none(autojump_clock: object) -> None:
    async with open_followed() as followed:
        followed.system.set_by(3_600)
        await trio.sleep(CHECK_EVERY_S * (STEP_CHECKS - 1) + 0.5)
        followed.system.set_by(-3_600)
        await trio.sleep(60)
        assert followed.steps == []
        assert followed.behind_s == pytest.approx(0.0, abs=1e-4)


async def test_a_clock_that_two_set_against_each_other_is_not_followed(autojump_clock: object) -> None:
    async with open_followed() as followed:
        await trio.sleep(CHECK_EVERY_S / 2)
        for number in range(40):
            followed.system.set_by(50.0 if number % 2 else -50.0)
            await trio.sleep(CHECK_EVERY_S)
        assert followed.steps == []


@pytest.mark.parametrize("size_s", [0.9, -0.9, 0.02])
async def test_a_small_difference_is_slewed_and_no_sample_goes_back(
    autojump_clock: object, size_s: float
) -> None:
    async with open_followed() as followed:
        # Between two checks.
        await trio.sleep(CHECK_EVERY_S / 2)
        followed.system.set_by(size_s)
        before_s, trio_s = followed.wall.now_s(), trio.current_time()
        for _ in range(int(abs(size_s) / MAX_SLEW / CHECK_EVERY_S) + 2):
            await trio.sleep(CHECK_EVERY_S)
            rate = (followed.wall.now_s() - before_s) / (trio.current_time() - trio_s)
            assert abs(rate - 1) <= MAX_SLEW + 1e-6
            before_s, trio_s = followed.wall.now_s(), trio.current_time()
        assert followed.behind_s == pytest.approx(0.0, abs=1e-3)
        assert followed.steps == []


async def test_a_slow_drift_does_not_accumulate(autojump_clock: object) -> None:
    async with open_followed() as followed:
        followed.system.drift = 100e-6
        await trio.sleep(86_400)
        assert followed.behind_s == pytest.approx(0.0, abs=0.01)
        assert followed.steps == []


@pytest.mark.parametrize("for_s", STEPS_S)
async def test_a_suspension_is_detected_by_the_next_check(autojump_clock: object, for_s: float) -> None:
    async with open_followed() as followed:
        await trio.sleep(10.5)
        followed.system.sleep(for_s)
        await trio.sleep(CHECK_EVERY_S)
        assert followed.behind_s == pytest.approx(0.0, abs=1e-3)
        await trio.sleep(60)
        [step] = followed.steps
        assert (step.by_s, step.suspended_s) == pytest.approx((for_s, for_s))
        assert step.corrected_s == 0.0
        assert "suspended" in str(step)


async def test_a_clock_set_during_a_suspension_is_both(autojump_clock: object) -> None:
    async with open_followed() as followed:
        followed.system.sleep(600)
        followed.system.set_by(-3_600)
        await trio.sleep(60)
        assert [round(step.by_s) for step in followed.steps] == [600, -3_600]
        assert [round(step.corrected_s) for step in followed.steps] == [0, -3_600]


async def test_without_a_system_clock_the_time_is_left_alone(autojump_clock: object) -> None:
    wall = WallClock(START_UNIX_S, trio.current_time())
    with trio.move_on_after(100):
        await discipline_clock(wall, stepped=lambda _: None)
    assert wall.now_s() == START_UNIX_S + 100


def test_a_difference_that_moves_is_no_step_until_it_stays() -> None:
    steps = StepFilter()
    seen = [steps.correction(difference_s, elapsed_s=1.0) for difference_s in (5.0, 9.0, 9.1, 9.2, 0.0)]
    assert seen == [(0.0, False), (0.0, False), (0.0, False), (9.2, True), (0.0, False)]


async def test_the_machines_own_clocks_are_those_of_the_system() -> None:
    await trio.lowlevel.checkpoint()
    clock = MachineClock()
    assert clock.suspended_s() >= -0.1
    assert WallClock.following(clock).now_s() == pytest.approx(clock.unix_s(), abs=1.0)
