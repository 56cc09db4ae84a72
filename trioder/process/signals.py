"""SIGTERM and SIGINT: the first asks for an orderly stop, the second ends the process at once.

A SIGINT that was ignored when the process started stays ignored: shells start background jobs this way, as
the terminal's Ctrl-C is not meant for them. SIGTERM always counts: supervisors have nothing else. SIGHUP is
not touched here: it ends the process, unless that is started under nohup or has a use for it.
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
    """Whether the process was asked to stop.

    Attributes:
        requested: set once SIGTERM or SIGINT has arrived.
    """

    def __init__(self) -> None:
        self.requested = trio.Event()


@asynccontextmanager
async def open_stop_signal() -> AsyncIterator[StopSignal]:
    """Own SIGTERM and SIGINT for as long as the block runs; the outermost context of a process.

    It needs the main thread, as every signal handler does. The second signal ends the process with
    exit code 1, even if the event loop hangs: it is acted on in the handler itself. SIGINT stays ignored if
    it is.
    """
    stop = StopSignal()
    token = trio.lowlevel.current_trio_token()
    asked = False

    def note(name: str) -> None:
        log.info("stop requested", signal=name)
        stop.requested.set()

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            flush_standard_error(within_s=_FLUSH_WITHIN_S)
            os._exit(1)
        asked = True
        token.run_sync_soon(note, signal.Signals(number).name)

    previous = {number: signal.signal(number, handle) for number in stop_signals()}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stop_signals() -> list[signal.Signals]:
    """Return the signals that ask this process to stop: SIGTERM, and SIGINT unless it is ignored."""
    return [
        number
        for number in _STOP_SIGNALS
        if number is signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN
    ]
