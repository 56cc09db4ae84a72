"""One connection: asyncio's psycopg with Trio's manners. Every job on it is bounded and can be cancelled.

A server that hangs answers neither a query nor its cancellation: what ends a job is that its socket is cut.
"""

import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import psycopg
import trio
import trio_asyncio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from trioder.store.interface import StoreConfigurationError
from trioder.store.postgres.database import DatabaseError

T = TypeVar("T")

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

CONNECT_WITHIN_S = 5
# What a URL may say otherwise.
_DEFAULTS: dict[str, str | int] = {
    "connect_timeout": CONNECT_WITHIN_S,
    "application_name": "trioder headend",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
# Whatever a URL, a service file or PGCLIENTENCODING says: text is sent and read as this, and the server
# converts. Without it, a database in SQL_ASCII answers bytes.
_FIXED = {"client_encoding": "UTF8"}
# Not as connection options: poolers refuse those. The server ends by itself what a vanished headend left.
# Formats are set as well, for a login or a PG* variable may have others.
_SETTINGS = {
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "extra_float_digits": "1",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
}
# Data exceptions, integrity constraints, limits of a row: asked again, the answer is the same.
_DATA_CLASSES = ("22", "23", "54")
_MAX_REASON = 300
# As much of a transaction as the kernel allows: the server reads on while the headend does something else.
_SEND_BUFFER_BYTES = 4 * 1024 * 1024


def checked_conninfo(url: str) -> str:
    """Return the URL with what it leaves open.

    Raises:
        StoreConfigurationError: it is none; the text does not repeat it, for it may hold a password.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise StoreConfigurationError(
            "DATABASE_URL must be 'embedded', 'none', or start with postgresql://user@host/database"
        )
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise StoreConfigurationError("DATABASE_URL is not a well-formed PostgreSQL URL") from None
    return make_conninfo("", **{**_DEFAULTS, **given, **_FIXED})


class _Failure(NamedTuple):
    error: Exception


class PgConnection:
    """One connection; `open_link` makes it. One job at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def run(self, job: Callable[[Connection], Awaitable[T]], *, within_s: float) -> T:
        """Run a coroutine of asyncio's on the connection; when that takes too long the connection is lost.

        Raises:
            DatabaseError: it failed, in whatever way.
        """
        done = timed_out = False

        async def watch() -> None:
            nonlocal timed_out
            try:
                await trio.sleep(within_s)
                timed_out = True
            finally:
                if not done:
                    self._cut()

        async def caught() -> T | _Failure:
            # An error that got out of a task of asyncio's could take the whole loop down.
            try:
                return await job(self._connection)
            except Exception as error:  # noqa: BLE001  # told by translated()
                return _Failure(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            # Cancelled, psycopg would wait for the server once more; the watch ends it faster.
            with trio.CancelScope(shield=True):
                result: T | _Failure = await trio_asyncio.aio_as_trio(caught)()
            done = True
            nursery.cancel_scope.cancel()
        if timed_out:
            raise DatabaseError(f"the database did not answer within {within_s:g} s")
        if isinstance(result, _Failure):
            raise translated(result.error) from result.error
        return result

    async def aclose(self) -> None:
        """Close the connection without a word to the server; it never waits for it."""
        with trio.CancelScope(shield=True):
            await trio_asyncio.aio_as_trio(self._connection.close)()

    def _cut(self) -> None:
        with suppress(OSError, psycopg.OperationalError), _end_of(self._connection) as end:
            end.shutdown(socket.SHUT_RDWR)


async def open_connection(conninfo: str) -> Connection:
    """Connect, as a coroutine of asyncio's; `Link` is what makes it one for Trio.

    Raises:
        psycopg.OperationalError: nobody answers, or the answer is no.
    """
    # No prepared statements: poolers lose them.
    connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
    with suppress(OSError), _end_of(connection) as end:
        # TCP finds its own size, and would not any more.
        if end.family == socket.AF_UNIX:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return connection


def _end_of(connection: Connection) -> socket.socket:
    """Our end of the connection, to be closed without ending it."""
    return socket.socket(fileno=os.dup(connection.pgconn.socket))


async def open_link(conninfo: str, *, statement_timeout_s: float) -> PgConnection:
    """Connect.

    Raises:
        DatabaseError: nobody answers, or the answer is no.
    """

    async def connect() -> Connection | _Failure:
        try:
            return await open_connection(conninfo)
        except Exception as error:  # noqa: BLE001  # told by translated()
            return _Failure(error)

    connected: Connection | _Failure | None = None
    # psycopg bounds each host that the URL names; this bounds them all.
    with trio.move_on_after(CONNECT_WITHIN_S * 3):
        connected = await trio_asyncio.aio_as_trio(connect)()
    if connected is None:
        raise DatabaseError(f"the database did not answer within {CONNECT_WITHIN_S * 3} s")
    if isinstance(connected, _Failure):
        raise translated(connected.error) from connected.error
    link = PgConnection(connected)
    settings = {**_SETTINGS, "statement_timeout": f"{statement_timeout_s:g}s"}

    async def set_up(connection: Connection) -> None:
        await connection.execute(
            "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS u (name, value)",
            [list(settings), list(settings.values())],
        )

    try:
        await link.run(set_up, within_s=CONNECT_WITHIN_S)
    except BaseException:
        await link.aclose()
        raise
    return link


def translated(error: Exception) -> DatabaseError:
    """Return the error in words for an operator, on one line."""
    if isinstance(error, DatabaseError):
        return error
    if isinstance(error, psycopg.Error):
        said = error.diag.message_primary or str(error)
        state = error.sqlstate or ""
        of_data = state[:2] in _DATA_CLASSES or (not state and isinstance(error, psycopg.DataError))
        reason = " ".join(said.split())[:_MAX_REASON] or type(error).__name__
        return DatabaseError(reason, of_data=of_data)
    # Values that cannot be packed are told by Python itself.
    of_data = isinstance(error, struct.error | OverflowError | UnicodeError)
    return DatabaseError(f"{type(error).__name__}: {error}"[:_MAX_REASON], of_data=of_data)
