"""Clock skew: how far a peer's clock is ahead of ours, estimated from delayed readings of it.

A reading is compared with our clock when it arrives. The network delay only makes it smaller, so the largest
of several is the best, as in NTP's clock filter (RFC 5905, section 10). Timestamps of samples are not
readings of a clock, and a single one may be far off: of those the median counts.
"""

from statistics import median
from typing import NamedTuple

# Long enough for several heartbeats, one of which was not delayed in a queue.
WINDOW_S = 120.0
# Without a round trip to bound it, an estimate is valid after this: a burst of old samples is over.
SETTLED_AFTER_S = 10.0
_GRAIN_S = 1.0
_FEWEST_SAMPLES = 3
# No two messages are delayed so long: readings so far below the previous ones mean a clock that was set back.
SET_BACK_S = 60.0


class Skew(NamedTuple):
    """An estimate, in seconds.

    Attributes:
        skew_s: + is ahead of our clock.
        error_s: half the round trip; None if none was measured: then `skew_s` is a lower bound, or a median.
    """

    skew_s: float
    error_s: float | None


class SkewFilter:
    """The readings of one peer's clock, at most one a second.

    Args:
        of_samples: the readings are timestamps of samples, from a peer that sends no clock.

    Between our request at `t0` and the arrival of the response at `t1`, both by our clock, the peer's clock
    read T: its skew is between T - t1 and T - t0.
    """

    __slots__ = ("_first_s", "_newest", "_of_samples", "_readings", "_round_trip_s")

    def __init__(self, *, of_samples: bool = False) -> None:
        self._of_samples = of_samples
        # Arrival on a monotonic clock, and seconds ahead of our clock; oldest first.
        self._readings: list[tuple[float, float]] = []
        # The last one as it was, also when it shares a place among the readings.
        self._newest: tuple[float, float] | None = None
        self._round_trip_s: float | None = None
        self._first_s: float | None = None

    def observe(self, ahead_s: float, now_s: float) -> None:
        """Add a reading that was `ahead_s` of our clock when it arrived, at `now_s` of a monotonic clock."""
        readings = self._readings
        self._newest = now_s, ahead_s
        if self._first_s is None:
            self._first_s = now_s
        if readings and now_s - readings[-1][0] < _GRAIN_S:
            at_s, before_s = readings[-1]
            readings[-1] = at_s, max(before_s, ahead_s)
        else:
            readings.append((now_s, ahead_s))
        self._forget_before_set_back()
        oldest_s = now_s - WINDOW_S
        if self._readings[0][0] < oldest_s:
            self._readings = [reading for reading in self._readings if reading[0] >= oldest_s]

    def _forget_before_set_back(self) -> None:
        """If the last two readings are far below the one before, keep only these two.

        Otherwise a peer that does not report that its clock was set back, or that has once sent a wrong time,
        would count as far ahead for the whole window.
        """
        if len(self._readings) < 3:
            return
        (_, before_s), (_, last_s), (_, newest_s) = self._readings[-3:]
        if before_s - max(last_s, newest_s) > SET_BACK_S:
            self._readings = self._readings[-2:]

    def round_trip(self, took_s: float) -> None:
        """Add the round-trip time of a request whose response carried a reading."""
        self._round_trip_s = took_s if self._round_trip_s is None else min(self._round_trip_s, took_s)

    def our_clock_stepped(self, by_s: float) -> None:
        """Correct all readings after our clock was set by so much."""
        self._readings = [(at_s, ahead_s - by_s) for at_s, ahead_s in self._readings]
        if self._newest is not None:
            at_s, ahead_s = self._newest
            self._newest = at_s, ahead_s - by_s

    def keep_newest(self) -> None:
        """Drop all readings but the newest: the peer's clock was set."""
        self._readings = [] if self._newest is None else [self._newest]

    def forget(self) -> None:
        """Drop all readings; keep the round trip."""
        self._readings, self._newest = [], None

    def settled(self, now_s: float) -> bool:
        """Whether the estimate is reliable."""
        if self._round_trip_s is not None:
            return True
        if self._of_samples and len(self._readings) < _FEWEST_SAMPLES:
            return False
        return self._first_s is not None and now_s - self._first_s >= SETTLED_AFTER_S

    @property
    def estimate(self) -> Skew | None:
        """The skew that the readings give; None without any."""
        if not self._readings:
            return None
        ahead_s = [ahead_s for _, ahead_s in self._readings]
        if self._of_samples:
            return Skew(median(ahead_s), None)
        least_s = max(ahead_s)
        if self._round_trip_s is None:
            return Skew(least_s, None)
        error_s = self._round_trip_s / 2
        return Skew(least_s + error_s, error_s)
