"""When an agent that ended is restarted, and when its shard is quarantined. Synchronous: no sleeping."""

import random
from collections import deque
from dataclasses import dataclass

from trioder.process.backoff import Backoff


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartLimits:
    """The limits for one agent.

    Attributes:
        first_delay_s: upper bound of the first delay; it doubles with each further restart.
        longest_delay_s: upper bound of every delay but the quarantine's.
        healthy_after_s: after a run of this length the back-off begins again; an agent that runs so long
            after its first status leaves the quarantine.
        most_restarts: with more restarts than this ...
        within_s: ... in this time, the shard is quarantined.
        quarantine_retry_s: the delay between two attempts in quarantine.
    """

    first_delay_s: float = 0.5
    longest_delay_s: float = 30.0
    healthy_after_s: float = 30.0
    most_restarts: int = 5
    within_s: float = 60.0
    quarantine_retry_s: float = 60.0


class RestartPolicy:
    """Back-off, an intensity limit and a quarantine, for one agent.

    Attributes:
        quarantined: the agent ended too often or refused its configuration, and has not recovered since.
    """

    def __init__(self, limits: RestartLimits, rng: random.Random) -> None:
        self.quarantined = False
        self._limits = limits
        self._backoff = Backoff(first_s=limits.first_delay_s, max_s=limits.longest_delay_s, rng=rng)
        self._restarts: deque[float] = deque()

    def delay_after(self, *, ran_for_s: float, now_s: float, refused: bool = False) -> float:
        """Record that the agent ended; return the delay before its next start.

        Args:
            ran_for_s: the length of the run.
            now_s: of a steady clock.
            refused: it refused its configuration, which a restart does not change.
        """
        limits = self._limits
        if ran_for_s >= limits.healthy_after_s:
            self._backoff.reset()
        while self._restarts and now_s - self._restarts[0] >= limits.within_s:
            self._restarts.popleft()
        if refused or len(self._restarts) >= limits.most_restarts:
            self.quarantined = True
        if self.quarantined:
            return limits.quarantine_retry_s
        self._restarts.append(now_s)
        return self._backoff.next_delay_s()

    def recover(self) -> None:
        """End the quarantine: the agent has been healthy for long enough."""
        self.quarantined = False
        self._backoff.reset()
        self._restarts.clear()
