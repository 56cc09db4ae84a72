"""Ends the process when an orderly stop takes too long."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import trio

from trioder.process.queued_output import flush_standard_error
from trioder.process.signals import StopSignal

log = structlog.stdlib.get_logger("trioder.headend")

# The documented limit is 10 s.
_STOP_WITHIN_S = 9.5
_FLUSH_WITHIN_S = 0.3


@asynccontextmanager
async def open_stop_watchdog(stop: StopSignal) -> AsyncIterator[trio.Event]:
    """Enforce the time limit of a stop, whatever hangs.

    Yields an event that the block sets once it waits for the stop itself; until then a stop cancels the
    block, because a store may take long to open.
    """

    async def watch() -> None:
        with block_runs:
            await stop.requested.wait()
            if not started.is_set():
                nursery.cancel_scope.cancel()
            await trio.sleep(_STOP_WITHIN_S)
            # A hanging embedded server is ended by its watchdog, or by the next start.
            log.warning("leaving before everything has stopped", after_s=_STOP_WITHIN_S)
            flush_standard_error(within_s=_FLUSH_WITHIN_S)
            os._exit(0)

    started = trio.Event()
    block_runs = trio.CancelScope(shield=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        try:
            yield started
        finally:
            block_runs.cancel()
