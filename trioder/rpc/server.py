"""A server: it accepts connections, and runs a handler for each request.

Transport only: what the methods do is given as `Services`.
"""

import errno
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import h2.events
import h2.exceptions
import structlog
import trio
from h2.errors import ErrorCodes

from trioder.access.tls import ServerTls
from trioder.access.tls_errors import explain
from trioder.access.tls_stream import TlsStream
from trioder.process.nurseries import leaf_exceptions
from trioder.rpc.call_stream import CallStream
from trioder.rpc.connection import Connection
from trioder.rpc.headers import MalformedHeadersError, NotGrpcError, RequestHead, read_request
from trioder.rpc.options import ConnectionOptions
from trioder.rpc.peer import Peer, TlsRefusedError, address_of, first_byte, host_of, peer_of
from trioder.rpc.peer_access import PeerAccess
from trioder.rpc.peer_limits import PeerBudget, PeerLimits, unlimited_budget
from trioder.rpc.refusals import Refusals
from trioder.rpc.services import Handler, ServerCall, Services
from trioder.rpc.status import RpcError, StatusCode

log = structlog.stdlib.get_logger(__name__)

# Of a peer that was admitted; thousands may wait for that.
_HANDSHAKE_WITHIN_S = 10.0
_DEFAULTS = ConnectionOptions()
# A listener that has run out of file descriptors is retried after so long.
_ACCEPT_RETRY_S = 0.1
_CAPACITY_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


async def serve_rpc(
    listeners: Sequence[trio.abc.Listener[Any]],
    services: Services,
    *,
    drain: trio.Event,
    options: ConnectionOptions = _DEFAULTS,
    limits: PeerLimits | None = None,
    tls: ServerTls | None = None,
    access: PeerAccess | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept connections and serve each until `drain` is set and the calls then in flight have ended.

    Args:
        listeners: closed when `drain` is set, or on the way out.
        services: the methods that are served.
        drain: see above.
        options: the bounds of each connection.
        limits: those of all together; none beyond `options` when it is None.
        tls: the listeners' connections are TLS, by its context of that time; plain when it is None.
        access: which peers are served; all when it is None.
        task_status: started once connections are accepted.

    Error handling: nothing that a peer does is raised here, nor exhausted descriptors or memory; any other
    error of `accept` is.
    """
    async with trio.open_nursery() as sweeper:
        if limits is not None:
            sweeper.start_soon(limits.sweep)
        async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
            serve = partial(serve_connection, services=services, drain=drain, options=options, access=access)
            for listener in listeners:
                accepting.start_soon(_accept, listener, limits, tls, connections, serve)
            task_status.started()
            await drain.wait()
            accepting.cancel_scope.cancel()
        sweeper.cancel_scope.cancel()


async def serve_connection(
    stream: trio.abc.Stream,
    services: Services,
    *,
    drain: trio.Event | None = None,
    options: ConnectionOptions = _DEFAULTS,
    budget: PeerBudget | None = None,
    access: PeerAccess | None = None,
) -> None:
    """Serve one connection until it ends, then close the stream. Nothing that the peer does is raised.

    Args:
        stream: any bidirectional stream; a `TlsStream` has to negotiate h2, and may have done its handshake.
        services: the methods that are served.
        drain: once set, GOAWAY is sent, and the connection ends with the last call.
        options: its bounds.
        budget: its share of the limits of all connections (`PeerLimits.serving`).
        access: whether the peer is served; yes when it is None.
    """
    budget = budget or unlimited_budget()
    access = access or PeerAccess()
    try:
        peer = await _identify(stream, budget)
    except _NotServedError:
        return
    connection = Connection(stream, client_side=False, options=options, budget=budget)
    with access.serving(peer, connection):
        await _Calls(connection, services, peer, access).run(trio.Event() if drain is None else drain)


class _NotServedError(Exception):
    """The TLS handshake failed; that is counted, and the stream is closed."""


async def _identify(stream: trio.abc.Stream, budget: PeerBudget) -> Peer:
    """Return the peer, after its TLS handshake if the stream has not done that.

    Raises:
        _NotServedError: see there.
    """
    # A peer that has closed the connection has none any more.
    address = address_of(stream)
    try:
        with trio.fail_after(_HANDSHAKE_WITHIN_S):
            return await peer_of(stream)
    except (TlsRefusedError, trio.TooSlowError, trio.BrokenResourceError) as error:
        # Load balancers connect, and close without a byte, to see whether the port is open.
        if not (isinstance(stream, TlsStream) and stream.received_nothing):
            budget.refuse_peer("tls", Peer(address=address), explain(error))
        await trio.aclose_forcefully(stream)
        raise _NotServedError from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


async def _accept(
    listener: trio.abc.Listener[Any],
    limits: PeerLimits | None,
    tls: ServerTls | None,
    connections: trio.Nursery,
    serve: Callable[..., Awaitable[None]],
) -> None:
    refusals = limits.refusals if limits is not None else Refusals()
    async with listener:
        while True:
            if limits is not None:
                await limits.wait_for_capacity()
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _CAPACITY_ERRNOS:
                    raise
                refusals.add("accept", detail=str(error))
                await trio.sleep(_ACCEPT_RETRY_S)
                continue
            budget = unlimited_budget() if limits is None else limits.open_budget(host_of(stream))
            connections.start_soon(_serve_accepted, stream, budget, tls, serve)


async def _serve_accepted(
    stream: trio.abc.Stream, budget: PeerBudget, tls: ServerTls | None, serve: Callable[..., Awaitable[None]]
) -> None:
    async def await_admission() -> None:
        nonlocal stream
        await first_byte(stream)
        if tls is not None:
            async with budget.limits.handshaking(budget):
                stream = TlsStream(stream, tls.context, pace=budget.next_handshake_step)
                await _identify(stream, budget)

    try:
        try:
            with budget.scope:
                async with budget.limits.serving(budget, before_admission=await_admission):
                    await serve(stream, budget=budget)
        except _NotServedError:
            pass
        finally:
            await trio.aclose_forcefully(stream)
    except Exception:
        # A defect of ours ends one connection, not the server.
        log.exception("connection crashed")


class _Calls:
    """The calls of one connection."""

    def __init__(self, connection: Connection, services: Services, peer: Peer, access: PeerAccess) -> None:
        self._connection = connection
        self._services = services
        self._peer = peer
        self._access = access

    async def run(self, drain: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._drain_when_set, drain)
            async with trio.open_nursery() as handlers:
                # Its end cancels every call; a handler bounds its own cleanup.
                await self._connection.run(partial(self._on_headers, handlers))
            nursery.cancel_scope.cancel()

    async def _drain_when_set(self, drain: trio.Event) -> None:
        await drain.wait()
        self._connection.drain()

    def _on_headers(self, handlers: trio.Nursery, event: h2.events.Event) -> None:
        core = self._connection.core
        stream_id: int = event.stream_id
        if not isinstance(event, h2.events.RequestReceived):
            return  # a client's trailers mean nothing in gRPC
        # The stream is closed already when HEADERS and RST_STREAM arrived in one read.
        with suppress(h2.exceptions.ProtocolError):
            try:
                start = self._prepare_call(stream_id, read_request(event.headers))
            except MalformedHeadersError as error:
                log.debug("call refused", peer=self._peer.address, reason=str(error))
                core.reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
            except h2.exceptions.TooManyStreamsError:
                core.reset(stream_id, ErrorCodes.REFUSED_STREAM)
            except NotGrpcError as error:
                core.send_http_status(stream_id, error.http_status)
                core.reset(stream_id, ErrorCodes.NO_ERROR)
            except RpcError as error:
                core.send_status(stream_id, error, started=False)
                core.reset(stream_id, ErrorCodes.NO_ERROR)
            else:
                handlers.start_soon(start)

    def _prepare_call(self, stream_id: int, head: RequestHead) -> Callable[[], Awaitable[None]]:
        connection = self._connection
        if connection.draining:
            raise RpcError(StatusCode.UNAVAILABLE, "the server is going away")
        if (reason := self._access.refusal(self._peer)) is not None:
            # With a status rather than at the handshake: the peer learns the reason.
            connection.budget.refuse_peer("certificate", self._peer, reason)
            connection.drain()
            raise RpcError(StatusCode.UNAUTHENTICATED, reason)
        if not connection.accepts_call():
            raise h2.exceptions.TooManyStreamsError
        try:
            method, handler = self._services[head.path]
        except KeyError:
            raise RpcError(StatusCode.UNIMPLEMENTED, f"there is no method {head.path[:200]}") from None
        stream = connection.open_stream(stream_id)
        if head.timeout_s is not None:
            stream.scope.relative_deadline = head.timeout_s
        if connection.budget.limited:
            self._limit_messages(stream, head.path)
        call = ServerCall(stream, method, head.metadata, self._peer)
        return partial(self._run_call, stream, call, handler)

    def _limit_messages(self, stream: CallStream, path: str) -> None:
        connection = self._connection
        most = connection.budget.limits.options.unregistered_bytes
        more = self._services.first_message_bytes(path)
        if more and connection.large_call is None:
            connection.large_call = stream
            connection.budget.extra_bytes = min(more, connection.options.max_message_bytes)
            most += connection.budget.extra_bytes
        stream.limit_messages(min(most, connection.options.max_message_bytes))

    async def _run_call(self, stream: CallStream, call: ServerCall[Any, Any], handler: Handler) -> None:
        # The status when the server itself is cancelled.
        outcome: RpcError | None = RpcError(StatusCode.UNAVAILABLE, "the server is stopping")
        try:
            with stream.scope:
                await handler(call)
            outcome = None
            if stream.scope.cancelled_caught and not stream.closed:
                outcome = stream.error or RpcError(StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
        except trio.EndOfChannel:
            outcome = RpcError(StatusCode.INVALID_ARGUMENT, "the client ended the call too early")
        except Exception as error:
            outcome = _rpc_error_in(error)
            if outcome is not None:
                return
            log.exception("call failed", method=call.method.path, peer=self._peer.address)
            outcome = RpcError(StatusCode.INTERNAL, "internal error")
        finally:
            if not stream.closed:
                stream.send_status(outcome, started=call.response_started)
            self._connection.close_stream(stream)


def _rpc_error_in(error: Exception) -> RpcError | None:
    """The RpcError that a handler raised, also from within its nurseries."""
    match leaf_exceptions(error):
        case [RpcError() as refusal]:
            return refusal.fresh()
    return None
