"""How often something may happen: at once, and for long."""


class RateLimit:
    """A token bucket over a count that only grows.

    Args:
        at_once: tokens in the full bucket, with which it begins.
        per_s: tokens that are added a second.
        now_s: the time now, on the clock that `exceeded` is given.
    """

    def __init__(self, *, at_once: int, per_s: float, now_s: float) -> None:
        self._at_once = at_once
        self._per_s = per_s
        self._left = float(at_once)
        self._seen = 0
        self._at_s = now_s

    def exceeded(self, count: int, *, now_s: float) -> bool:
        """Take as many tokens as the count has grown by; True if there were not as many."""
        fresh = count - self._seen
        if fresh == 0:
            return False
        self._seen = count
        self._left = min(self._at_once, self._left + (now_s - self._at_s) * self._per_s) - fresh
        self._at_s = now_s
        return self._left < 0
