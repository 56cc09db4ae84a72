"""How many log lines of one kind an agent's messages may cause, and the log of agents' events within that.

A flood of messages must not fill the disk.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import structlog

from trioder.events.counters import Counters
from trioder.events.facts import AgentEvent, SessionClosed
from trioder.process.wall_time import WallClock

log = structlog.stdlib.get_logger(__name__)

# As many as the batteries of a large site report at once.
MAX_LINES = 1_000
WINDOW_MS = 10_000


@dataclass(slots=True)
class _Window:
    since_ms: int
    lines: int = 0
    suppressed: int = 0


@dataclass(slots=True)
class LogLimit:
    """The limit of one session; the kinds are those of the program, not of the peer, and so few."""

    _windows: dict[str, _Window] = field(default_factory=dict)

    def suppressed_before(self, kind: str, now_ms: int) -> int | None:
        """Return None to suppress a line of this kind; else how many were suppressed before it."""
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = _Window(now_ms)
        elif not 0 <= now_ms - window.since_ms < WINDOW_MS:
            # Also after the clock was set back.
            window.since_ms, window.lines = now_ms, 0
        if window.lines >= MAX_LINES:
            window.suppressed += 1
            return None
        window.lines += 1
        suppressed, window.suppressed = window.suppressed, 0
        return suppressed


class AgentEventLog:
    """Logs the events that agents report, up to the limit of each session."""

    def __init__(self, *, counters: Counters, wall: WallClock) -> None:
        self._counters = counters
        self._wall = wall
        self._limits: defaultdict[str, LogLimit] = defaultdict(LogLimit)

    def write(self, event: AgentEvent) -> None:
        """Log one event."""
        suppressed = self._limits[event.session_id].suppressed_before("event", self._wall.now_ms())
        if suppressed is None:
            self._counters.log_lines_suppressed += 1
            return
        log.info(
            "agent event",
            agent_id=event.agent_id,
            asset_id=event.asset_id,
            event_type=event.event_type,
            severity=event.severity,
            message=event.message,
            **({"suppressed_before": suppressed} if suppressed else {}),
        )

    def session_closed(self, session: SessionClosed) -> None:
        """Forget the session's limit."""
        self._limits.pop(session.session_id, None)
