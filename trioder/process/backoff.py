"""How long to wait before the next attempt: exponential back-off with full jitter."""

import random


class Backoff:
    """Delays whose bound doubles from `first_s` to `max_s`, until `reset`.

    Jitter spreads clients that lost the same peer at once. Each delay is at least a tenth of its bound, so
    that a series of low draws does not become a tight loop. Without `rng` each delay is the bound itself.
    """

    __slots__ = ("_bound_s", "_first_s", "_max_s", "_rng")

    def __init__(self, *, first_s: float, max_s: float, rng: random.Random | None = None) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._bound_s = first_s
        self._rng = rng

    def next_delay_s(self) -> float:
        """Return the delay before the next attempt, and double the bound of the one after."""
        bound_s = self._bound_s
        self._bound_s = min(self._max_s, 2.0 * bound_s)
        return bound_s if self._rng is None else self._rng.uniform(0.1 * bound_s, bound_s)

    def reset(self) -> None:
        """Begin again with the shortest delay: an attempt has succeeded."""
        self._bound_s = self._first_s
