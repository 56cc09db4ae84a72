"""The client's side of a connection: a channel that calls are opened on."""

import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, Self

import h2.events
import h2.exceptions
import trio
from google.protobuf.message import DecodeError
from h2.errors import ErrorCodes

from trioder.access.tls_errors import explain, is_certificate_refused
from trioder.access.tls_stream import TlsStream
from trioder.rpc.call_stream import CallStream
from trioder.rpc.connection import Connection
from trioder.rpc.headers import (
    MalformedHeadersError,
    Metadata,
    checked_metadata,
    read_response,
    read_trailers,
)
from trioder.rpc.method import Method, Req, Res
from trioder.rpc.options import ConnectionOptions
from trioder.rpc.peer import TlsRefusedError, peer_of
from trioder.rpc.status import RpcError, StatusCode

_DEFAULTS = ConnectionOptions()
# Thousands of agents of one address shake hands in order when their server is back. Up to twice as long where
# that is spread: those who began together must not all lose their place at once.
_HANDSHAKE_WITHIN_S = 60.0


async def connect(host: str, port: int, *, ssl_context: ssl.SSLContext | None = None) -> trio.abc.Stream:
    """Return a connected stream, over TLS where a context (with ALPN h2) is given.

    Raises:
        OSError: no server listens there.
    """
    stream = await trio.open_tcp_stream(host, port)
    if ssl_context is None:
        return stream
    return TlsStream(stream, ssl_context, server_hostname=host)


class ClientCall(Generic[Req, Res]):
    """One call. One task may send while another receives."""

    def __init__(self, stream: CallStream, method: Method[Req, Res]) -> None:
        self._stream = stream
        self._method = method

    async def send(self, request: Req) -> None:
        """Send a message; waits while flow control or the transport is blocked.

        Raises:
            RpcError: the call has ended.
        """
        await self._stream.send(request.SerializeToString())

    async def done_sending(self) -> None:
        """Half-close the call: no more messages follow."""
        self._stream.half_close()
        await trio.lowlevel.checkpoint()

    async def receive(self) -> Res:
        """Return the server's next message.

        Raises:
            trio.EndOfChannel: the call has ended with status OK.
            RpcError: it has ended with another status.
        """
        data = await self._stream.receive()
        try:
            return self._method.response_type.FromString(data)
        except DecodeError:
            name = self._method.response_type.DESCRIPTOR.full_name
            raise RpcError(StatusCode.INTERNAL, f"{len(data)} bytes that are no {name}") from None

    def __aiter__(self) -> Self:
        """Iterate over the server's messages."""
        return self

    async def __anext__(self) -> Res:
        """Return the next message of the iteration."""
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None


class Channel:
    """A connection to a server."""

    def __init__(self, connection: Connection, *, scheme: str, authority: str) -> None:
        self._connection = connection
        self._scheme = scheme
        self._authority = authority

    @asynccontextmanager
    async def open_call(
        self, method: Method[Req, Res], *, metadata: Metadata = (), timeout_s: float | None = None
    ) -> AsyncIterator[ClientCall[Req, Res]]:
        """Open a call; leaving the context before it has ended cancels it.

        The deadline is a part of the call, sent to the server as `grpc-timeout`.

        Raises:
            RpcError: UNAVAILABLE when the connection is closed; DEADLINE_EXCEEDED once `timeout_s` is over.
        """
        stream = self._start(method, metadata, timeout_s)
        deadline = trio.CancelScope()
        if timeout_s is not None:
            deadline.deadline = trio.current_time() + timeout_s
        try:
            with deadline:
                yield ClientCall(stream, method)
        finally:
            if not (stream.remote_closed and stream.local_closed):
                stream.reset(ErrorCodes.CANCEL)
            self._connection.close_stream(stream)
        if deadline.cancelled_caught:
            raise RpcError(StatusCode.DEADLINE_EXCEEDED, f"the call took longer than {timeout_s} s")

    def _start(self, method: Method[Any, Any], metadata: Metadata, timeout_s: float | None) -> CallStream:
        connection = self._connection
        if connection.close_reason is not None:
            raise RpcError(connection.close_status, connection.close_reason)
        if connection.draining:
            raise RpcError(StatusCode.UNAVAILABLE, "the peer is going away")
        core = connection.core
        try:
            stream_id = core.get_next_available_stream_id()
            core.start_call(
                stream_id,
                method.path,
                scheme=self._scheme,
                authority=self._authority,
                timeout_s=timeout_s,
                metadata=checked_metadata(metadata),
            )
        except h2.exceptions.TooManyStreamsError:
            raise RpcError(StatusCode.RESOURCE_EXHAUSTED, "the server takes no more calls at once") from None
        except h2.exceptions.ProtocolError as error:
            raise RpcError(StatusCode.UNAVAILABLE, f"the connection takes no more calls: {error}") from None
        connection.outbound.flush_soon()
        return connection.open_stream(stream_id)


@asynccontextmanager
async def open_channel(
    stream: trio.abc.Stream,
    *,
    authority: str,
    options: ConnectionOptions = _DEFAULTS,
    rng: random.Random | None = None,
) -> AsyncIterator[Channel]:
    """Open a gRPC channel on a connected stream, which is closed at the end.

    The connection's tasks run in a nursery of this context. An exception of the body is raised as it is,
    without a group; a lost connection is reported by the calls.

    Args:
        stream: plain, or before its TLS handshake.
        authority: of the calls.
        options: of the connection.
        rng: spreads the time after which a handshake is given up; None: it is the same for all.

    Raises:
        RpcError: the TLS handshake failed: UNAUTHENTICATED where the server refuses our certificate, which
            TLS 1.3 reports only to the first call; else UNAVAILABLE.
    """
    try:
        with trio.fail_after(_HANDSHAKE_WITHIN_S * (1.0 if rng is None else rng.uniform(1.0, 2.0))):
            await peer_of(stream)
    except (TlsRefusedError, trio.TooSlowError, trio.BrokenResourceError) as refused:
        await trio.aclose_forcefully(stream)
        status = StatusCode.UNAUTHENTICATED if is_certificate_refused(refused) else StatusCode.UNAVAILABLE
        raise RpcError(status, f"no TLS session: {explain(refused)}") from refused
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    scheme = "https" if isinstance(stream, TlsStream) else "http"
    connection = Connection(stream, client_side=True, options=options)
    raised: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run, partial(_on_headers, connection))
            try:
                yield Channel(connection, scheme=scheme, authority=authority)
            except Exception as caught:  # noqa: BLE001  # raised below: the nursery would wrap it
                raised = caught
            connection.close("the channel was closed")
    finally:
        if raised is not None:
            raise raised


def _on_headers(connection: Connection, event: h2.events.Event) -> None:
    stream = connection.streams.get(event.stream_id)
    if stream is None:
        return
    try:
        if isinstance(event, h2.events.ResponseReceived):
            error = read_response(event.headers)
            if error is not None:
                stream.close_remote(error)
                return
            if event.stream_ended is None:
                return
            # A response of trailers only.
        stream.close_remote(read_trailers(event.headers))
    except MalformedHeadersError as malformed:
        stream.close_remote(RpcError(StatusCode.INTERNAL, f"the peer's headers: {malformed}"))
        stream.reset(ErrorCodes.PROTOCOL_ERROR)
