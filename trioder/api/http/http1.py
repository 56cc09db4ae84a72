"""One client's connection: hypercorn's HTTP/1.1, held to what this port promises.

HTTP/1.1 and 1.0 only, for the hosts that this port knows, every answer JSON, every wait bounded. Hypercorn's
own connection upgrades to HTTP/2 when a client asks, shields its writes from cancellation, and may wait for
ever for a handler that has ended.
"""

import math
import re
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

from trioder.api.errors import error_json
from trioder.api.http.hosts import KnownHosts
from trioder.api.http.strict_h11 import StrictConnection
from trioder.events.counters import Counters

log = structlog.stdlib.get_logger(__name__)

# A client that takes nothing for so long is gone.
_SEND_TIMEOUT_S = 30.0
# From a request's first byte to its last header: a client that sends one byte at a time is cut off.
_HEAD_TIMEOUT_S = 10.0
# Of what was wrong with a request; the rest may be 64 KiB of it.
_FAULT_CHARACTERS = 160
# How long an answered client may go on sending: closing on unread bytes would reset the connection, and
# with it the answer on its way.
_LINGER_S = 1.0
_READ_BYTES = 65536
_HEAD_STATES = frozenset({h11.IDLE, h11.SEND_RESPONSE})
_BODY_STATES = frozenset({h11.SEND_BODY})
_Sendable = h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
_ABSOLUTE = re.compile(rb"http://([^/?#]*)([^#]*)", re.IGNORECASE)


class _Http1Protocol(H11Protocol):
    """Speaks HTTP/1.1 whatever the client would like to upgrade to."""

    hosts: KnownHosts
    counters: Counters
    connection: StrictConnection
    # What the client still sends is not read as a request any more.
    refused = False
    # The head of an answer whose length is known: its body is there already, and both go in one piece.
    _head = b""

    @property
    def peer(self) -> str:
        return "" if self.client is None else f"{self.client[0]}:{self.client[1]}"

    @property
    def has_read_all(self) -> bool:
        """Whether the client owes nothing more of its request."""
        return not self.refused and self.connection.their_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self.stream is None

    async def handle(self, event: Event) -> None:
        try:
            await super().handle(event)
        except h11.RemoteProtocolError as error:
            self.connection.fault = str(error)
            await self.refuse(error.error_status_hint)

    async def refuse(self, status_code: int) -> None:
        """Answer what is no request, or not one for this port, and end the connection."""
        await self._send_error_response(status_code)
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
        for name, value in event.headers:
            if name == b"host":
                self._check_host(value)

    def _check_host(self, authority: bytes) -> None:
        host = authority.decode("latin-1")
        if not self.hosts.knows(host, local_address=None if self.server is None else self.server[0]):
            raise h11.RemoteProtocolError(f"'{host}'", error_status_hint=421)

    def _path_of(self, target: bytes) -> bytes:
        """The target in origin form; a proxy's clients name the host in it as well (RFC 9112, 3.2.2)."""
        if target.startswith(b"/") or target == b"*":
            return target
        match = _ABSOLUTE.fullmatch(target)
        if match is None:
            raise h11.RemoteProtocolError("the target is neither a path nor an http:// URL")
        self._check_host(match[1])
        return match[2] if match[2].startswith(b"/") else b"/" + match[2]

    async def _create_stream(self, request: h11.Request) -> None:
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        await super()._create_stream(
            h11.Request(
                method=request.method,
                target=self._path_of(request.target),
                headers=headers,
                http_version=request.http_version,
            )
        )

    async def _send_h11_event(self, event: _Sendable) -> None:
        is_head = isinstance(event, h11.Response | h11.InformationalResponse)
        if self.connection.our_state not in (_HEAD_STATES if is_head else _BODY_STATES):
            # Its client has left, or was refused: what the application still says is for nobody.
            return
        try:
            data = self._head + (self.connection.send(event) or b"")
        except h11.LocalProtocolError:
            # What came could not be understood, so nothing can be said to it in order.
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        has_length = isinstance(event, h11.Response) and any(
            name == b"content-length" for name, _ in event.headers
        )
        self._head = data if has_length else b""
        if data and not has_length:
            await self.send(RawData(data=data))

    async def _send_error_response(self, status_code: int) -> None:
        if status_code == 501:
            # h11's, of codings other than chunked: where such a body ends nobody knows (RFC 9112, 6.3).
            status_code = 400
        self.refused = True
        self.counters.rest_requests_refused += 1
        fault = self.connection.fault.encode("unicode_escape").decode("ascii")
        fault = fault if len(fault) <= _FAULT_CHARACTERS else fault[: _FAULT_CHARACTERS - 3] + "..."
        message = {
            408: f"the request line and headers did not arrive within {_HEAD_TIMEOUT_S:g} s",
            421: f"this port does not answer for the host of the request: {fault}; HEADEND_HTTP_HOSTS names "
            "those that it answers for",
            431: f"the request line and headers are larger than {self.config.h11_max_incomplete_size} bytes",
            505: "this port speaks HTTP/1.1",
        }.get(status_code, f"the request is not well-formed HTTP/1.1: {fault}")
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

    def __init__(
        self,
        app: Any,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream,
        *,
        hosts: KnownHosts,
        counters: Counters,
    ) -> None:
        super().__init__(app, config, context, {}, stream)
        # When it has connected, or was last answered.
        self.active_s = trio.current_time()
        self._hosts = hosts
        self._counters = counters
        self._http1: _Http1Protocol | None = None
        self._requests = 0
        # While the rest of a request's head is awaited: until when.
        self._head_until_s = math.inf
        self._socket_stream = stream
        self._scope = trio.CancelScope()
        self._answered = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way: nobody is answered less when it is closed."""
        return self._http1 is None or self._http1.is_idle

    def close(self) -> None:
        """End it at once."""
        self._scope.cancel()

    async def run(self) -> None:
        """Serve the requests of this connection, one after the other.

        *Error handling*: nothing that a client does raises here.
        """
        socket = self._socket_stream.socket
        try:
            with self._scope:
                async with TaskGroup() as task_group:
                    self._task_group = task_group
                    self._http1 = http1 = _Http1Protocol(
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
                    http1.hosts, http1.counters = self._hosts, self._counters
                    http1.connection = StrictConnection(max_head_bytes=self.config.h11_max_incomplete_size)
                    # Hypercorn's wrapper around its protocols is what could change over to HTTP/2.
                    self.protocol = http1  # type: ignore[assignment]  # has what is used of it
                    await self.idle_task.restart(task_group, self._idle_timeout)
                    await self._read_all(http1)
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
        has_read_all = self._http1 is None or self._http1.has_read_all
        self._scope.deadline = trio.current_time() + (0 if has_read_all else _LINGER_S)
        with suppress(*_GONE, trio.BusyResourceError):
            await self._socket_stream.send_eof()

    async def _send(self, data: bytes) -> None:
        try:
            with trio.fail_after(_SEND_TIMEOUT_S):
                async with self.send_lock:
                    await self.stream.send_all(data)
        except (*_GONE, trio.TooSlowError):
            self._scope.cancel()

    async def _read_all(self, http1: _Http1Protocol) -> None:
        with suppress(*_GONE):
            while True:
                with trio.move_on_at(self._head_until_s) as awaited:
                    data = bytes(await self.stream.receive_some(_READ_BYTES))
                if awaited.cancelled_caught:
                    self._head_until_s = math.inf
                    await http1.refuse(408)
                    continue
                if not self._answered:
                    await http1.handle(RawData(data))
                self._watch_head(http1)
                if not data:
                    break
        # What still runs, runs for a client that is gone.
        self._scope.cancel()

    def _watch_head(self, http1: _Http1Protocol) -> None:
        if http1.keep_alive_requests > self._requests:
            self._requests = http1.keep_alive_requests
            self.active_s = trio.current_time()
            self._head_until_s = math.inf
        if self._answered or not http1.connection.head_is_incomplete:
            self._head_until_s = math.inf
        elif self._head_until_s == math.inf:
            self._head_until_s = trio.current_time() + _HEAD_TIMEOUT_S
