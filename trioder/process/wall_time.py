"""Wall time as an offset to Trio's clock: steady between corrections, and virtual when Trio's clock is.

A simulated day has simulated timestamps. Who compares it with the system's clock, and corrects it, is
`trioder.process.clock_discipline`.
"""

import time
from typing import Protocol

import trio


class SystemClock(Protocol):
    """The machine's clocks, which somebody may set, and which a sleeping machine may stop."""

    def unix_s(self) -> float:
        """Return the wall time in seconds since the Unix epoch."""
        ...

    def suspended_s(self) -> float:
        """Return for how long the machine was suspended since some instant: time that Trio's clock lacks."""
        ...


class MachineClock:
    """The clocks of this machine; for the `__main__` modules only."""

    def unix_s(self) -> float:
        """See `SystemClock`."""
        return time.time()

    def suspended_s(self) -> float:
        """See `SystemClock`; 0 where the system has no such clock: a suspension then looks like a step."""
        # Linux: CLOCK_MONOTONIC, which is Trio's, stops while the machine is suspended.
        if not hasattr(time, "CLOCK_BOOTTIME"):
            return 0.0
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class WallClock:
    """The wall time of this process, from Trio's clock; usable only inside a Trio run.

    Args:
        start_unix_s: the wall time, in seconds since the Unix epoch, ...
        start_trio_s: ... at this `trio.current_time()`.
        system: what it is to be compared with, by whoever disciplines it; None for nothing.
    """

    __slots__ = ("_offset_s", "system")

    def __init__(
        self, start_unix_s: float, start_trio_s: float, *, system: SystemClock | None = None
    ) -> None:
        self._offset_s = start_unix_s - start_trio_s
        self.system = system

    @classmethod
    def starting_now(cls) -> "WallClock":
        """Take the system's time as it is now, to follow it; for the `__main__` modules only."""
        return cls.following(MachineClock())

    @classmethod
    def following(cls, system: SystemClock) -> "WallClock":
        """Take the time of `system` as it is now, to follow it."""
        return cls(system.unix_s(), trio.current_time(), system=system)

    def now_s(self) -> float:
        """Return the wall time in seconds since the Unix epoch."""
        return self._offset_s + trio.current_time()

    def now_ms(self) -> int:
        """Return the wall time in whole milliseconds since the Unix epoch."""
        return round(self.now_s() * 1000)

    def unix_s(self, trio_s: float) -> float:
        """Return the wall time, in seconds since the Unix epoch, at an instant of Trio's clock.

        As it is known now: a correction counts for earlier instants as well.
        """
        return self._offset_s + trio_s

    def unix_ms(self, trio_s: float) -> int:
        """Return the same in whole milliseconds."""
        return round(self.unix_s(trio_s) * 1000)

    def trio_s(self, unix_s: float) -> float:
        """Return the instant of Trio's clock at which it is this wall time; infinity for infinity."""
        return unix_s - self._offset_s

    def adjust(self, by_s: float) -> None:
        """Put the clock forward, or back, by `by_s`."""
        self._offset_s += by_s
