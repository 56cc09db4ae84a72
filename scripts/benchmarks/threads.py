"""What waits for the database or for REST: synchronous, in a thread, for a bounded time."""

from collections.abc import Callable
from typing import TypeVar

import trio

from scripts.benchmarks.command import BenchmarkError

T = TypeVar("T")

DATABASE_WITHIN_S = 120.0


async def in_thread(job: Callable[[], T], *, within_s: float = DATABASE_WITHIN_S) -> T:
    """Run it in a thread, which a signal leaves behind: the server's end is its end.

    Raises:
        BenchmarkError: it took too long.
    """
    with trio.move_on_after(within_s):
        return await trio.to_thread.run_sync(job, abandon_on_cancel=True)
    raise BenchmarkError(f"the database did not answer within {within_s:g} s")
