"""Many durations as three figures. How they are measured is told by the benchmarks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The smallest value that half of all, and 99 % of all, do not exceed; and the largest."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    def cells(self) -> list[str]:
        """Return p50, p99 and max as text."""
        return [f"{value_ms:,.1f}" for value_ms in (self.p50_ms, self.p99_ms, self.max_ms)]


def spread_of(values_s: Sequence[float]) -> Spread:
    """Return the spread of at least one duration, given in seconds.

    Raises:
        ValueError: there is none.
    """
    if not values_s:
        raise ValueError("there is no spread of no durations")
    ordered = sorted(values_s)

    def quantile_ms(share: float) -> float:
        return 1000 * ordered[math.ceil(share * len(ordered)) - 1]

    return Spread(
        count=len(ordered), p50_ms=quantile_ms(0.5), p99_ms=quantile_ms(0.99), max_ms=1000 * ordered[-1]
    )
