"""Translates the time of a sample from the agent's clock to the headend's. Synchronous and pure.

The session has the measured skew between the two clocks; without one, it is estimated from samples.
"""

# A wrong time is before 2000-01-01, or further ahead of the headend's clock than this.
FIRST_POSSIBLE_MS = 946_684_800_000
AHEAD_MS = 60_000

# An agent whose samples are all equally late, for this long, sends them as they are made, and its clock is
# behind. The lateness of a backlog shrinks, since it is sent faster than it was made.
_STEADY_MS = 1_000
_STEADY_FOR_MS = 8_000
_STEADY_SAMPLES = 3


def is_wrong_time(ts_unix_ms: int, *, received_ms: int, skew_s: float | None) -> bool:
    """Whether a sample's own time cannot be right.

    A clock that is ahead is corrected first. One that is behind is not: it may have been corrected since the
    measurement, and its times are not in the future.

    Args:
        ts_unix_ms: by the agent's clock.
        received_ms: by the headend's clock.
        skew_s: by how much the agent's clock is ahead, s, as measured; None without a measurement.
    """
    if ts_unix_ms < FIRST_POSSIBLE_MS:
        return True
    ahead_ms = ts_unix_ms - received_ms - AHEAD_MS
    return ahead_ms > 0 and ahead_ms > _ms(skew_s)


class SampleClock:
    """Translates the times of one session's samples.

    A measured skew is used as it is. Without one the agent's clock is assumed right, unless its samples prove
    otherwise: none is received before it is made, and none is late by the same time for long. A sample that
    follows another in the outbox, but is older by its own time, was made after the clock was set back; until
    that is measured, its time is the time of receipt.
    """

    def __init__(self) -> None:
        self._ahead_ms = 0
        self._measured_s: float | None = None
        self._newest_ms: int | None = None
        # Of a run of equally late samples: the lead of the first, when it was received, and their number.
        self._run: tuple[int, int, int] | None = None

    def made_ms(
        self, ts_unix_ms: int, *, received_ms: int, skew_s: float | None, newest: bool, in_sequence: bool
    ) -> int:
        """Return when a sample was made, by the headend's clock; never later than it was received.

        Args:
            ts_unix_ms: its own time, which is not a wrong one.
            received_ms: by the headend's clock, now.
            skew_s: as for `is_wrong_time`.
            newest: whether no newer sample of the session is known; a backlog is no evidence.
            in_sequence: whether that is by its sequence, and not by its time.
        """
        if skew_s is not None and skew_s != self._measured_s:
            self._measured_s = skew_s
            self._ahead_ms = _ms(skew_s)
            # The measurement includes any step back until then.
            self._newest_ms = None
        lead_ms = ts_unix_ms - received_ms
        before_ms = self._newest_ms if newest and in_sequence else None
        if lead_ms > self._ahead_ms or (before_ms is not None and ts_unix_ms < before_ms):
            self._ahead_ms = lead_ms
        elif newest and skew_s is None:
            if lead_ms >= self._ahead_ms - _STEADY_MS:
                self._run = None
            else:
                self._estimate(lead_ms, received_ms)
        if newest:
            self._newest_ms = ts_unix_ms
        return ts_unix_ms - self._ahead_ms

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's clock was stepped by this."""
        self._ahead_ms -= by_ms
        # The measured skew has changed as well, even if a step of the agent's clock makes it the same number.
        self._measured_s = self._run = None

    def _estimate(self, lead_ms: int, received_ms: int) -> None:
        first_lead_ms, since_ms, samples = self._run or (lead_ms, received_ms, 0)
        if abs(lead_ms - first_lead_ms) > _STEADY_MS:
            first_lead_ms, since_ms, samples = lead_ms, received_ms, 0
        self._run = first_lead_ms, since_ms, samples + 1
        if samples + 1 >= _STEADY_SAMPLES and received_ms - since_ms >= _STEADY_FOR_MS:
            self._ahead_ms = lead_ms
            self._run = None


def _ms(skew_s: float | None) -> int:
    return 0 if skew_s is None else round(skew_s * 1000)
