"""The agent's pulses: a grid of instants on Trio's clock, and their lateness. Pure; no waiting.

`trioder.agent.battery_pool` waits for the instants.
"""

import math
from collections import deque

_RECENT_VALUES = 1024


class Lateness:
    """Lateness in seconds: the maximum of all values, and quantiles of the last 1,024."""

    __slots__ = ("_recent", "count", "max_s")

    def __init__(self) -> None:
        self.count = 0
        self.max_s = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT_VALUES)

    def record(self, late_s: float) -> None:
        """Record one value."""
        self.count += 1
        self.max_s = max(self.max_s, late_s)
        self._recent.append(late_s)

    @property
    def recent(self) -> tuple[float, ...]:
        """The last 1,024, oldest first."""
        return tuple(self._recent)

    def quantile_s(self, share: float) -> float:
        """Return the smallest recent value that `share` of the recent ones do not exceed; 0 without any."""
        if not self._recent:
            return 0.0
        ordered = sorted(self._recent)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class PulseGrid:
    """The instants `first_s + n * tick_s` of Trio's clock.

    A late pulse does not shift the later ones; one whose successor is due already is skipped and counted.

    Attributes:
        due_s: when the next pulse is due.
        skipped: pulses that did not take place.
        lateness: of those that did.
    """

    def __init__(self, *, first_s: float, tick_s: float) -> None:
        self.due_s = first_s
        self.tick_s = tick_s
        self.skipped = 0
        self.lateness = Lateness()

    @classmethod
    def aligned(cls, *, tick_s: float, phase: float, now_s: float, wall_s: float) -> "PulseGrid":
        """Place the grid on the wall clock's multiples of `tick_s`, `phase` (0..1) of a tick later.

        So agents in different processes, each with its own Trio clock, keep their phases apart.
        """
        return cls(first_s=now_s + (phase * tick_s - wall_s) % tick_s, tick_s=tick_s)

    def begin(self, now_s: float) -> None:
        """Move the first pulse to `now_s` or later, without counting a skipped one."""
        missed = math.ceil((now_s - self.due_s) / self.tick_s)
        self.due_s += max(0, missed) * self.tick_s

    def strike(self, now_s: float) -> float:
        """Record a pulse at `now_s`, not before `due_s`; return when it was due."""
        missed = int((now_s - self.due_s) // self.tick_s)
        if missed > 0:
            self.skipped += missed
            self.due_s += missed * self.tick_s
        struck_s = self.due_s
        self.lateness.record(max(0.0, now_s - struck_s))
        self.due_s += self.tick_s
        return struck_s
