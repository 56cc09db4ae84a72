"""Wall time as a start instant plus Trio's clock: steady, and virtual when Trio's clock is.

No step of the system's clock tears a series apart, and a simulated day has simulated timestamps.
"""

import time

import trio


class WallClock:
    """Tells the wall time from Trio's clock; usable only inside a Trio run.

    Args:
        start_unix_s: the wall time, in seconds since the Unix epoch, ...
        start_trio_s: ... at this `trio.current_time()`.
    """

    __slots__ = ("_offset_s",)

    def __init__(self, start_unix_s: float, start_trio_s: float) -> None:
        self._offset_s = start_unix_s - start_trio_s

    @classmethod
    def starting_now(cls) -> "WallClock":
        """Take the system's time as it is now; for the `__main__` modules only."""
        return cls(time.time(), trio.current_time())

    def now_s(self) -> float:
        """Return the wall time in seconds since the Unix epoch."""
        return self._offset_s + trio.current_time()

    def now_ms(self) -> int:
        """Return the wall time in whole milliseconds since the Unix epoch."""
        return round(self.now_s() * 1000)

    def unix_s(self, trio_s: float) -> float:
        """Return the wall time, in seconds since the Unix epoch, at an instant of Trio's clock."""
        return self._offset_s + trio_s

    def unix_ms(self, trio_s: float) -> int:
        """Return the same in whole milliseconds."""
        return round(self.unix_s(trio_s) * 1000)
