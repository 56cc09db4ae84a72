"""When an agent that ended is started again, and when that has happened too often.

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
        longest_delay_s: upper bound of every delay.
        healthy_after_s: an agent that ran for this long begins again at the first delay.
        most_restarts: with more restarts than this ...
        within_s: ... in this long, the agent is given up.
    """

    first_delay_s: float = 0.5
    longest_delay_s: float = 30.0
    healthy_after_s: float = 30.0
    most_restarts: int = 5
    within_s: float = 60.0


class RestartPolicy:
    """Exponential back-off with full jitter and an intensity limit, for one agent."""

    def __init__(self, limits: RestartLimits, rng: random.Random) -> None:
        self._limits = limits
        self._rng = rng
        self._attempt = 0
        self._restarts: deque[float] = deque()

    def delay_after(self, *, ran_for_s: float, now_s: float) -> float | None:
        """Take note that the agent ended; return the delay before its restart, or None to give up."""
        limits = self._limits
        if ran_for_s >= limits.healthy_after_s:
            self._attempt = 0
        while self._restarts and now_s - self._restarts[0] >= limits.within_s:
            self._restarts.popleft()
        if len(self._restarts) >= limits.most_restarts:
            return None
        self._restarts.append(now_s)
        ceiling_s = min(limits.longest_delay_s, limits.first_delay_s * 2.0 ** min(self._attempt, 32))
        self._attempt += 1
        return self._rng.uniform(0.0, ceiling_s)
