"""Python's garbage collector, for a process with millions of objects that must not stop for long.

Python's own collector visits every object again whenever their number has grown by a quarter: 1.3 s with
5,000 sessions, and 0.2 s for the objects of the last second. Here each object is visited once, while young;
what survives is frozen. Frozen objects are still freed by their reference counts. Only cycles among them are
not found, until a full collection, in a quiet second once enough objects have been added.
"""

import gc
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import trio

log = structlog.stdlib.get_logger(__name__)

# Objects added, net of those freed, from one collection of young objects to the next. Each stops the process
# for 5 to 30 ms: objects that replace others are visited as well, and are not in this number.
_YOUNG_OBJECTS = 5_000
# Only young objects are collected automatically.
_NEVER = 2**31 - 1
# A full collection is due when the process has so many more blocks of memory than after the last one, or half
# as many again. (How many objects are frozen would be the better measure, but counting them visits each.)
_FULL_AFTER_BLOCKS = 2_000_000
# It waits for a quiet second until there are so many times as many.
_MOST_TIMES_DUE = 4
_QUIET_CPU_SHARE = 0.5
_CHECK_EVERY_S = 1.0


@asynccontextmanager
async def open_garbage_collector() -> AsyncIterator[None]:
    """Freeze what exists, and collect as described above within the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_collect)
        yield
        nursery.cancel_scope.cancel()


async def _collect() -> None:
    thresholds = gc.get_threshold()

    def freeze_survivors(phase: str, _: dict[str, int]) -> None:
        if phase == "stop":
            gc.freeze()

    gc.callbacks.append(freeze_survivors)
    gc.set_threshold(_YOUNG_OBJECTS, _NEVER, _NEVER)
    try:
        gc.collect()
        after_full = sys.getallocatedblocks()
        while True:
            cpu_s = time.process_time()
            await trio.sleep(_CHECK_EVERY_S)
            quiet = time.process_time() - cpu_s < _QUIET_CPU_SHARE * _CHECK_EVERY_S
            due = max(_FULL_AFTER_BLOCKS, after_full // 2)
            if sys.getallocatedblocks() > after_full + (due if quiet else _MOST_TIMES_DUE * due):
                _collect_all()
                after_full = sys.getallocatedblocks()
    finally:
        gc.callbacks.remove(freeze_survivors)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _collect_all() -> None:
    began_s = time.perf_counter()
    gc.unfreeze()
    collected = gc.collect()
    took_ms = round(1000 * (time.perf_counter() - began_s))
    log.debug("all garbage collected", objects=collected, took_ms=took_ms)
