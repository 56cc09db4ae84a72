"""A machine's clocks that a test sets, over Trio's."""

import trio

START_UNIX_S = 1_800_000_000.0
STEPS_S = (2.0, 3_600.0, 365 * 86_400.0)


class FakeSystemClock:
    """Right at first; somebody may set it, and the machine may sleep.

    Attributes:
        drift: by so much of the time it runs too fast.
    """

    def __init__(self, *, start_unix_s: float = START_UNIX_S, wrong_s: float = 0.0) -> None:
        self._began_s = trio.current_time()
        self._start_unix_s = start_unix_s + wrong_s
        self._suspended_s = 0.0
        self.drift = 0.0

    def unix_s(self) -> float:
        passed_s = trio.current_time() - self._began_s
        return self._start_unix_s + passed_s * (1 + self.drift)

    def suspended_s(self) -> float:
        return self._suspended_s

    def set_by(self, by_s: float) -> None:
        self._start_unix_s += by_s

    def sleep(self, for_s: float) -> None:
        """The machine is suspended, and Trio's clock with it: what is seen is the resumption."""
        self._start_unix_s += for_s
        self._suspended_s += for_s
