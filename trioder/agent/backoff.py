"""How long to wait before the next try: exponential, with full jitter."""

import random


class Backoff:
    """Delays whose bound doubles from `first_s` to `max_s`, until `reset`.

    Full jitter spreads those that lost the same peer at once. Each delay is at least a tenth of its
    bound, so that no series of lucky draws becomes a tight loop.
    """

    __slots__ = ("_bound_s", "_first_s", "_max_s", "_rng")

    def __init__(self, *, first_s: float, max_s: float, rng: random.Random) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._bound_s = first_s
        self._rng = rng

    def next_delay_s(self) -> float:
        """Return the delay before the next try, and double the bound of the one after."""
        bound_s = self._bound_s
        self._bound_s = min(self._max_s, 2.0 * bound_s)
        return self._rng.uniform(0.1 * bound_s, bound_s)

    def reset(self) -> None:
        """What was tried has worked: begin again with the shortest delay."""
        self._bound_s = self._first_s
