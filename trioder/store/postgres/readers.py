"""Connections to read with, apart from the writer's: few, opened when needed, and kept for the next one."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from trioder.store.postgres.database import DatabaseError
from trioder.store.postgres.pg_connection import Connection, PgConnection, open_link

T = TypeVar("T")

_MAX_READERS = 3
_READ_WITHIN_S = 10.0
_WAIT_S = 5.0


class Readers:
    """At most `_MAX_READERS` queries at a time; whoever waits too long for a turn is told so."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._turns = trio.CapacityLimiter(_MAX_READERS)
        self._idle: list[PgConnection] = []

    async def run(self, job: Callable[[Connection], Awaitable[T]]) -> T:
        """Run one query.

        Raises:
            DatabaseError: it failed, or no connection was free.
        """
        with trio.move_on_after(_WAIT_S) as wait:
            await self._turns.acquire()
        if wait.cancelled_caught:
            raise DatabaseError(f"{_MAX_READERS} other queries have been running for {_WAIT_S:g} s")
        try:
            return await self._run(job)
        finally:
            self._turns.release()

    async def aclose(self) -> None:
        """Close the connections that no query is using."""
        idle, self._idle = self._idle, []
        for link in idle:
            await link.aclose()

    async def _run(self, job: Callable[[Connection], Awaitable[T]]) -> T:
        link = self._idle.pop() if self._idle else None
        if link is None:
            link = await open_link(self._conninfo, statement_timeout_s=_READ_WITHIN_S)
        try:
            result = await link.run(job, within_s=_READ_WITHIN_S + 2)
        except BaseException:
            # Whatever it was: the next query gets a connection without a past.
            await link.aclose()
            raise
        self._idle.append(link)
        return result
