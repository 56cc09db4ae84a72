"""An HTTP port: accepts connections, limits their number, and closes them at shutdown.

A connection's protocol is in `http1`; its responses come from the ASGI application: the headend's REST, or
the console.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from trioder.access.tls import ServerTls
from trioder.access.tls_stream import StepPacer, TlsStream
from trioder.api.errors import error_json
from trioder.api.http.hosts import HOSTS_VARIABLE, LOCAL_HOSTS, AllowedHosts
from trioder.api.http.hot_path import HotReads
from trioder.api.http.http1 import Http1Connection, TlsRefused
from trioder.events.counters import Counters
from trioder.rpc.refusals import Refusals

log = structlog.stdlib.get_logger(__name__)

# File descriptors are limited (1,024 by default), and agents have priority over REST clients.
MAX_CONNECTIONS = 500
# For requests in progress at shutdown.
_GRACE_S = 3.0
# From the connect, or the last response, to the end of a request's head.
_IDLE_TIMEOUT_S = 30.0
# Room for a thousand ?asset_id=.
_MAX_HEADER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeOptions:
    """What differs between the servers that use this.

    Attributes:
        headers: of every response, those to requests that do not reach the application included.
        hosts_variable: what the option for the hosts is called in errors.
        program: what serves, in errors.
    """

    headers: Sequence[tuple[bytes, bytes]] = ()
    hosts_variable: str = HOSTS_VARIABLE
    program: str = "headend"


_HEADEND = EdgeOptions()


async def serve_rest(
    app: Any,
    listeners: list[trio.SocketListener],
    *,
    shutdown: trio.Event,
    hosts: AllowedHosts | None = None,
    counters: Counters | None = None,
    max_connections: int = MAX_CONNECTIONS,
    tls: ServerTls | None = None,
    tls_refused: TlsRefused | None = None,
    fast_reads: HotReads | None = None,
    edge: EdgeOptions = _HEADEND,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI application over HTTP/1.1 until `shutdown` is set, or until cancelled.

    At shutdown no more connections are accepted, idle ones are closed, and requests in progress have 3 s to
    finish. Signals are the caller's responsibility.

    Args:
        app: the application.
        listeners: the bound sockets of one address.
        shutdown: see above.
        hosts: whose requests are accepted; by default loopback and the connection's local address.
        counters: of refused requests and connections.
        max_connections: beyond it, a new connection replaces the longest idle one, or is refused.
        tls: connections are TLS, by its context of that time; plain when it is None.
        tls_refused: records failed handshakes, with the peer's address and the reason; None to log them.
        fast_reads: answers requests beside the application; without it the application answers all.
        edge: what differs between the headend and others.
        task_status: started when connections are accepted.

    *Resource handling*: closes the listeners and every connection.
    """
    config = _hypercorn_config(edge)
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
    context = WorkerContext(None)
    hosts = hosts or AllowedHosts.of_address(LOCAL_HOSTS[0])
    counters = counters or Counters()
    open_connections: set[Http1Connection] = set()
    pacer = StepPacer()
    refusals = Refusals()

    def log_refused(address: str, reason: str) -> None:
        refusals.add("tls", port="REST", address=address, detail=reason)

    async def serve(stream: trio.SocketStream) -> None:
        if len(open_connections) >= max_connections and not _make_room(open_connections, counters):
            counters.rest_connections_refused += 1
            log.warning("REST connection refused", reason="too many connections", limit=max_connections)
            if tls is None:
                await _refuse(stream, max_connections, edge)
            else:
                # A handshake for nothing but this refusal would cost more than the connection.
                await trio.aclose_forcefully(stream)
            return
        connection = Http1Connection(
            wrapped,
            config,
            context,
            stream,
            hosts=hosts,
            counters=counters,
            hosts_variable=edge.hosts_variable,
            tls=None if tls is None else TlsStream(stream, tls.context, pace=pacer.wait),
            tls_refused=tls_refused or log_refused,
            fast_reads=fast_reads,
        )
        open_connections.add(connection)
        try:
            await connection.run()
        finally:
            open_connections.discard(connection)

    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(partial(trio.serve_listeners, serve, listeners, handler_nursery=connections))
            task_status.started()
            await shutdown.wait()
            accepting.cancel_scope.cancel()
        await context.terminated.set()
        for connection in tuple(open_connections):
            if connection.in_handshake:
                connection.close()
        connections.cancel_scope.deadline = trio.current_time() + _GRACE_S


def _make_room(open_connections: set[Http1Connection], counters: Counters) -> bool:
    """Close the longest idle connection; False when none is idle."""
    idle = [connection for connection in open_connections if connection.is_idle]
    if not idle:
        return False
    longest = min(idle, key=lambda connection: connection.active_s)
    open_connections.discard(longest)
    longest.close()
    counters.rest_connections_closed_idle += 1
    return True


class _Config(Config):
    """Hypercorn's settings, with the headers of every response computed once a second."""

    headers: Sequence[tuple[bytes, bytes]] = ()
    _second = 0
    _headers: Sequence[tuple[bytes, bytes]] = ()

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._headers = (*super().response_headers(protocol), *self.headers)
        return [*self._headers]


def _hypercorn_config(edge: EdgeOptions) -> Config:
    config = _Config()
    config.headers = edge.headers
    config.include_server_header = False
    config.keep_alive_timeout = _IDLE_TIMEOUT_S
    config.h11_max_incomplete_size = _MAX_HEADER_BYTES
    config.errorlog = logging.getLogger("hypercorn.error")
    return config


async def _refuse(stream: trio.SocketStream, max_connections: int, edge: EdgeOptions) -> None:
    body = error_json(503, f"this {edge.program} already serves {max_connections} REST connections")
    head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n"
    head += "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in edge.headers)
    with trio.move_on_after(1), suppress(trio.BrokenResourceError):
        await stream.send_all(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await stream.send_eof()
        # Closing with unread data resets the connection, and the response is lost.
        async for _ in stream:
            pass
    await trio.aclose_forcefully(stream)
