"""One client's connection, on hypercorn's HTTP/1.1 protocol.

HTTP/1.1 and 1.0 only, known hosts only, every error in JSON, every wait bounded. Hypercorn's own connection
upgrades to HTTP/2 on request, shields its writes from cancellation, and may wait for ever for a handler that
has returned.
"""

import math
import socket as sockets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from trioder.access.tls_errors import explain
from trioder.access.tls_stream import TlsStream
from trioder.api.http.body import CONNECTION
from trioder.api.http.hosts import HOSTS_VARIABLE, AllowedHosts
from trioder.api.http.hot_path import HotPath, HotReads
from trioder.api.http.http1_protocol import HEAD_TIMEOUT_S, Http1Protocol
from trioder.api.http.strict_h11 import StrictConnection
from trioder.events.counters import Counters
from trioder.rpc.peer import address_of

log = structlog.stdlib.get_logger(__name__)

# A client that reads nothing for so long is disconnected.
_SEND_TIMEOUT_S = 30.0
# How long a client may go on sending after the response: closing with unread data resets the connection,
# and the response is lost.
_LINGER_S = 1.0
_TLS_HANDSHAKE_WITHIN_S = 10.0
# Receives the address of a peer whose handshake has failed, and the reason.
TlsRefused = Callable[[str, str], None]
_READ_BYTES = 65536
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Http1Connection(TCPServer):
    """Serves one TCP stream, over TLS or not, until either side closes it."""

    def __init__(
        self,
        app: Any,
        config: Config,
        context: WorkerContext,
        stream: trio.SocketStream,
        *,
        hosts: AllowedHosts,
        counters: Counters,
        hosts_variable: str = HOSTS_VARIABLE,
        tls: TlsStream | None = None,
        tls_refused: TlsRefused = lambda _peer, _reason: None,
        fast_reads: HotReads | None = None,
    ) -> None:
        super().__init__(app, config, context, {}, tls or stream)
        self._fast_reads = fast_reads
        self._hot_path: HotPath | None = None
        self._active_s = trio.current_time()
        self._hosts = hosts
        self._counters = counters
        self._hosts_variable = hosts_variable
        self._http1: Http1Protocol | None = None
        self._requests = 0
        self._head_deadline_s = math.inf
        self._socket_stream = stream
        self._tls = tls
        self._tls_refused = tls_refused
        self._scope = trio.CancelScope()
        self._responded = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        return self._http1 is None or (self._http1.is_idle and self._sending_since_s is None)

    @property
    def active_s(self) -> float:
        """When it was opened, or last responded."""
        return self._active_s if self._hot_path is None else max(self._active_s, self._hot_path.active_s)

    @property
    def _sending_since_s(self) -> float | None:
        """Since when a hot read's response, or a piece of it, is being sent."""
        return None if self._hot_path is None else self._hot_path.sending_since_s

    @property
    def in_handshake(self) -> bool:
        """Whether its TLS handshake is not finished."""
        return self._http1 is None

    def close(self) -> None:
        """Close the connection without delay."""
        self._scope.cancel()

    async def run(self) -> None:
        """Serve the requests of this connection, one after the other.

        *Error handling*: no input of a client raises here.
        """
        socket = self._socket_stream.socket
        try:
            with self._scope:
                if self._tls is not None and not await self._shake_hands(self._tls):
                    return
                async with TaskGroup() as task_group:
                    self._task_group = task_group
                    self._http1 = http1 = Http1Protocol(
                        self.app,
                        self.config,
                        self.context,
                        task_group,
                        ConnectionState({CONNECTION: self}),
                        self._tls is not None,
                        parse_socket_addr(socket.family, socket.getpeername()),
                        parse_socket_addr(socket.family, socket.getsockname()),
                        self.protocol_send,
                    )
                    http1.hosts, http1.counters = self._hosts, self._counters
                    http1.hosts_variable = self._hosts_variable
                    http1.connection = StrictConnection(max_head_bytes=self.config.h11_max_incomplete_size)
                    if self._fast_reads is not None:
                        self._hot_path = HotPath(
                            self._fast_reads,
                            hosts=self._hosts,
                            config=self.config,
                            addresses=(http1.client, http1.server),
                            is_closing=self.context.terminated.is_set,
                            receive=self.stream.receive_some,
                            send=self.stream.send_all,
                            give_up=self.close,
                        )
                    # Instead of hypercorn's wrapper around its protocols, which can switch to HTTP/2.
                    self.protocol = http1  # type: ignore[assignment]  # has the methods that are used
                    await self.idle_task.restart(task_group, self._idle_timeout)
                    await self._read_all(http1)
        except* OSError:
            pass  # the client disconnected before its address was read
        except* Exception:
            log.exception("connection crashed")
        finally:
            await trio.aclose_forcefully(self.stream)

    async def _shake_hands(self, tls: TlsStream) -> bool:
        # A peer that has closed the connection has none any more.
        address = address_of(self._socket_stream)
        try:
            with trio.fail_after(_TLS_HANDSHAKE_WITHIN_S):
                await tls.do_handshake()
        except (*_GONE, trio.TooSlowError) as error:
            if not tls.received_nothing:
                self._counters.rest_connections_refused += 1
                self._tls_refused(address, explain(error))
            return False
        self._active_s = trio.current_time()
        return True

    async def protocol_send(self, event: Event) -> None:
        """Apply an event of the protocol to the stream."""
        if isinstance(event, RawData):
            await self._send(event.data)
            return
        # Quart cancels this task when its request is complete; closing the connection and restarting its
        # idle timer must not be cancelled. Neither waits for the client.
        with trio.CancelScope(shield=True):
            if isinstance(event, Closed):
                await self._end()
            else:
                await super().protocol_send(event)

    async def _end(self) -> None:
        self._responded = True
        has_read_all = self._http1 is None or self._http1.has_read_all
        self._scope.deadline = trio.current_time() + (0 if has_read_all else _LINGER_S)
        # A TLS closure alert waits where the client reads nothing.
        with suppress(*_GONE, trio.BusyResourceError), trio.move_on_after(_LINGER_S):
            await (self._tls or self._socket_stream).send_eof()

    async def _send(self, data: bytes) -> None:
        try:
            with trio.fail_after(_SEND_TIMEOUT_S):
                async with self.send_lock:
                    await self.stream.send_all(data)
        except (*_GONE, trio.TooSlowError):
            self._scope.cancel()
        except trio.BusyResourceError:
            # The end of the stream is being sent: the client has broken the protocol meanwhile.
            return

    async def _idle_timeout(self) -> None:
        """Close the connection when it was idle or did not send for too long, or at shutdown.

        Hypercorn starts this whenever no request of its own is in progress.
        """
        since_s = trio.current_time()
        while not self.context.terminated.is_set():
            is_idle = self._sending_since_s is None
            timeout_s = self.config.keep_alive_timeout if is_idle else _SEND_TIMEOUT_S
            due_s = since_s + timeout_s
            with trio.move_on_at(due_s):
                await self.context.terminated.wait()
            since_s = max(since_s, self._sending_since_s or self.active_s)
            if since_s + timeout_s <= trio.current_time():
                break
        if self._sending_since_s is not None:
            if not self.context.terminated.is_set():
                self._scope.cancel()
            # At shutdown it is closed after the response.
            return
        with trio.CancelScope(shield=True):
            await self._initiate_server_close()

    def limit_send_buffer(self, size: int) -> None:
        """See `body.Connection`."""
        self._socket_stream.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, size)

    async def send_body(self, data: bytes) -> None:
        """See `body.Connection`. A client that has disconnected cancels the request."""
        # `acquire` would be a further pass through the event loop.
        try:
            self.send_lock.acquire_nowait()
        except trio.WouldBlock:
            await self.send_lock.acquire()
        try:
            await self.stream.send_all(data)
        except _GONE:
            self._scope.cancel()
            await trio.lowlevel.checkpoint()
        finally:
            self.send_lock.release()

    async def _read_all(self, http1: Http1Protocol) -> None:
        with suppress(*_GONE):
            while True:
                with trio.move_on_at(self._head_deadline_s) as head_timeout:
                    data = bytes(await self.stream.receive_some(_READ_BYTES))
                if head_timeout.cancelled_caught:
                    self._head_deadline_s = math.inf
                    await http1.refuse(408)
                    continue
                rest = await self._answer_hot_reads(http1, data)
                if not self._responded:
                    await http1.handle(RawData(rest))
                self._watch_head(http1)
                if not (rest or self._responded) or not data:
                    break
        # The client has disconnected: cancel its request.
        self._scope.cancel()

    async def _answer_hot_reads(self, http1: Http1Protocol, data: bytes) -> bytes:
        """Answer hot reads while there are any; return what is not one, or empty at the end of the stream."""
        if self._hot_path is None or self._responded or not http1.is_between_requests:
            return data
        # The last response on a connection is hypercorn's, which closes it.
        at_most = self.config.keep_alive_max_requests - 1 - http1.keep_alive_requests
        rest, answered = await self._hot_path.serve(data, at_most=at_most)
        http1.keep_alive_requests += answered
        if answered and self.context.terminated.is_set():
            await self.protocol_send(Closed())
        return rest

    def _watch_head(self, http1: Http1Protocol) -> None:
        if http1.keep_alive_requests > self._requests:
            self._requests = http1.keep_alive_requests
            self._active_s = trio.current_time()
            self._head_deadline_s = math.inf
        if self._responded or not http1.connection.head_is_incomplete:
            self._head_deadline_s = math.inf
        elif self._head_deadline_s == math.inf:
            self._head_deadline_s = trio.current_time() + HEAD_TIMEOUT_S
