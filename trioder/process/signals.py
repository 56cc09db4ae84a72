"""SIGTERM and SIGINT: the first signal requests an orderly stop, the second ends the process at once.

If SIGINT was ignored when the process started it stays ignored: shells start background jobs this way, as the
terminal's Ctrl-C is not meant for them. SIGTERM is always handled: supervisors have nothing else. SIGHUP is
left alone.
"""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType

import structlog
import trio

from trioder.process.queued_output import flush_standard_error

log = structlog.stdlib.get_logger(__name__)

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_FLUSH_WITHIN_S = 0.3


class StopSignal:
    """The request to stop.

    Attributes:
        requested: set once SIGTERM or SIGINT was received.
    """

    def __init__(self) -> None:
        self.requested = trio.Event()


@asynccontextmanager
async def open_stop_signal() -> AsyncIterator[StopSignal]:
    """Handle SIGTERM and SIGINT while the block runs; the outermost context of a process.

    Needs the main thread. The second signal ends the process with exit code 1 in the handler itself, so even
    if the event loop hangs.
    """
    stop = StopSignal()
    token = trio.lowlevel.current_trio_token()
    stop_requested = False

    def request_stop(name: str) -> None:
        log.info("stop requested", signal=name)
        stop.requested.set()

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal stop_requested
        if stop_requested:
            flush_standard_error(within_s=_FLUSH_WITHIN_S)
            os._exit(1)
        stop_requested = True
        token.run_sync_soon(request_stop, signal.Signals(number).name)

    previous = {number: signal.signal(number, handle) for number in stop_signals()}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stop_signals() -> list[signal.Signals]:
    """Return the signals that stop this process: SIGTERM, and SIGINT unless it is ignored."""
    return [
        number
        for number in _STOP_SIGNALS
        if number is signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN
    ]
