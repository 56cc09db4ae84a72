"""The one clock of the agent: a grid of instants, and how late each of them was met.

Pure bookkeeping; who waits for the instants and what happens at them is in `trioder.agent.battery_pool`.
"""

import math
from collections import deque

_KEPT_SAMPLES = 1024


class Lateness:
    """How late things came, in seconds: the maximum of all, and quantiles of the last 1,024."""

    __slots__ = ("_recent", "count", "max_s")

    def __init__(self) -> None:
        self.count = 0
        self.max_s = 0.0
        self._recent: deque[float] = deque(maxlen=_KEPT_SAMPLES)

    def record(self, late_s: float) -> None:
        """Note one."""
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
        skipped: pulses that never came.
        lateness: of those that came.
    """

    def __init__(self, *, first_s: float, tick_s: float) -> None:
        self.due_s = first_s
        self.tick_s = tick_s
        self.skipped = 0
        self.lateness = Lateness()

    @classmethod
    def aligned(cls, *, tick_s: float, phase: float, now_s: float, wall_s: float) -> "PulseGrid":
        """Place the grid on the wall clock's multiples of `tick_s`, `phase` (0..1) of a tick later.

        So agents in other processes, each with a Trio clock of its own, keep their phases apart.
        """
        return cls(first_s=now_s + (phase * tick_s - wall_s) % tick_s, tick_s=tick_s)

    def begin(self, now_s: float) -> None:
        """Let the first pulse be the next that is due; what was due before `now_s` was never to come."""
        missed = math.ceil((now_s - self.due_s) / self.tick_s)
        self.due_s += max(0, missed) * self.tick_s

    def strike(self, now_s: float) -> float:
        """The pulse that was due comes at `now_s`, not before `due_s`; return when it should have come."""
        missed = int((now_s - self.due_s) // self.tick_s)
        if missed > 0:
            self.skipped += missed
            self.due_s += missed * self.tick_s
        struck_s = self.due_s
        self.lateness.record(max(0.0, now_s - struck_s))
        self.due_s += self.tick_s
        return struck_s
