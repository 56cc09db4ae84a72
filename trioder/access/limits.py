"""Limits by key, such as a principal or an address: how often, and how many at once. Memory is bounded."""

from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

_MAX_KEYS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often something is permitted: `per_s` times a second on average, `burst` at once."""

    per_s: float
    burst: int


class RateLimit:
    """A token bucket for each key, as one time: the generic cell rate algorithm.

    Args:
        rate: of each key.
        max_keys: beyond it, the keys that were idle longest are forgotten, and start with a full bucket.
    """

    def __init__(self, rate: Rate, *, max_keys: int = _MAX_KEYS) -> None:
        self._interval_s = 1.0 / rate.per_s
        self._tolerance_s = (rate.burst - 1) * self._interval_s
        self._max_keys = max_keys
        # When the bucket of each key is full again.
        self._full_s: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are in memory."""
        return len(self._full_s)

    def wait_s(self, key: Hashable, now_s: float) -> float:
        """Return in how many seconds there will be a token; 0 if there is one. Nothing is taken."""
        wait_s = self._full_s.get(key, now_s) - now_s - self._tolerance_s
        # Rounding must not refuse a token that is due.
        return wait_s if wait_s > 1e-9 else 0.0

    def take(self, key: Hashable, now_s: float) -> float:
        """Take a token; return 0 if there was one, else in how many seconds there will be.

        Args:
            key: whose.
            now_s: monotonic.
        """
        wait_s = self.wait_s(key, now_s)
        if wait_s:
            return wait_s
        self._full_s[key] = max(self._full_s.get(key, now_s), now_s) + self._interval_s
        self._full_s.move_to_end(key)
        if len(self._full_s) > self._max_keys:
            self._full_s.popitem(last=False)
        return 0.0


class OpenLimit:
    """How many of something each key has open at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: Counter[Hashable] = Counter()

    def acquire(self, key: Hashable) -> bool:
        """Count one more; False, and nothing is counted, when the key has `most` already."""
        if self._open[key] >= self.most:
            return False
        self._open[key] += 1
        return True

    def release(self, key: Hashable) -> None:
        """Count one less."""
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]
