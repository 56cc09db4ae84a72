import time

import pytest
import trio
from trio.testing import MockClock

from trioder.process.wall_time import WallClock


async def test_it_follows_trios_clock(autojump_clock: MockClock) -> None:
    wall = WallClock(1_700_000_000.0, trio.current_time())
    await trio.sleep(3_600.25)
    assert wall.now_s() == 1_700_003_600.25
    assert wall.now_ms() == 1_700_003_600_250


async def test_the_start_may_lie_before_now(autojump_clock: MockClock) -> None:
    await trio.sleep(10)
    wall = WallClock(1000.0, trio.current_time() - 4)
    assert wall.now_s() == 1004.0


async def test_starting_now_takes_the_systems_time(autojump_clock: MockClock) -> None:
    await trio.lowlevel.checkpoint()
    before = time.time()
    wall = WallClock.starting_now()
    assert before - 0.001 <= wall.now_s() <= time.time() + 0.001


async def test_any_instant_of_trios_clock_has_its_wall_time(autojump_clock: object) -> None:
    now_s = trio.current_time()
    wall = WallClock(1000.0, now_s)
    assert wall.unix_s(now_s - 2.5) == pytest.approx(997.5)
    assert wall.unix_ms(now_s + 0.25) == 1_000_250
