"""The machine's clock with the errors of a scenario: steps and drifts, while their actions last."""

from collections.abc import Callable, Hashable

import trio

from trioder.process.wall_time import SystemClock, WallClock


class FaultyClock:
    """A system clock that is wrong by the sum of its errors.

    Args:
        base: the right one.
    """

    def __init__(self, base: SystemClock) -> None:
        self._base = base
        self._errors: dict[Hashable, Callable[[float], float]] = {}

    def unix_s(self) -> float:
        """See `SystemClock`."""
        now_s = trio.current_time()
        return self._base.unix_s() + sum(error(now_s) for error in self._errors.values())

    def suspended_s(self) -> float:
        """See `SystemClock`."""
        return self._base.suspended_s()

    def step(self, key: Hashable, by_s: float) -> None:
        """Begin an error of `by_s`."""
        self._errors[key] = lambda _: by_s

    def drift(self, key: Hashable, ppm: float, *, since_s: float) -> None:
        """Begin an error that grows by `ppm` microseconds a second from `since_s` on, on Trio's clock."""
        self._errors[key] = lambda now_s: (now_s - since_s) * ppm / 1e6

    def correct(self, key: Hashable) -> None:
        """End an error: the clock is set right."""
        self._errors.pop(key, None)


class SteadyClock:
    """The system clock of a wall time that follows none.

    Args:
        wall: its time.
    """

    def __init__(self, wall: WallClock) -> None:
        self._wall = wall

    def unix_s(self) -> float:
        """See `SystemClock`."""
        return self._wall.now_s()

    def suspended_s(self) -> float:
        """See `SystemClock`; it is never suspended."""
        return 0.0
