"""How far a peer's clock is ahead of ours, from readings of it that arrive late. Pure.

A reading is compared with our clock when it arrives: the delay on its way only makes it smaller, so the
largest of several is the best, as in NTP's clock filter (RFC 5905, section 10).
"""

from typing import NamedTuple

# Long enough for several heartbeats, and for one that met no queue.
WINDOW_S = 120.0
# Without a round trip to bound it, an estimate is to be believed after this: a burst of old samples is over.
SETTLED_AFTER_S = 10.0
_GRAIN_S = 1.0
# Nothing is so long on its way, twice: readings so far below those before show a clock that was set back.
SET_BACK_S = 60.0


class Skew(NamedTuple):
    """An estimate, in seconds.

    Attributes:
        skew_s: + is ahead of our clock.
        error_s: half the round trip; None when none was measured, and then `skew_s` is a lower bound.
    """

    skew_s: float
    error_s: float | None


class SkewFilter:
    """The readings of one peer's clock; at most one a second is kept.

    Between a time `t0` of ours, at which we sent what the peer answered to, and the arrival `t1` of the
    answer, the peer's clock showed T: its skew is between T - t1 and T - t0.
    """

    __slots__ = ("_first_s", "_readings", "_round_trip_s")

    def __init__(self) -> None:
        # When it arrived, on a steady clock, and how far it was ahead of ours; oldest first.
        self._readings: list[tuple[float, float]] = []
        self._round_trip_s: float | None = None
        self._first_s: float | None = None

    def observe(self, ahead_s: float, now_s: float) -> None:
        """Take a reading that was `ahead_s` of our clock when it arrived, at `now_s` of a steady clock."""
        readings = self._readings
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
        """Two readings in a row that are far below those before them: only these two count.

        A peer that does not report that its clock was set, or that has shown a time that is none, is
        otherwise believed to be that far ahead for the whole window.
        """
        if len(self._readings) < 3:
            return
        (_, before_s), (_, last_s), (_, newest_s) = self._readings[-3:]
        if before_s - max(last_s, newest_s) > SET_BACK_S:
            self._readings = self._readings[-2:]

    def round_trip(self, took_s: float) -> None:
        """A message to the peer and its answer, with a reading, took so long together."""
        self._round_trip_s = took_s if self._round_trip_s is None else min(self._round_trip_s, took_s)

    def our_clock_stepped(self, by_s: float) -> None:
        """Our clock was set by so much: what was read before is now that much less ahead."""
        self._readings = [(at_s, ahead_s - by_s) for at_s, ahead_s in self._readings]

    def keep_newest(self) -> None:
        """The peer's clock was set: what was read before the newest reading counts no more."""
        self._readings = self._readings[-1:]

    def forget(self) -> None:
        """No reading counts any more; what is known of the round trip does."""
        self._readings = []

    def settled(self, now_s: float) -> bool:
        """Whether the estimate is to be believed."""
        if self._round_trip_s is not None:
            return True
        return self._first_s is not None and now_s - self._first_s >= SETTLED_AFTER_S

    @property
    def estimate(self) -> Skew | None:
        """As it follows from the readings; None without any."""
        if not self._readings:
            return None
        least_s = max(ahead_s for _, ahead_s in self._readings)
        if self._round_trip_s is None:
            return Skew(least_s, None)
        error_s = self._round_trip_s / 2
        return Skew(least_s + error_s, error_s)
