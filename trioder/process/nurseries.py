"""Nurseries whose exception groups do not reach the caller, and the exceptions in a group."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_background_nursery(
    *, before_cancel: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[trio.Nursery]:
    """Yield a nursery for tasks that run while the block does, and are cancelled at its end.

    *Error handling*: an exception of the block is raised as it is, not in a group.

    Args:
        before_cancel: called at the end of the block, also after an exception, but not if that is cancelled.
    """
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as caught:  # noqa: BLE001  # raised below, outside of the nursery that would wrap it
            error = caught
        if before_cancel is not None:
            await before_cancel()
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error


def leaf_exceptions(error: BaseException) -> list[BaseException]:
    """Return the exceptions in a group, however nested; or the error itself if it is no group."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for member in error.exceptions for leaf in leaf_exceptions(member)]
