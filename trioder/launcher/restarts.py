"""When an agent that ended is started again, and when its shard is put into quarantine.

A synchronous state machine; who sleeps and who starts processes is elsewhere.
"""

import random
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartLimits:
    """How patient the launcher is with one agent.

    Attributes:
        first_delay_s: upper bound of the first delay; it doubles with each further restart.
        longest_delay_s: upper bound of every delay but that of the quarantine.
        healthy_after_s: an agent that ran for this long begins again at the first delay; one that reports a
            status and then runs for this long leaves the quarantine.
        most_restarts: with more restarts than this ...
        within_s: ... in this long, the shard is quarantined.
        quarantine_retry_s: the delay between two attempts in quarantine.
    """

    first_delay_s: float = 0.5
    longest_delay_s: float = 30.0
    healthy_after_s: float = 30.0
    most_restarts: int = 5
    within_s: float = 60.0
    quarantine_retry_s: float = 60.0


class RestartPolicy:
    """Exponential back-off with full jitter, an intensity limit and a quarantine, for one agent.

    Attributes:
        quarantined: the agent ended too often or refused its configuration, and has not recovered since.
    """

    def __init__(self, limits: RestartLimits, rng: random.Random) -> None:
        self.quarantined = False
        self._limits = limits
        self._rng = rng
        self._attempt = 0
        self._restarts: deque[float] = deque()

    def delay_after(self, *, ran_for_s: float, now_s: float, refused: bool = False) -> float:
        """Record that the agent ended; return the delay before its next start.

        Args:
            ran_for_s: how long it ran.
            now_s: of a steady clock.
            refused: it found its configuration wrong: starting it again at once changes nothing.
        """
        limits = self._limits
        if ran_for_s >= limits.healthy_after_s:
            self._attempt = 0
        while self._restarts and now_s - self._restarts[0] >= limits.within_s:
            self._restarts.popleft()
        if refused or len(self._restarts) >= limits.most_restarts:
            self.quarantined = True
        if self.quarantined:
            return limits.quarantine_retry_s
        self._restarts.append(now_s)
        ceiling_s = min(limits.longest_delay_s, limits.first_delay_s * 2.0 ** min(self._attempt, 32))
        self._attempt += 1
        return self._rng.uniform(0.0, ceiling_s)

    def recover(self) -> None:
        """Record that the agent has been healthy for long enough: it leaves the quarantine."""
        self.quarantined = False
        self._attempt = 0
        self._restarts.clear()
