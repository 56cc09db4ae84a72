"""Displays the fleet's progress: a live line on a terminal, else a log line at changes."""

from contextlib import suppress

import structlog
import trio

from trioder.launcher.progress import FleetProgress, Snapshot
from trioder.process.logs import LogStream

log = structlog.stdlib.get_logger(__name__)

_POLL_EVERY_S = 0.25
# Changes come in bursts, such as a whole fleet connecting; one log line has the result.
_LOG_EVERY_S = 1.0
_MAX_NAMES = 2
_CLEAR_LINE = "\r\x1b[K"


class LiveLine:
    """A text stream with a live line below everything that is written to it.

    Args:
        stream: a terminal.
    """

    def __init__(self, stream: LogStream) -> None:
        self._stream = stream
        self._text = ""

    def write(self, text: str) -> None:
        """Write whole lines above the live line."""
        self._stream.write(f"{_CLEAR_LINE}{text}{self._text}")

    def flush(self) -> None:
        """Flush the terminal."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Return whether the stream below is a terminal."""
        return self._stream.isatty()

    def show(self, text: str) -> None:
        """Replace the live line; an empty text removes it."""
        self._text = text
        write_line(self, "")


def write_line(stream: LogStream, text: str) -> None:
    """Write to a stream that may be closed: a reader that stops does not stop the fleet."""
    with suppress(OSError):
        stream.write(text)
        stream.flush()


async def show_progress(progress: FleetProgress, *, live: LiveLine | None) -> None:
    """Display the fleet's progress until cancelled."""
    displayed: Snapshot | None = None
    logged: Snapshot | None = None
    logged_s = -_LOG_EVERY_S
    try:
        while True:
            snapshot = progress.snapshot()
            now_s = trio.current_time()
            if live is not None and snapshot != displayed:
                live.show(progress_text(snapshot))
                displayed = snapshot
            if _has_just_connected(snapshot, logged):
                log.info(connected_text(snapshot))
                logged, logged_s = snapshot, now_s
            elif live is None and snapshot != logged and now_s - logged_s >= _LOG_EVERY_S:
                log.info(progress_text(snapshot))
                logged, logged_s = snapshot, now_s
            await trio.sleep(_POLL_EVERY_S)
    finally:
        if live is not None:
            live.show("")


def _has_just_connected(snapshot: Snapshot, logged: Snapshot | None) -> bool:
    return snapshot.connected_after_s is not None and (logged is None or logged.connected_after_s is None)


def progress_text(snapshot: Snapshot) -> str:
    """Return one line with the fleet's state."""
    text = (
        f"agents up {snapshot.agents_up}/{snapshot.agents}, "
        f"assets connected {snapshot.connected}/{snapshot.assets}"
    )
    text += f", restarts {snapshot.restarts}" if snapshot.restarts else ""
    return text + (f", quarantined {_some(snapshot.quarantined)}" if snapshot.quarantined else "")


def _some(agent_ids: tuple[str, ...]) -> str:
    names = ", ".join(agent_ids[:_MAX_NAMES])
    more = len(agent_ids) - _MAX_NAMES
    return f"{len(agent_ids)} ({names}{f' and {more} more' if more > 0 else ''})"


def connected_text(snapshot: Snapshot) -> str:
    """Return the line for a fleet that is completely connected."""
    agents = f"{snapshot.agents} agent" + ("" if snapshot.agents == 1 else "s")
    return f"fleet connected: {snapshot.assets} assets in {agents} after {snapshot.connected_after_s:.1f} s"


def log_summary(progress: FleetProgress, *, ran_for_s: float) -> None:
    """Log every agent's history, and the totals."""
    for record in progress.records():
        log.info(
            "agent summary",
            agent_id=record.agent_id,
            assets=record.assets,
            restarts=record.restarts,
            quarantines=record.quarantines,
            uptime_s=round(record.up_s, 1),
        )
    snapshot = progress.snapshot()
    log.info(
        "fleet summary",
        agents=snapshot.agents,
        assets=snapshot.assets,
        restarts=snapshot.restarts,
        quarantines=sum(record.quarantines for record in progress.records()),
        quarantined=len(snapshot.quarantined),
        ran_s=round(ran_for_s, 1),
    )
