"""One client's connection: hypercorn's HTTP/1.1, held to what this port promises.

HTTP/1.1 and 1.0 only, every answer JSON, every wait bounded. Hypercorn's own connection upgrades to HTTP/2
when a client asks, shields its writes from cancellation, and may wait for ever for a handler that has ended.
"""

from contextlib import suppress
from typing import Any

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from trioder.headend.api.errors import error_json

log = structlog.stdlib.get_logger(__name__)

# A client that takes nothing for so long is gone.
_SEND_TIMEOUT_S = 30.0
# How long an answered client may go on sending: closing on unread bytes would reset the connection, and
# with it the answer on its way.
_LINGER_S = 1.0
_READ_BYTES = 65536
_Sendable = h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class _Http1Protocol(H11Protocol):
    """Speaks HTTP/1.1 whatever the client would like to upgrade to."""

    # The head of an answer whose length is known: its body is there already, and both go in one piece.
    _head = b""

    @property
    def peer(self) -> str:
        return "" if self.client is None else f"{self.client[0]}:{self.client[1]}"

    @property
    def has_read_all(self) -> bool:
        """Whether the client owes nothing more of its request."""
        return self.connection.their_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}

    async def handle(self, event: Event) -> None:
        try:
            await super().handle(event)
        except h11.RemoteProtocolError as error:
            await self._send_error_response(error.error_status_hint)
            await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Response) and self.connection.their_state is h11.SEND_BODY:
            # Answered before its body was read: the rest of it would be taken for the next request.
            event.headers.append((b"connection", b"close"))
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        # Called with every request; hypercorn's turns to HTTP/2 here. An Upgrade header may be ignored
        # (RFC 9110, 7.8).
        if event.http_version not in {b"1.0", b"1.1"}:
            raise h11.RemoteProtocolError("not HTTP/1", error_status_hint=505)

    async def _create_stream(self, request: h11.Request) -> None:
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        await super()._create_stream(
            h11.Request(
                method=request.method,
                target=request.target,
                headers=headers,
                http_version=request.http_version,
            )
        )

    async def _send_h11_event(self, event: _Sendable) -> None:
        try:
            data = self._head + (self.connection.send(event) or b"")
        except h11.LocalProtocolError:
            # What came could not be understood, so nothing can be said to it in order.
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        is_head = isinstance(event, h11.Response) and any(
            name == b"content-length" for name, _ in event.headers
        )
        self._head = data if is_head else b""
        if data and not is_head:
            await self.send(RawData(data=data))

    async def _send_error_response(self, status_code: int) -> None:
        message = {
            431: f"the request line and headers are larger than {self.config.h11_max_incomplete_size} bytes",
            505: "this port speaks HTTP/1.1",
        }.get(status_code, "the request is not well-formed HTTP/1.1")
        body = error_json(status_code, message)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *self.config.response_headers("h11"),
        ]
        log.info("request refused", status=status_code, message=message, peer=self.peer)
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


class Http1Connection(TCPServer):
    """Serves one TCP stream until either end closes it."""

    def __init__(self, app: Any, config: Config, context: WorkerContext, stream: trio.SocketStream) -> None:
        super().__init__(app, config, context, {}, stream)
        self._socket_stream = stream
        self._scope = trio.CancelScope()
        self._answered = False

    async def run(self) -> None:
        """Serve the requests of this connection, one after the other.

        *Error handling*: nothing that a client does raises here.
        """
        socket = self._socket_stream.socket
        try:
            with self._scope:
                async with TaskGroup() as task_group:
                    self._task_group = task_group
                    self._http1 = _Http1Protocol(
                        self.app,
                        self.config,
                        self.context,
                        task_group,
                        ConnectionState({}),
                        False,
                        parse_socket_addr(socket.family, socket.getpeername()),
                        parse_socket_addr(socket.family, socket.getsockname()),
                        self.protocol_send,
                    )
                    # Hypercorn's wrapper around its protocols is what could change over to HTTP/2.
                    self.protocol = self._http1  # type: ignore[assignment]  # has what is used of it
                    await self.idle_task.restart(task_group, self._idle_timeout)
                    await self._read_data()
        except* OSError:
            pass  # the client was gone before it was asked for its address
        except* Exception:
            log.exception("connection crashed")
        finally:
            await trio.aclose_forcefully(self.stream)

    async def protocol_send(self, event: Event) -> None:
        """Carry out what the protocol wants done with the stream."""
        if isinstance(event, RawData):
            await self._send(event.data)
            return
        # Quart cancels the task that is here as soon as it learns that its request is over; but the end of
        # the connection, and the timer of an idle one, must not depend on it. Neither waits for the client.
        with trio.CancelScope(shield=True):
            if isinstance(event, Closed):
                await self._end()
            else:
                await super().protocol_send(event)

    async def _end(self) -> None:
        self._answered = True
        self._scope.deadline = trio.current_time() + (0 if self._http1.has_read_all else _LINGER_S)
        with suppress(*_GONE, trio.BusyResourceError):
            await self._socket_stream.send_eof()

    async def _send(self, data: bytes) -> None:
        try:
            with trio.fail_after(_SEND_TIMEOUT_S):
                async with self.send_lock:
                    await self.stream.send_all(data)
        except (*_GONE, trio.TooSlowError):
            self._scope.cancel()

    async def _read_data(self) -> None:
        with suppress(*_GONE):
            while data := bytes(await self.stream.receive_some(_READ_BYTES)):
                if not self._answered:
                    await self._http1.handle(RawData(data))
            if not self._answered:
                await self._http1.handle(RawData(b""))
        # What still runs, runs for a client that is gone.
        self._scope.cancel()
