"""SIGTERM and SIGINT: the first asks for an orderly stop, the second ends the process at once."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType

import structlog
import trio

log = structlog.stdlib.get_logger(__name__)

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


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
    exit code 1, even if the event loop hangs: it is acted on in the handler itself.
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
            # Nothing is lost in the logs: their handler flushes each line.
            os._exit(1)
        asked = True
        token.run_sync_soon(note, signal.Signals(number).name)

    previous = {number: signal.signal(number, handle) for number in _STOP_SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
