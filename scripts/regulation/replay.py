"""Replaying a signal onto a fleet: one loop dispatches, one reads what is delivered, each on its own grid.

What became of it is a `Recording`; figures are made of that in `scripts.regulation.report`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from scripts.regulation.grid import Grid, run_on_grid
from scripts.regulation.headend import Headend, HeadendError

# A script that dies leaves the fleet at its last setpoint for so long, and at least for three steps.
_SHORTEST_LEASE_S = 10
_LEASE_STEPS = 3
# The fleet is read so long before the next dispatch: early enough not to see that one.
_LEAD_S = 0.2
_LEAD_SHARE = 0.1

START_DELAY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A dispatch that was accepted.

    Attributes:
        took_s: until the response had arrived.
        shortfall_mw: what of it the fleet could not do.
    """

    took_s: float
    shortfall_mw: float


@dataclass(slots=True, kw_only=True)
class Recording:
    """What was asked, and what became of it, by step.

    Attributes:
        asked_mw: for every step of the signal.
        resting_mw: the fleet's power before the first step.
        steps: how many have ended.
        sent: the dispatches that were accepted.
        failed: those that were not, with the reason.
        read_mw: the fleet's power at the end of each step, where it could be read.
        read_failed: why it could not.
    """

    asked_mw: tuple[float, ...]
    resting_mw: float
    steps: int = 0
    sent: dict[int, Sent] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    read_mw: dict[int, float] = field(default_factory=dict)
    read_failed: dict[int, str] = field(default_factory=dict)

    @property
    def skipped(self) -> int:
        """How many of the steps that have ended had no dispatch, for want of time."""
        return sum(step not in self.sent and step not in self.failed for step in range(self.steps))

    @property
    def delivered_mw(self) -> tuple[float, ...]:
        """The fleet's power at the end of each step; where it was not read, the last that was."""
        series: list[float] = []
        last_mw = self.resting_mw
        for step in range(self.steps):
            last_mw = self.read_mw.get(step, last_mw)
            series.append(last_mw)
        return tuple(series)


def lease_s(interval_s: float) -> int:
    """Return the duration of each dispatch, in whole seconds, for one every `interval_s`."""
    return max(_SHORTEST_LEASE_S, math.ceil(_LEASE_STEPS * interval_s))


async def replay(headend: Headend, recording: Recording, *, interval_s: float) -> None:
    """Ask the fleet for each step's power, `interval_s` apart, and read what it delivers.

    Returns when the signal has ended. A request that fails is recorded, and the next step goes on.
    """
    steps = len(recording.asked_mw)
    start_s = trio.current_time() + START_DELAY_S
    lead_s = min(_LEAD_S, _LEAD_SHARE * interval_s)
    duration_s = lease_s(interval_s)

    async def dispatch(step: int) -> None:
        began_s = trio.current_time()
        try:
            shortfall_mw = await headend.dispatch_fleet(recording.asked_mw[step], duration_s=duration_s)
        except HeadendError as error:
            recording.failed[step] = str(error)
        else:
            recording.sent[step] = Sent(took_s=trio.current_time() - began_s, shortfall_mw=shortfall_mw)

    async def read(step: int) -> None:
        try:
            recording.read_mw[step] = (await headend.fleet()).current_mw
        except HeadendError as error:
            recording.read_failed[step] = str(error)
        recording.steps = step + 1

    ends = Grid(start_s=start_s + interval_s - lead_s, interval_s=interval_s, steps=steps)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_on_grid, Grid(start_s=start_s, interval_s=interval_s, steps=steps), dispatch)
        nursery.start_soon(run_on_grid, ends, read)


def scaled(values: Sequence[float], capability_mw: float) -> tuple[float, ...]:
    """Return a signal per unit as MW of a capability."""
    return tuple(value * capability_mw for value in values)
