"""What a server refuses its peers: counted by reason, and logged a few times in ten seconds."""

from dataclasses import dataclass

import structlog
import trio

log = structlog.stdlib.get_logger(__name__)

_LOG_EVERY_S = 10.0
_LOGGED_AT_ONCE = 5

REASONS = (
    "memory",
    "call_bounds",
    "register_timeout",
    "silent",
    "call_rate",
    "control_frame_rate",
    "protocol_violation",
    "unread_responses",
    "accept",
)


@dataclass(slots=True)
class _Window:
    until_s: float = float("-inf")
    logged: int = 0
    suppressed: int = 0


class Refusals:
    """Counts by reason; `counts` has all of REASONS."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(REASONS, 0)
        self._windows: dict[str, _Window] = {}

    def add(self, reason: str, **details: object) -> None:
        """Count one, and log it unless enough of its kind were logged: a flood must not fill the log."""
        self.counts[reason] += 1
        now_s = trio.current_time()
        window = self._windows.setdefault(reason, _Window())
        if now_s >= window.until_s:
            window.until_s = now_s + _LOG_EVERY_S
            window.logged = 0
        if window.logged >= _LOGGED_AT_ONCE:
            window.suppressed += 1
            return
        window.logged += 1
        if window.suppressed:
            details["suppressed_before"] = window.suppressed
            window.suppressed = 0
        log.warning("peer refused", reason=reason, **details)
