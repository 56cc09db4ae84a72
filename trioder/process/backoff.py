"""Exponential back-off, with or without jitter."""

import random


class Backoff:
    """Delays whose bound doubles from `first_s` to `max_s`, until `reset`.

    Args:
        first_s: the first bound.
        max_s: the largest bound.
        rng: for full jitter, which spreads peers that retry at once; a delay is at least 0.1 of its bound.
            Without it a delay is its bound.
    """

    __slots__ = ("_bound_s", "_first_s", "_max_s", "_rng")

    def __init__(self, *, first_s: float, max_s: float, rng: random.Random | None = None) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._bound_s = first_s
        self._rng = rng

    def next_delay_s(self) -> float:
        """Return the delay before the next try, and double the bound."""
        bound_s = self._bound_s
        self._bound_s = min(self._max_s, 2.0 * bound_s)
        return bound_s if self._rng is None else self._rng.uniform(0.1 * bound_s, bound_s)

    def reset(self) -> None:
        """Restart with the first delay, after a success."""
        self._bound_s = self._first_s
