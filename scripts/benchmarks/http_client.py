"""As much of an HTTP/1.1 client as a benchmark needs: kept connections, responses with a content-length.

A client that does more would take the CPU time that is measured.
"""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from scripts.benchmarks.benchmark import BenchmarkError
from trioder.process.addresses import Address

_READ_BYTES = 65536


class HttpConnection:
    """One kept connection, for one request at a time; dialled again once the server closed it."""

    def __init__(self, dial: Callable[[], Awaitable[trio.abc.Stream]], authority: str) -> None:
        self._dial = dial
        self._authority = authority
        self.stream: trio.abc.Stream | None = None

    def request_bytes(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """Return a request as it is sent."""
        head = f"{method} {path} HTTP/1.1\r\nhost: {self._authority}\r\n"
        if body is None:
            return f"{head}\r\n".encode()
        content = json.dumps(body).encode()
        head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        return head.encode() + content

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return a JSON response; raises as `exchange` does."""
        return json.loads(await self.exchange(self.request_bytes(method, path, body)))

    async def ask_until(
        self, path: str, holds: Callable[[Any], bool], *, within_s: float, every_s: float
    ) -> float:
        """GET a path until its response `holds`; return when that was requested, by `time.monotonic`."""
        with trio.move_on_after(within_s):
            while True:
                asked_s = time.monotonic()
                if holds(await self.ask("GET", path)):
                    return asked_s
                await trio.sleep(every_s)
        raise BenchmarkError(f"GET {path} did not show what was expected within {within_s:g} s")

    async def exchange(self, request: bytes) -> bytes:
        """Send a request and return the body of its response, once it is complete.

        It is an error if the connection ends, the status is not 200, or there is no content-length.
        """
        self.stream = stream = self.stream or await self._dial()
        try:
            await stream.send_all(request)
            received = b""
            while not (parts := received.partition(b"\r\n\r\n"))[1]:
                received += await self._more(stream)
            head, body = parts[0].lower(), parts[2]
            _, found, rest = head.partition(b"\r\ncontent-length: ")
            if not found:
                raise BenchmarkError(f"a response has no content-length: {head.decode(errors='replace')}")
            length = int(rest.partition(b"\r\n")[0])
            while len(body) < length:
                body += await self._more(stream)
        except trio.BrokenResourceError as error:
            raise BenchmarkError(f"a connection to {self._authority} broke: {error}") from None
        if b"\r\nconnection: close" in head:
            # As hypercorn does after a thousand responses.
            self.stream = None
            await stream.aclose()
        if (status := head[9:12]) != b"200":
            line = request.partition(b" HTTP/")[0].decode()
            raise BenchmarkError(f"{line}: {status.decode()}: {body.decode(errors='replace')}")
        return body

    async def _more(self, stream: trio.abc.Stream) -> bytes:
        some = bytes(await stream.receive_some(_READ_BYTES))
        if not some:
            raise BenchmarkError(f"{self._authority} closed a connection before its response was complete")
        return some


@asynccontextmanager
async def open_http(address: Address) -> AsyncIterator[HttpConnection]:
    """Open a connection."""
    dial = partial(trio.open_tcp_stream, address.host, address.port)
    connection = HttpConnection(dial, str(address))
    connection.stream = await dial()
    try:
        yield connection
    finally:
        if connection.stream is not None:
            await connection.stream.aclose()
