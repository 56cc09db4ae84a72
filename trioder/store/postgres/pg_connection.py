"""Connections to PostgreSQL: asyncio's psycopg under Trio, every job bounded in time and cancellable.

A server that hangs answers neither a query nor its cancellation: a job is ended by shutting its socket down.
"""

import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
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
# A pool's caller waits so long for a connection.
_ACQUIRE_WITHIN_S = 5.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Defaults, which a URL may override.
_DEFAULTS: dict[str, str | int] = {
    "connect_timeout": CONNECT_WITHIN_S,
    "application_name": "trioder headend",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
# Overrides the URL, a service file and PGCLIENTENCODING; the server converts. Without it, a database in
# SQL_ASCII returns bytes.
_FIXED = {"client_encoding": "UTF8"}
# Set by a query, for poolers refuse them as connection options. The timeouts make the server clean up after a
# headend that vanished; formats are set because a login or a PG* variable may have others.
_SETTINGS = {
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "extra_float_digits": "1",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
}
# SQLSTATE classes: data exceptions, integrity constraints, program limits. A retry would fail again.
_DATA_CLASSES = ("22", "23", "54")
_MAX_REASON = 300
# As much of a transaction as the kernel allows: the server reads on while the headend does something else.
_SEND_BUFFER_BYTES = 4 * 1024 * 1024


def checked_conninfo(url: str) -> str:
    """Return the URL with our defaults added.

    Raises:
        StoreConfigurationError: it is malformed; the text does not repeat it, for it may hold a password.
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


def timestamp(ts_unix_ms: int | None) -> datetime | None:
    """Return the time as psycopg takes it."""
    return None if ts_unix_ms is None else _EPOCH + timedelta(milliseconds=ts_unix_ms)


class _Failure(NamedTuple):
    error: Exception


async def _run_in_asyncio(job: Callable[[], Awaitable[T]]) -> T | _Failure:
    """Run asyncio's coroutine; an exception that left asyncio's task could end the whole event loop."""

    async def caught() -> T | _Failure:
        try:
            return await job()
        except Exception as error:  # noqa: BLE001  # raised by _result
            return _Failure(error)

    result: T | _Failure = await trio_asyncio.aio_as_trio(caught)()
    return result


def _result(outcome: T | _Failure) -> T:
    if isinstance(outcome, _Failure):
        raise database_error(outcome.error) from outcome.error
    return outcome


class PgConnection:
    """One connection, made by `open_pg_connection`; runs one job at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def run(self, job: Callable[[Connection], Awaitable[T]], *, within_s: float) -> T:
        """Run an asyncio coroutine on the connection; if it takes too long the connection is lost.

        Raises:
            DatabaseError: it failed, in whatever way.
        """
        done = timed_out = False

        async def shut_down_when_late() -> None:
            nonlocal timed_out
            try:
                await trio.sleep(within_s)
                timed_out = True
            finally:
                if not done:
                    self._shut_down()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(shut_down_when_late)
            # When cancelled, psycopg would wait for the server again; shutting the socket down is faster.
            with trio.CancelScope(shield=True):
                outcome = await _run_in_asyncio(lambda: job(self._connection))
            done = True
            nursery.cancel_scope.cancel()
        if timed_out:
            raise DatabaseError(f"the database did not answer within {within_s:g} s")
        return _result(outcome)

    async def aclose(self) -> None:
        """Close the connection without waiting for the server."""
        with trio.CancelScope(shield=True):
            await trio_asyncio.aio_as_trio(self._connection.close)()

    def _shut_down(self) -> None:
        with suppress(OSError, psycopg.OperationalError), _socket_of(self._connection) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)


async def open_connection(conninfo: str) -> Connection:
    """Connect, as an asyncio coroutine.

    Raises:
        psycopg.OperationalError: no answer, or a refusal.
    """
    # No prepared statements: poolers lose them.
    connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
    with suppress(OSError), _socket_of(connection) as duplicate:
        # TCP tunes its buffer by itself, unless it is set.
        if duplicate.family == socket.AF_UNIX:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return connection


def _socket_of(connection: Connection) -> socket.socket:
    """A duplicate of the connection's socket; closing it leaves the connection open."""
    return socket.socket(fileno=os.dup(connection.pgconn.socket))


async def open_pg_connection(conninfo: str, *, statement_timeout_s: float) -> PgConnection:
    """Connect and apply our settings.

    Raises:
        DatabaseError: no answer, or a refusal.
    """
    connected: Connection | _Failure | None = None
    # psycopg bounds each host that the URL names; this bounds them all.
    with trio.move_on_after(CONNECT_WITHIN_S * 3):
        connected = await _run_in_asyncio(lambda: open_connection(conninfo))
    if connected is None:
        raise DatabaseError(f"the database did not answer within {CONNECT_WITHIN_S * 3} s")
    pg_connection = PgConnection(_result(connected))
    settings = {**_SETTINGS, "statement_timeout": f"{statement_timeout_s:g}s"}

    async def set_up(connection: Connection) -> None:
        await connection.execute(
            "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS u (name, value)",
            [list(settings), list(settings.values())],
        )

    try:
        await pg_connection.run(set_up, within_s=CONNECT_WITHIN_S)
    except BaseException:
        await pg_connection.aclose()
        raise
    return pg_connection


class ConnectionPool:
    """Connections opened on demand and reused until a job on them fails.

    Args:
        conninfo: of the server.
        max_connections: jobs that run at a time; more wait.
        statement_timeout_s: of every statement.
    """

    def __init__(self, conninfo: str, *, max_connections: int, statement_timeout_s: float) -> None:
        self._conninfo = conninfo
        self._limiter = trio.CapacityLimiter(max_connections)
        self._statement_timeout_s = statement_timeout_s
        self._idle: list[PgConnection] = []

    async def run(self, job: Callable[[Connection], Awaitable[T]], *, within_s: float) -> T:
        """Run an asyncio coroutine on a connection.

        Raises:
            DatabaseError: it failed, or no connection was free within 5 s.
        """
        with trio.move_on_after(_ACQUIRE_WITHIN_S) as acquisition:
            await self._limiter.acquire()
        if acquisition.cancelled_caught:
            count = self._limiter.total_tokens
            raise DatabaseError(f"{count} other queries have been running for {_ACQUIRE_WITHIN_S:g} s")
        try:
            return await self._run(job, within_s)
        finally:
            self._limiter.release()

    async def aclose(self) -> None:
        """Close the idle connections."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.aclose()

    async def _run(self, job: Callable[[Connection], Awaitable[T]], within_s: float) -> T:
        if self._idle:
            connection = self._idle.pop()
        else:
            connection = await open_pg_connection(
                self._conninfo, statement_timeout_s=self._statement_timeout_s
            )
        try:
            result = await connection.run(job, within_s=within_s)
        except BaseException:
            # Its state is unknown: the next job gets a new connection.
            await connection.aclose()
            raise
        self._idle.append(connection)
        return result


def database_error(error: Exception) -> DatabaseError:
    """Return the error as one line for an operator."""
    if isinstance(error, DatabaseError):
        return error
    if isinstance(error, psycopg.Error):
        message = error.diag.message_primary or str(error)
        state = error.sqlstate or ""
        is_data_error = state[:2] in _DATA_CLASSES or (not state and isinstance(error, psycopg.DataError))
        reason = " ".join(message.split())[:_MAX_REASON] or type(error).__name__
        return DatabaseError(reason, is_data_error=is_data_error)
    # Raised by Python itself for values that cannot be packed.
    is_data_error = isinstance(error, struct.error | OverflowError | UnicodeError)
    return DatabaseError(f"{type(error).__name__}: {error}"[:_MAX_REASON], is_data_error=is_data_error)
