"""Wall time as an offset to Trio's clock: steady between corrections, and virtual if Trio's clock is.

`trioder.process.clock_discipline` compares it with the system's clock and corrects it.
"""

import time
from typing import Protocol

import trio


class SystemClock(Protocol):
    """The machine's clocks, which may be set, and stop while the machine is suspended."""

    def unix_s(self) -> float:
        """Return the wall time in seconds since the Unix epoch."""
        ...

    def suspended_s(self) -> float:
        """Return the time suspended since some fixed instant, which Trio's clock lacks."""
        ...


class MachineClock:
    """The clocks of this machine; for the `__main__` modules only."""

    def unix_s(self) -> float:
        """See `SystemClock`."""
        return time.time()

    def suspended_s(self) -> float:
        """See `SystemClock`; 0 without CLOCK_BOOTTIME: a suspension is then seen as a step."""
        # On Linux CLOCK_MONOTONIC, which is Trio's, stops while the machine is suspended.
        if not hasattr(time, "CLOCK_BOOTTIME"):
            return 0.0
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class WallClock:
    """The wall time of this process, from Trio's clock; usable only inside a Trio run.

    Args:
        start_unix_s: the wall time, in seconds since the Unix epoch, ...
        start_trio_s: ... at this `trio.current_time()`.
        system: the clock that it follows, if disciplined; None if none.
    """

    __slots__ = ("_offset_s", "system")

    def __init__(
        self, start_unix_s: float, start_trio_s: float, *, system: SystemClock | None = None
    ) -> None:
        self._offset_s = start_unix_s - start_trio_s
        self.system = system

    @classmethod
    def starting_now(cls) -> "WallClock":
        """Start at the system's present time; for the `__main__` modules only."""
        return cls.following(MachineClock())

    @classmethod
    def following(cls, system: SystemClock) -> "WallClock":
        """Start at the present time of `system`."""
        return cls(system.unix_s(), trio.current_time(), system=system)

    def now_s(self) -> float:
        """Return the wall time in seconds since the Unix epoch."""
        return self._offset_s + trio.current_time()

    def now_ms(self) -> int:
        """Return the wall time in whole milliseconds since the Unix epoch."""
        return round(self.now_s() * 1000)

    def unix_s(self, trio_s: float) -> float:
        """Return the wall time, in seconds since the Unix epoch, at a time of Trio's clock.

        Corrections apply to earlier times as well.
        """
        return self._offset_s + trio_s

    def unix_ms(self, trio_s: float) -> int:
        """Return the same in whole milliseconds."""
        return round(self.unix_s(trio_s) * 1000)

    def trio_s(self, unix_s: float) -> float:
        """Return Trio's time at this wall time; infinity for infinity."""
        return unix_s - self._offset_s

    def adjust(self, by_s: float) -> None:
        """Move the clock forward, or back, by `by_s`."""
        self._offset_s += by_s
