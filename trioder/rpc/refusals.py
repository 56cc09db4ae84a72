"""Rates that a peer may not exceed, and a count and a log of what was refused."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog
import trio

from trioder.rpc.options import ConnectionOptions
from trioder.rpc.peer import Peer

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
    "tls",
    "certificate",
)


@dataclass(slots=True)
class _Window:
    until_s: float = float("-inf")
    logged: int = 0
    suppressed: int = 0


class Refusals:
    """Counts and logs by reason.

    Attributes:
        counts: has all of REASONS.
        report: records a peer whose TLS or certificate was refused, with a text; None to log it here.
    """

    def __init__(self) -> None:
        self.counts = dict.fromkeys(REASONS, 0)
        self.report: Callable[[Peer, str], None] | None = None
        self._windows: dict[str, _Window] = {}

    def add_peer(self, reason: Literal["tls", "certificate"], peer: Peer, detail: str) -> None:
        """Count a peer whose TLS or certificate was refused, and report or log it."""
        if self.report is None:
            self.add(reason, address=peer.address, detail=detail)
        else:
            self.counts[reason] += 1
            self.report(peer, detail)

    def add(self, reason: str, **details: object) -> None:
        """Count one, and log it unless enough of the same reason were: a flood must not fill the log."""
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


class PeerRates:
    """How often one peer may open calls, and send control frames."""

    def __init__(self, options: ConnectionOptions, *, now_s: float) -> None:
        self._options = options
        self._control_frames = _TokenBucket(
            burst=options.control_frames_at_once, per_s=options.control_frames_per_s, now_s=now_s
        )
        self._calls = _TokenBucket(burst=options.calls_at_once, per_s=options.calls_per_s, now_s=now_s)

    def exceeded(self, *, control_frames: int, calls: int, now_s: float) -> tuple[str, str] | None:
        """Return which rate was exceeded, if any: one of REASONS, and a text.

        Args:
            control_frames: total so far.
            calls: total so far.
            now_s: the time now.
        """
        if self._control_frames.exceeded(control_frames, now_s=now_s):
            count = self._options.control_frames_at_once
            return "control_frame_rate", f"the peer sent more than {count} control frames at once"
        if self._calls.exceeded(calls, now_s=now_s):
            return "call_rate", f"the peer opened more than {self._options.calls_at_once} calls at once"
        return None


class _TokenBucket:
    """A token bucket over a counter that only grows; it starts full."""

    def __init__(self, *, burst: int, per_s: float, now_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._tokens = float(burst)
        self._counter = 0
        self._refilled_s = now_s

    def exceeded(self, counter: int, *, now_s: float) -> bool:
        """Take as many tokens as the counter has grown by; True if there were fewer."""
        growth = counter - self._counter
        if growth == 0:
            return False
        self._counter = counter
        self._tokens = min(self._burst, self._tokens + (now_s - self._refilled_s) * self._per_s) - growth
        self._refilled_s = now_s
        return self._tokens < 0
