"""A connection that is opened when it is needed and kept for the next time, unless a job on it fails."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from trioder.store.postgres.pg_connection import Connection, PgConnection, open_link

T = TypeVar("T")


class KeptLink:
    """One connection at most; one job at a time.

    Args:
        conninfo: whom to connect to.
        statement_timeout_s: of every statement on it.
    """

    def __init__(self, conninfo: str, *, statement_timeout_s: float) -> None:
        self._conninfo = conninfo
        self._statement_timeout_s = statement_timeout_s
        self._link: PgConnection | None = None

    async def run(self, job: Callable[[Connection], Awaitable[T]], *, within_s: float) -> T:
        """Run a coroutine of asyncio's on the connection.

        Raises:
            DatabaseError: it failed, or nobody answers.
        """
        link, self._link = self._link, None
        if link is None:
            link = await open_link(self._conninfo, statement_timeout_s=self._statement_timeout_s)
        try:
            result = await link.run(job, within_s=within_s)
        except BaseException:
            # Whatever it was: the next job gets a connection without a past.
            await link.aclose()
            raise
        self._link = link
        return result

    async def aclose(self) -> None:
        """Close the connection unless a job is using it."""
        link, self._link = self._link, None
        if link is not None:
            await link.aclose()
