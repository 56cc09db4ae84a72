"""The server's side of a connection: each request becomes a call, each call runs its handler.

Transport only: what the methods do is given as handlers.
"""

import errno
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Self, TypeAlias

import h2.events
import h2.exceptions
import structlog
import trio
from google.protobuf.message import DecodeError
from h2.errors import ErrorCodes

from trioder.process.nurseries import leaf_exceptions
from trioder.rpc.call_stream import CallStream
from trioder.rpc.connection import Connection
from trioder.rpc.headers import MalformedHeadersError, Metadata, NotGrpcError, RequestHead, read_request
from trioder.rpc.method import Method, Req, Res
from trioder.rpc.options import ConnectionOptions
from trioder.rpc.peer import Peer, TlsRefusedError, address_of, first_byte, peer_of
from trioder.rpc.peers import PeerAccount, PeerLimits
from trioder.rpc.refusals import Refusals
from trioder.rpc.status import RpcError, StatusCode

log = structlog.stdlib.get_logger(__name__)

_HANDSHAKE_WITHIN_S = 10.0
_DEFAULTS = ConnectionOptions()
# A listener that fails for want of file descriptors does not do better a moment later.
_ACCEPT_AGAIN_AFTER_S = 0.1
_CAPACITY_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class ServerCall(Generic[Req, Res]):
    """One call, as its handler sees it.

    Attributes:
        metadata: the request's header fields.
        peer: who calls.
        check_bytes: called with each message before it is decoded, and raises what refuses it: a message
            may decode to a hundred times its size.
    """

    def __init__(
        self, exchange: CallStream, method: Method[Req, Res], metadata: Metadata, peer: Peer
    ) -> None:
        self._exchange = exchange
        self._method = method
        self.metadata = metadata
        self.peer = peer
        self.response_started = False
        self.check_bytes: Callable[[bytes], None] | None = None

    def register_peer(self, *, max_message_bytes: int | None = None) -> None:
        """Lift the bounds of unregistered peers from the connection for as long as the call lasts.

        Args:
            max_message_bytes: of each message that the call receives from now on.
        """
        self._exchange.register_peer(max_message_bytes)

    async def receive(self) -> Req:
        """Return the client's next message.

        Raises:
            trio.EndOfChannel: the client has said all.
            RpcError: INVALID_ARGUMENT for bytes that are no such message.
            Exception: what `check_bytes` raises.
        """
        return self._decoded(await self._exchange.receive())

    async def receive_some(self) -> Iterator[Req]:
        """Return the client's next messages, as many as have arrived, up to one turn of the event loop.

        Each is checked and decoded when it is iterated to, and may raise then what `receive` does.

        Raises:
            trio.EndOfChannel: the client has said all.
        """
        return map(self._decoded, await self._exchange.receive_some())

    def _decoded(self, data: bytes) -> Req:
        if self.check_bytes is not None:
            self.check_bytes(data)
        try:
            return self._method.request_type.FromString(data)
        except DecodeError:
            name = self._method.request_type.DESCRIPTOR.full_name
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"{len(data)} bytes that are no {name}") from None

    async def send(self, response: Res) -> None:
        """Send a message; waits while the client or the wire takes no more."""
        if not self.response_started:
            self.response_started = True
            self._exchange.start_response()
        await self._exchange.send(response.SerializeToString())

    def __aiter__(self) -> Self:
        """Iterate over the client's messages."""
        return self

    async def __anext__(self) -> Req:
        """Return the next message of the iteration."""
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None


Handler: TypeAlias = Callable[[ServerCall[Any, Any]], Awaitable[None]]


class Services(Mapping[str, tuple[Method[Any, Any], Handler]]):
    """What a server serves: methods and their handlers, by path.

    Args:
        handlers: by method.
        first_message_bytes: of the methods by which a peer registers, how large the first message may be
            beyond the bound of unregistered peers; asked at each call.
    """

    def __init__(
        self,
        handlers: Mapping[Method[Any, Any], Handler],
        *,
        first_message_bytes: Mapping[Method[Any, Any], Callable[[], int]] | None = None,
    ) -> None:
        self._by_path = {method.path: (method, handler) for method, handler in handlers.items()}
        self._first_message_bytes = {method.path: ask for method, ask in (first_message_bytes or {}).items()}

    def first_message_bytes(self, path: str) -> int:
        """Return by how much the first message may exceed the bound of unregistered peers."""
        ask = self._first_message_bytes.get(path)
        return 0 if ask is None else ask()

    def __getitem__(self, path: str) -> tuple[Method[Any, Any], Handler]:
        return self._by_path[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_path)

    def __len__(self) -> int:
        return len(self._by_path)


async def serve_rpc(
    listeners: Sequence[trio.abc.Listener[Any]],
    services: Services,
    *,
    drain: trio.Event,
    options: ConnectionOptions = _DEFAULTS,
    limits: PeerLimits | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept connections and serve each until `drain` is set and the calls then in flight have ended.

    Args:
        listeners: where.
        services: what is served.
        drain: see above.
        options: the bounds of each connection.
        limits: those of all together; none beyond `options` when it is None.
        task_status: started once connections are accepted.

    Resource handling: the listeners are closed when `drain` is set, or on the way out.
    Error handling: nothing that a peer does is raised here, nor a want of descriptors or memory; any other
    error of `accept` is.
    """
    async with trio.open_nursery() as sweeping:
        if limits is not None:
            sweeping.start_soon(limits.sweep)
        async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
            accept = partial(
                _accept,
                services=services,
                drain=drain,
                options=options,
                limits=limits,
                connections=connections,
            )
            for listener in listeners:
                accepting.start_soon(accept, listener)
            task_status.started()
            await drain.wait()
            accepting.cancel_scope.cancel()
        sweeping.cancel_scope.cancel()


async def serve_connection(
    stream: trio.abc.Stream,
    services: Services,
    *,
    drain: trio.Event | None = None,
    options: ConnectionOptions = _DEFAULTS,
    account: PeerAccount | None = None,
) -> None:
    """Serve one connection until it ends; the stream is closed then. Raises nothing of a peer's doing.

    Args:
        stream: any bidirectional stream; a TLS one must have negotiated h2.
        services: what is served.
        drain: once set, the peer is asked to begin no more calls, and the connection ends with the last.
        options: its bounds.
        account: what it shares with other connections (`PeerLimits.serving`).
    """
    try:
        with trio.fail_after(_HANDSHAKE_WITHIN_S):
            peer = await peer_of(stream)
    except (TlsRefusedError, trio.TooSlowError, trio.BrokenResourceError) as error:
        log.info("connection refused", reason=str(error) or "the TLS handshake took too long")
        await trio.aclose_forcefully(stream)
        return
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    serving = _Serving(stream, services, peer, options, account)
    await serving.run(trio.Event() if drain is None else drain)


async def _accept(
    listener: trio.abc.Listener[Any],
    *,
    services: Services,
    drain: trio.Event,
    options: ConnectionOptions,
    limits: PeerLimits | None,
    connections: trio.Nursery,
) -> None:
    refusals = limits.refusals if limits is not None else Refusals()
    async with listener:
        while True:
            if limits is not None:
                await limits.room()
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _CAPACITY_ERRNOS:
                    raise
                refusals.add("accept", detail=str(error))
                await trio.sleep(_ACCEPT_AGAIN_AFTER_S)
                continue
            account = None if limits is None else limits.accepted(address_of(stream))
            connections.start_soon(_serve_accepted, stream, services, drain, options, account)


async def _serve_accepted(
    stream: trio.abc.Stream,
    services: Services,
    drain: trio.Event,
    options: ConnectionOptions,
    account: PeerAccount | None,
) -> None:
    try:
        if account is None:
            await serve_connection(stream, services, drain=drain, options=options)
            return
        try:
            with account.scope:
                async with account.limits.serving(account, first_byte=partial(first_byte, stream)):
                    await serve_connection(stream, services, drain=drain, options=options, account=account)
        finally:
            await trio.aclose_forcefully(stream)
    except Exception:
        # The last wall: a defect of ours ends one connection, not the server.
        log.exception("connection crashed")


@dataclass(frozen=True, slots=True)
class _Begun:
    """A request whose handler is to be started."""

    exchange: CallStream
    call: ServerCall[Any, Any]
    handler: Handler
    timeout_s: float | None


class _TooManyCallsError(Exception):
    """The client has more calls open than it was told it may have."""


class _Serving:
    """A connection's calls."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        services: Services,
        peer: Peer,
        options: ConnectionOptions,
        account: PeerAccount | None,
    ) -> None:
        self._services = services
        self._peer = peer
        self._connection = Connection(stream, client_side=False, options=options, account=account)

    async def run(self, drain: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._drain_when_asked, drain)
            async with trio.open_nursery() as handlers:
                self._connection.on_headers = partial(self._take_headers, handlers)
                # Its end cancels every call; what a handler still does on its way out is its own to bound.
                await self._connection.run()
            nursery.cancel_scope.cancel()

    async def _drain_when_asked(self, drain: trio.Event) -> None:
        await drain.wait()
        self._connection.drain()

    def _take_headers(self, handlers: trio.Nursery, event: h2.events.Event) -> None:
        core = self._connection.core
        stream_id: int = event.stream_id
        if not isinstance(event, h2.events.RequestReceived):
            return  # a client's trailers mean nothing in gRPC
        # An answer finds the stream closed when HEADERS and RST_STREAM arrived in one read.
        with suppress(h2.exceptions.ProtocolError):
            try:
                begun = self._begin(stream_id, read_request(event.headers))
            except MalformedHeadersError as error:
                log.debug("call refused", peer=self._peer.address, reason=str(error))
                core.reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
            except _TooManyCallsError:
                core.reset(stream_id, ErrorCodes.REFUSED_STREAM)
            except NotGrpcError as error:
                core.answer_http_status(stream_id, error.http_status)
                core.reset(stream_id, ErrorCodes.NO_ERROR)
            except RpcError as error:
                core.end_call(stream_id, error, started=False)
                core.reset(stream_id, ErrorCodes.NO_ERROR)
            else:
                handlers.start_soon(self._run_call, begun)

    def _begin(self, stream_id: int, head: RequestHead) -> _Begun:
        connection = self._connection
        if connection.draining:
            raise RpcError(StatusCode.UNAVAILABLE, "the server is going away")
        if not connection.takes_call():
            raise _TooManyCallsError
        try:
            method, handler = self._services[head.path]
        except KeyError:
            raise RpcError(StatusCode.UNIMPLEMENTED, f"there is no method {head.path[:200]}") from None
        exchange = CallStream(connection, stream_id)
        connection.opened(exchange)
        if connection.account.limited:
            self._bound_messages(exchange, head.path)
        call = ServerCall(exchange, method, head.metadata, self._peer)
        return _Begun(exchange, call, handler, head.timeout_s)

    def _bound_messages(self, exchange: CallStream, path: str) -> None:
        connection = self._connection
        most = connection.account.limits.options.unregistered_bytes
        more = self._services.first_message_bytes(path)
        if more and connection.large_call is None:
            connection.large_call = exchange
            connection.account.larger_by = min(more, connection.options.max_message_bytes)
            most += connection.account.larger_by
        exchange.max_message_bytes = min(most, connection.options.max_message_bytes)

    async def _run_call(self, begun: _Begun) -> None:
        exchange = begun.exchange
        # What the client is told when the server itself is cancelled.
        outcome: RpcError | None = RpcError(StatusCode.UNAVAILABLE, "the server is stopping")
        if begun.timeout_s is not None:
            exchange.scope.deadline = trio.current_time() + begun.timeout_s
        try:
            with exchange.scope:
                await begun.handler(begun.call)
            outcome = None
            if exchange.scope.cancelled_caught and not exchange.closed:
                outcome = exchange.error or RpcError(StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
        except trio.EndOfChannel:
            outcome = RpcError(StatusCode.INVALID_ARGUMENT, "the client ended the call too early")
        except Exception as error:
            outcome = _refusal_in(error)
            if outcome is not None:
                return
            log.exception("call failed", method=begun.call._method.path, peer=self._peer.address)  # noqa: SLF001  # its own maker
            outcome = RpcError(StatusCode.INTERNAL, "internal error")
        finally:
            self._finish(begun, outcome)

    def _finish(self, begun: _Begun, outcome: RpcError | None) -> None:
        exchange = begun.exchange
        if not exchange.closed:
            exchange.end_call(outcome, started=begun.call.response_started)
        self._connection.finished(exchange)


def _refusal_in(error: Exception) -> RpcError | None:
    """The RpcError that a handler raised, also from within its nurseries.

    A new one: a local variable that keeps a caught exception is a cycle (traceback, frame, variable) that
    holds all that the handler's frames held, until a collector looks.
    """
    match leaf_exceptions(error):
        case [RpcError() as refusal]:
            return RpcError(refusal.status, refusal.message)
    return None
