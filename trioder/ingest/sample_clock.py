"""When a sample was made by the headend's clock, whatever the agent's own clock says. Synchronous and pure.

What is measured between the two clocks is the session's; this uses it, and does without where there is none.
"""

# A time that cannot be: before 2000-01-01, or so far ahead of what the headend's clock has.
FIRST_POSSIBLE_MS = 946_684_800_000
AHEAD_MS = 60_000

# An agent whose samples all come equally late, for so long, delivers them as they are made, and its clock is
# behind. A backlog comes faster than it was made: its lateness shrinks.
_STEADY_MS = 1_000
_STEADY_FOR_MS = 8_000
_STEADY_SAMPLES = 3


def is_wrong_time(ts_unix_ms: int, *, received_ms: int, skew_s: float | None) -> bool:
    """Whether a sample's own time cannot be.

    A clock that is ahead is corrected first. One that is behind is not: it may have been set right since that
    was measured, and what it says is not in the future.

    Args:
        ts_unix_ms: by the agent's clock.
        received_ms: by the headend's clock.
        skew_s: by how much the agent's clock is ahead, s, as it was measured; None when it was not.
    """
    if ts_unix_ms < FIRST_POSSIBLE_MS:
        return True
    ahead_ms = ts_unix_ms - received_ms - AHEAD_MS
    return ahead_ms > 0 and ahead_ms > _ms(skew_s)


class SampleClock:
    """Translates the times of one session's samples.

    A measured skew is taken as it is. Without one the agent's clock counts as right, unless its samples show
    that it is not: nothing is received before it is made, and nothing is late by the same time for long.
    A sample that follows another in the outbox, but is older by its own time, was made after the clock was
    set back; until that is measured, it counts as made when it was received.
    """

    def __init__(self) -> None:
        self._ahead_ms = 0
        self._measured_s: float | None = None
        self._newest_ms: int | None = None
        # The lead of the first of a run of equally late samples, when that came, and how many have followed.
        self._run: tuple[int, int, int] | None = None

    def made_ms(
        self, ts_unix_ms: int, *, received_ms: int, skew_s: float | None, newest: bool, in_sequence: bool
    ) -> int:
        """Return when a sample was made, by the headend's clock; never later than it was received.

        Args:
            ts_unix_ms: its own time, which is not a wrong one.
            received_ms: by the headend's clock, now.
            skew_s: as for `is_wrong_time`.
            newest: whether no newer sample of the session is known; of a backlog nothing is learned.
            in_sequence: whether a sequence says so, and not its time.
        """
        if skew_s is not None and skew_s != self._measured_s:
            self._measured_s = skew_s
            self._ahead_ms = _ms(skew_s)
            # A clock that was set back since then is known of.
            self._newest_ms = None
        lead_ms = ts_unix_ms - received_ms
        before_ms = self._newest_ms if newest and in_sequence else None
        if lead_ms > self._ahead_ms or (before_ms is not None and ts_unix_ms < before_ms):
            self._ahead_ms = lead_ms
        elif newest and skew_s is None:
            if lead_ms >= self._ahead_ms - _STEADY_MS:
                self._run = None
            else:
                self._learn(lead_ms, received_ms)
        if newest:
            self._newest_ms = ts_unix_ms
        return ts_unix_ms - self._ahead_ms

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's own clock was set ahead by this."""
        self._ahead_ms -= by_ms
        # The skew as it was measured is another as well, even if the agent's step makes it the same number.
        self._measured_s = self._run = None

    def _learn(self, lead_ms: int, received_ms: int) -> None:
        first_lead_ms, since_ms, samples = self._run or (lead_ms, received_ms, 0)
        if abs(lead_ms - first_lead_ms) > _STEADY_MS:
            first_lead_ms, since_ms, samples = lead_ms, received_ms, 0
        self._run = first_lead_ms, since_ms, samples + 1
        if samples + 1 >= _STEADY_SAMPLES and received_ms - since_ms >= _STEADY_FOR_MS:
            self._ahead_ms = lead_ms
            self._run = None


def _ms(skew_s: float | None) -> int:
    return 0 if skew_s is None else round(skew_s * 1000)
