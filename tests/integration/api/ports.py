"""A served application with a few routes, and raw access to its port."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
from quart import Response, request
from quart_trio import QuartTrio

from trioder.api.errors import register_error_handlers
from trioder.api.http.serving import serve_rest
from trioder.events.counters import Counters

MAX_BODY = 1_000_000


@dataclass(kw_only=True)
class Port:
    """A served application, and what a test wants to do with it."""

    app: QuartTrio
    address: tuple[str, int]
    shutdown: trio.Event
    ended: trio.Event
    holding: trio.Event
    release: trio.Event
    counters: Counters

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(*self.address)

    async def exchange(self, request: bytes) -> bytes:
        """Send bytes on a new connection and return all that is received until it is closed."""
        async with await self.connect() as stream:
            await stream.send_all(request)
            return await read_all(stream)


async def leave(stream: trio.abc.Stream, *, reset: bool) -> None:
    """Close a connection, in order or with a reset."""
    if reset:
        assert isinstance(stream, trio.SocketStream)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


def create_app(holding: trio.Event, release: trio.Event) -> QuartTrio:
    app = QuartTrio(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY, BODY_TIMEOUT=0.5)
    register_error_handlers(app, max_body_bytes=MAX_BODY, body_timeout_s=0.5)

    @app.get("/quick")
    async def quick() -> Response:
        return Response(b"{}", content_type="application/json")

    @app.post("/length")
    async def length() -> Response:
        return Response(b"%d" % len(await request.get_data()), content_type="application/json")

    @app.get("/hold")
    async def hold() -> Response:
        holding.set()
        await release.wait()
        return Response(b'"held"', content_type="application/json")

    @app.get("/endless")
    async def endless() -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            holding.set()
            while True:
                yield b"x" * 100_000

        return Response(chunks(), content_type="text/plain")

    @app.get("/slices")
    async def slices() -> Response:
        return Response(_slices(), content_type="text/plain")

    @app.get("/crash")
    async def crash() -> Response:
        raise RuntimeError("secret detail")

    return app


@asynccontextmanager
async def open_port(**options: Any) -> AsyncIterator[Port]:
    counters = Counters()
    holding, release, shutdown, ended = trio.Event(), trio.Event(), trio.Event(), trio.Event()
    app = create_app(holding, release)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listeners[0].socket.getsockname()

    async def serve(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC128  # serve_rest calls it
        await serve_rest(
            app, listeners, shutdown=shutdown, counters=counters, task_status=task_status, **options
        )
        ended.set()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            yield Port(
                app=app,
                address=address,
                shutdown=shutdown,
                ended=ended,
                holding=holding,
                release=release,
                counters=counters,
            )
            nursery.cancel_scope.cancel()


def parse_response(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    return (
        int(line.split()[1]),
        {name.lower(): value for name, value in (h.split(": ", 1) for h in headers)},
        body,
    )


async def _slices() -> AsyncIterator[bytes]:
    for _ in range(20):
        yield b"x" * 100_000
        await trio.lowlevel.checkpoint()
