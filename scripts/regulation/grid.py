"""Doing something on a fixed grid of instants; what is late does not shift what follows."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

# An instant that Trio's clock reached but for rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The instants `start_s + step * interval_s` of Trio's clock, for steps 0 to `steps` - 1."""

    start_s: float
    interval_s: float
    steps: int

    def due_s(self, step: int) -> float:
        """Return when a step is due."""
        return self.start_s + step * self.interval_s

    def next_step(self, done: int, now_s: float) -> int:
        """Return the step to do after `done`: the next, or a later one if that is current already."""
        current = math.floor((now_s - self.start_s) / self.interval_s + _ROUNDING)
        return max(done + 1, current)


async def run_on_grid(grid: Grid, act: Callable[[int], Awaitable[None]]) -> None:
    """Call `act` with the number of each step when that is due; steps that pass during a call are skipped."""
    step = 0
    while step < grid.steps:
        await trio.sleep_until(grid.due_s(step))
        await act(step)
        step = grid.next_step(step, trio.current_time())
