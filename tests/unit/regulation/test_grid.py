"""The grid that dispatches lie on, in virtual time."""

import pytest
import trio
from trio.testing import MockClock

from scripts.regulation.grid import Grid, run_on_grid


async def acted(grid: Grid, takes_s: dict[int, float]) -> list[tuple[int, float]]:
    """Run a grid whose steps take so long, and return when each was done."""
    done: list[tuple[int, float]] = []

    async def act(step: int) -> None:
        done.append((step, trio.current_time()))
        await trio.sleep(takes_s.get(step, 0.0))

    await run_on_grid(grid, act)
    return done


async def test_each_step_happens_when_it_is_due(autojump_clock: MockClock) -> None:
    start_s = trio.current_time() + 5.0
    done = await acted(Grid(start_s=start_s, interval_s=2.0, steps=3), {})
    assert done == [(0, start_s), (1, start_s + 2.0), (2, start_s + 4.0)]


async def test_a_late_step_does_not_shift_the_next(autojump_clock: MockClock) -> None:
    start_s = trio.current_time()
    done = await acted(Grid(start_s=start_s, interval_s=2.0, steps=4), {0: 3.5})
    assert done == [(0, start_s), (1, start_s + 3.5), (2, start_s + 4.0), (3, start_s + 6.0)]


async def test_steps_that_pass_meanwhile_are_skipped(autojump_clock: MockClock) -> None:
    start_s = trio.current_time()
    done = await acted(Grid(start_s=start_s, interval_s=2.0, steps=6), {0: 6.5})
    assert done == [(0, start_s), (3, start_s + 6.5), (4, start_s + 8.0), (5, start_s + 10.0)]


async def test_a_step_that_takes_longer_than_the_rest_ends_the_grid(autojump_clock: MockClock) -> None:
    done = await acted(Grid(start_s=trio.current_time(), interval_s=2.0, steps=3), {1: 100.0})
    assert [step for step, _at_s in done] == [0, 1]


@pytest.mark.parametrize("interval_s", [0.1, 0.3, 1.0 / 3.0, 2.0])
def test_a_step_done_when_it_was_due_is_followed_by_the_next(interval_s: float) -> None:
    grid = Grid(start_s=1234.5, interval_s=interval_s, steps=10_000)
    assert [grid.next_step(step, grid.due_s(step)) for step in range(2000)] == list(range(1, 2001))
