"""Keeps a process's wall time at the system's: small differences are slewed, large lasting ones stepped.

Linux's `adjtime` moves Trio's clock and the wall clock alike, so a difference here means that the clock was
set, that the machine was suspended, or that the two clocks run at different rates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Never

import structlog
import trio

from trioder.process.wall_time import SystemClock, WallClock

log = structlog.stdlib.get_logger(__name__)

CHECK_EVERY_S = 1.0
# A larger difference is a step, once this many consecutive checks agree on it.
STEP_S = 1.0
STEP_CHECKS = 3
# As the kernel's own: 500 ppm.
MAX_SLEW = 500e-6
# If reading both clocks takes longer, the process was preempted in between: the reading is discarded.
_READ_WITHIN_S = 0.01
# The suspension is the difference of two clocks that are not read at the same instant.
_SUSPENDED_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStep:
    """A step of the wall time.

    Attributes:
        by_s: its size; + is forward.
        suspended_s: the part of `by_s` that passed while the machine was suspended, unseen by timers.
    """

    by_s: float
    suspended_s: float = 0.0

    @property
    def corrected_s(self) -> float:
        """The error of the clock; the rest of `by_s` is time that passed."""
        return self.by_s - self.suspended_s

    def __str__(self) -> str:
        """Return one sentence for an operator."""
        if self.suspended_s:
            return f"the machine was suspended for {self.suspended_s:.3f} s"
        return f"the clock was set by {self.by_s:+.3f} s"


class StepFilter:
    """Decides on each difference in turn. No I/O."""

    def __init__(self) -> None:
        self._agreeing = 0
        self._last_s = 0.0

    def correction(self, difference_s: float, *, elapsed_s: float) -> tuple[float, bool]:
        """Return the correction of the wall time, and whether it is a step.

        Args:
            difference_s: + if the system's clock is ahead of the wall time.
            elapsed_s: since the last difference.
        """
        if abs(difference_s) <= STEP_S:
            self._agreeing = 0
            max_slew_s = MAX_SLEW * elapsed_s
            return min(max(difference_s, -max_slew_s), max_slew_s), False
        agrees = self._agreeing > 0 and abs(difference_s - self._last_s) <= STEP_S
        self._agreeing = self._agreeing + 1 if agrees else 1
        self._last_s = difference_s
        if self._agreeing < STEP_CHECKS:
            return 0.0, False
        self._agreeing = 0
        return difference_s, True


async def discipline_clock(wall: WallClock, *, stepped: Callable[[ClockStep], None]) -> Never:
    """Keep `wall` at its system's clock until cancelled; do nothing if it has none.

    Args:
        wall: corrected in place.
        stepped: called after each step.
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
    """Return the system's wall time and Trio's time of the reading; None if they may not match."""
    before_s = trio.current_time()
    unix_s = system.unix_s()
    after_s = trio.current_time()
    if not 0.0 <= after_s - before_s <= _READ_WITHIN_S:
        return None
    return unix_s, (before_s + after_s) / 2
