"""Keeps a process's wall time at the system's: small differences are slewed, large ones that last are steps.

Linux's `adjtime` moves Trio's clock and the wall clock alike, so what is seen here is somebody's setting of
the clock, a suspended machine, or two clocks of unlike rates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Never

import structlog
import trio

from trioder.process.wall_time import SystemClock, WallClock

log = structlog.stdlib.get_logger(__name__)

CHECK_EVERY_S = 1.0
# A difference beyond this is a step, once so many checks in a row agree on it.
STEP_S = 1.0
STEP_CHECKS = 3
# As the kernel's own: 500 ppm.
MAX_SLEW = 500e-6
# A process that was preempted between the two clocks has read none.
_READ_WITHIN_S = 0.01
# The two clocks whose difference is the suspension are read one after the other.
_SUSPENDED_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStep:
    """The wall time has jumped.

    Attributes:
        by_s: by so much; + is forward.
        suspended_s: the machine was suspended for so long: of `by_s`, time that has passed, unseen by timers.
    """

    by_s: float
    suspended_s: float = 0.0

    @property
    def corrected_s(self) -> float:
        """By how much the clock had been wrong; the rest of `by_s` has passed."""
        return self.by_s - self.suspended_s

    def __str__(self) -> str:
        """One sentence for people."""
        if self.suspended_s:
            return f"the machine was suspended for {self.suspended_s:.3f} s"
        return f"the clock was set by {self.by_s:+.3f} s"


class StepFilter:
    """Decides what becomes of the differences that are seen one after the other. No I/O."""

    def __init__(self) -> None:
        self._seen = 0
        self._last_s = 0.0

    def correction(self, difference_s: float, *, elapsed_s: float) -> tuple[float, bool]:
        """Return by how much to correct the wall time now, and whether that is a step.

        Args:
            difference_s: of the system's clock; + is ahead of the wall time.
            elapsed_s: since the difference before.
        """
        if abs(difference_s) <= STEP_S:
            self._seen = 0
            most_s = MAX_SLEW * elapsed_s
            return min(max(difference_s, -most_s), most_s), False
        agrees = self._seen > 0 and abs(difference_s - self._last_s) <= STEP_S
        self._seen = self._seen + 1 if agrees else 1
        self._last_s = difference_s
        if self._seen < STEP_CHECKS:
            return 0.0, False
        self._seen = 0
        return difference_s, True


async def discipline_clock(wall: WallClock, *, stepped: Callable[[ClockStep], None]) -> Never:
    """Keep `wall` at its system's clock until cancelled; without one, leave it alone.

    Args:
        wall: corrected in place.
        stepped: called with each step, once the clock has the new time.
    """
    system = wall.system
    if system is None:
        await trio.sleep_forever()
    steps = StepFilter()
    checked_s, suspended_s = trio.current_time(), system.suspended_s()
    while True:
        await trio.sleep(CHECK_EVERY_S)
        slept_s = system.suspended_s() - suspended_s
        if slept_s > _SUSPENDED_S:
            suspended_s += slept_s
            _step(wall, ClockStep(by_s=slept_s, suspended_s=slept_s), stepped)
        read = _read(system)
        if read is None:
            continue
        unix_s, at_s = read
        difference_s = unix_s - wall.unix_s(at_s)
        by_s, is_step = steps.correction(difference_s, elapsed_s=at_s - checked_s)
        checked_s = at_s
        if is_step:
            _step(wall, ClockStep(by_s=by_s), stepped)
        else:
            wall.adjust(by_s)


def _step(wall: WallClock, step: ClockStep, stepped: Callable[[ClockStep], None]) -> None:
    wall.adjust(step.by_s)
    log.warning(
        "wall time stepped",
        by_s=round(step.by_s, 3),
        suspended_s=round(step.suspended_s, 3),
        reason=str(step),
    )
    stepped(step)


def _read(system: SystemClock) -> tuple[float, float] | None:
    """Return the system's wall time and when it was that, on Trio's clock; None when that is not known."""
    before_s = trio.current_time()
    unix_s = system.unix_s()
    after_s = trio.current_time()
    if not 0.0 <= after_s - before_s <= _READ_WITHIN_S:
        return None
    return unix_s, (before_s + after_s) / 2
