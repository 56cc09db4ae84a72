"""As much of an HTTP/1.1 client as a benchmark needs: connections that are kept, answers with a length.

A client that does more would take the CPU time that is measured.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import Any

import trio

from scripts.benchmarks.command import BenchmarkError
from trioder.process.addresses import Address

_READ_BYTES = 65536
_END_OF_HEADERS = b"\r\n\r\n"


Dial = Callable[[], Awaitable[trio.abc.Stream]]


class HttpConnection:
    """One kept connection, for one request at a time; made anew once the server has ended it in order."""

    def __init__(self, dial: Dial, authority: str) -> None:
        self._dial = dial
        self._authority = authority
        self._stream: trio.abc.Stream | None = None

    async def aclose(self) -> None:
        """Close it, if it stands."""
        if self._stream is not None:
            await self._stream.aclose()
            self._stream = None

    async def stand(self) -> trio.abc.Stream:
        """Connect, unless it stands already."""
        if self._stream is None:
            self._stream = await self._dial()
        return self._stream

    def request_bytes(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """Return a request as it goes over the wire."""
        head = f"{method} {path} HTTP/1.1\r\nhost: {self._authority}\r\n"
        if body is None:
            return f"{head}\r\n".encode()
        content = json.dumps(body).encode()
        head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        return head.encode() + content

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return the status and the body of its answer, all of which has come.

        Raises:
            BenchmarkError: the connection ends, or the answer tells no length.
        """
        try:
            return await self._exchange(request)
        except trio.BrokenResourceError as error:
            raise BenchmarkError(f"a connection to {self._authority} broke: {error}") from None

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return what is answered with 200, from JSON.

        Raises:
            BenchmarkError: as of `exchange`, or the status is another one.
        """
        status, content = await self.exchange(self.request_bytes(method, path, body))
        if status != 200:
            raise BenchmarkError(f"{method} {path}: {status}: {content.decode(errors='replace')}")
        return json.loads(content)

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        stream = await self.stand()
        await stream.send_all(request)
        received = b""
        while (at := received.find(_END_OF_HEADERS)) < 0:
            received += await self._more(stream)
        head = received[:at].lower()
        _, found, rest = head.partition(b"\r\ncontent-length: ")
        if not found:
            raise BenchmarkError(f"an answer came without its length: {head.decode(errors='replace')}")
        end = at + len(_END_OF_HEADERS) + int(rest.partition(b"\r\n")[0])
        while len(received) < end:
            received += await self._more(stream)
        if b"\r\nconnection: close" in head:
            # As hypercorn does after a thousand answers.
            await self.aclose()
        return int(head[9:12]), received[at + len(_END_OF_HEADERS) : end]

    async def _more(self, stream: trio.abc.Stream) -> bytes:
        some = bytes(await stream.receive_some(_READ_BYTES))
        if not some:
            raise BenchmarkError(f"{self._authority} closed a connection before it had answered")
        return some


@asynccontextmanager
async def open_http(address: Address) -> AsyncIterator[HttpConnection]:
    """Open a connection that stands."""
    connection = HttpConnection(partial(trio.open_tcp_stream, address.host, address.port), str(address))
    async with aclosing(connection):
        await connection.stand()
        yield connection


class HttpPool:
    """As many connections as there are requests at once: none waits for the answer to another."""

    def __init__(self, address: Address, stack: AsyncExitStack) -> None:
        self._address = address
        self._stack = stack
        self._idle: list[HttpConnection] = []

    async def take(self) -> HttpConnection:
        """Return a connection that nobody uses."""
        if self._idle:
            return self._idle.pop()
        return await self._stack.enter_async_context(open_http(self._address))

    def give_back(self, connection: HttpConnection) -> None:
        """It is used no longer, and all that was asked on it has been answered."""
        self._idle.append(connection)


@asynccontextmanager
async def open_pool(address: Address, *, at_first: int) -> AsyncIterator[HttpPool]:
    """Open a pool with some connections that stand."""
    async with AsyncExitStack() as stack:
        pool = HttpPool(address, stack)
        for connection in [await pool.take() for _ in range(at_first)]:
            pool.give_back(connection)
        yield pool
