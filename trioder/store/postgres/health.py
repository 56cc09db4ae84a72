"""How the database is, and the log lines about it: one for each change, and a reminder now and then."""

import structlog
import trio

log = structlog.stdlib.get_logger(__name__)

_REMIND_EVERY_S = 60.0


class HealthRecord:
    """Begins as not connected.

    Attributes:
        reason: why it is not well; empty when it is.
        has_been_ok: since whoever minds has set it back.
    """

    def __init__(self) -> None:
        self.reason = "not connected yet"
        self.has_been_ok = False
        self._away_since_s: float | None = None
        self._told_s = 0.0

    def ok(self) -> None:
        """It does what it is asked."""
        self.has_been_ok = True
        if not self.reason:
            return
        self.reason = ""
        if self._away_since_s is None:
            log.info("database connected")
        else:
            log.info("database available again", away_s=round(trio.current_time() - self._away_since_s, 1))
            self._away_since_s = None

    def failed(self, reason: str) -> None:
        """It does not, and why."""
        now_s = trio.current_time()
        if self._away_since_s is None:
            self._away_since_s = now_s
        if reason != self.reason or now_s - self._told_s >= _REMIND_EVERY_S:
            log.error("database unavailable", reason=reason, away_s=round(now_s - self._away_since_s, 1))
            self._told_s = now_s
        self.reason = reason
