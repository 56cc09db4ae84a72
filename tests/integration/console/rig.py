"""A served console, a headend that does what a test says, and raw access to both over real sockets."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from tests.integration.api.ports import parse_response, read_all
from trioder.access.tls import ServerTls
from trioder.api.http.serving import serve_rest
from trioder.console.app import EDGE, ConsoleApp
from trioder.console.headend import HeadendClient, open_headend_client
from trioder.console.static_files import StaticFiles
from trioder.process.addresses import Endpoint

Handler = Callable[[trio.SocketStream, bytes], Awaitable[None]]
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass(kw_only=True)
class Console:
    """A served console."""

    app: ConsoleApp
    client: HeadendClient
    port: int
    shutdown: trio.Event
    ended: trio.Event
    context: ssl.SSLContext | None = None
    cookie: str = ""

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def connect(self) -> trio.abc.Stream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        if self.context is None:
            return stream
        return trio.SSLStream(stream, self.context, server_hostname="127.0.0.1", https_compatible=True)

    def request(self, method: str, path: str, *, body: bytes = b"", **headers: str) -> bytes:
        """A request of the console's own page; underscores in names of headers are hyphens."""
        fields = {"host": self.authority, "sec-fetch-site": "same-origin"}
        if self.cookie:
            fields["cookie"] = self.cookie
        if body:
            fields |= {"content-length": str(len(body)), "content-type": "application/json"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in fields.items() if value]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + body

    async def ask(self, method: str, path: str, *, body: bytes = b"", **headers: str) -> Response:
        headers.setdefault("connection", "close")
        return await self.send(self.request(method, path, body=body, **headers))

    async def send(self, request: bytes) -> Response:
        """Send bytes on a connection of their own; return what is received until its end."""
        async with await self.connect() as stream:
            await stream.send_all(request)
            return Response(*parse_response(await read_all(stream)))

    async def log_in(self, token: str) -> Response:
        """Log in, and send the cookie with what is asked from then on."""
        response = await self.ask("POST", "/session", body=msgspec.json.encode({"token": token}))
        if "set-cookie" in response.headers:
            self.cookie = response.headers["set-cookie"].partition(";")[0]
        return response


@asynccontextmanager
async def open_console(
    headend_port: int,
    *,
    files: Path | None = None,
    tls: ServerTls | None = None,
    context: ssl.SSLContext | None = None,
    headend_context: ssl.SSLContext | None = None,
    headend_host: str = "",
    **options: Any,
) -> AsyncIterator[Console]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    endpoint = Endpoint("127.0.0.1", headend_port, tls=headend_context is not None)
    shutdown, ended = trio.Event(), trio.Event()
    with trio.fail_after(20):
        async with open_headend_client(endpoint, host=headend_host, context=headend_context) as client:
            app = ConsoleApp(client, files=None if files is None else StaticFiles(files))
            serve = partial(serve_rest, app, listeners, shutdown=shutdown, edge=EDGE, tls=tls, **options)

            async def run(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC128  # serve_rest calls it
                await serve(task_status=task_status)
                ended.set()

            async with trio.open_nursery() as nursery:
                await nursery.start(run)
                yield Console(
                    app=app,
                    client=client,
                    port=listeners[0].socket.getsockname()[1],
                    shutdown=shutdown,
                    ended=ended,
                    context=context,
                )
                nursery.cancel_scope.cancel()


@dataclass
class Scripted:
    """A server in the place of a headend."""

    port: int
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def open_scripted(handle: Handler) -> AsyncIterator[Scripted]:
    """Serve each request by `handle`, which gets the connection and the request's bytes."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    scripted = Scripted(listeners[0].socket.getsockname()[1])

    async def serve(stream: trio.SocketStream) -> None:
        scripted.connections += 1
        try:
            while request := await _read_request(stream):
                scripted.requests.append(request)
                await handle(stream, request)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            scripted.connections -= 1

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, serve, listeners))
        yield scripted
        nursery.cancel_scope.cancel()


async def _read_request(stream: trio.SocketStream) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        received = await stream.receive_some()
        if not received:
            return b""
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    length = int(fields.get(b"content-length", b"0"))
    is_chunked = b"transfer-encoding" in fields
    while not body.endswith(b"0\r\n\r\n") if is_chunked else len(body) < length:
        received = await stream.receive_some()
        if not received:
            return b""
        body += received
    return head + b"\r\n\r\n" + body


def answering(status: str = "200 OK", *, body: bytes = b"{}", headers: str = "") -> Handler:
    """A handler that answers every request with this."""

    async def handle(stream: trio.SocketStream, _request: bytes) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        await stream.send_all(head.encode() + body)

    return handle


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await trio.sleep(0.01)
