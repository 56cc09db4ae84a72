"""A TCP proxy before a server, that cuts and freezes when a test says so."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Proxy:
    """Forwards, until switched off.

    Attributes:
        url: leads through it.
        cut_after_next_commit: the next COMMIT reaches the server, its answer nobody.
    """

    def __init__(self, url: str, port: int, server_port: int) -> None:
        self.url = re.sub(r":\d+/", f":{port}/", url, count=1) + "&sslmode=disable"
        self.server_port = server_port
        self.cut_after_next_commit = False
        self.cuts = 0
        self.frozen = False
        self._cutting = False
        self._thawed = trio.Event()

    def thaw(self) -> None:
        self.frozen = False
        self._thawed.set()
        self._thawed = trio.Event()

    async def serve(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.server_port)
            async with server, trio.open_nursery() as nursery:
                nursery.start_soon(self._forward, client, server, nursery, True)
                nursery.start_soon(self._forward, server, client, nursery, False)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass

    async def _forward(
        self, source: trio.SocketStream, sink: trio.SocketStream, nursery: trio.Nursery, to_server: bool
    ) -> None:
        async for data in source:
            while self.frozen:
                await self._thawed.wait()
            if not to_server and self._cutting:
                # The server has committed, for it answers; the answer goes nowhere.
                self._cutting = False
                self.cuts += 1
                break
            if to_server and self.cut_after_next_commit and b"COMMIT" in data:
                self.cut_after_next_commit = False
                self._cutting = True
            await sink.send_all(data)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_proxy(url: str) -> AsyncIterator[Proxy]:
    server_port = int(re.search(r":(\d+)/", url)[1])
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        proxy = Proxy(url, listeners[0].socket.getsockname()[1], server_port)
        await nursery.start(trio.serve_listeners, proxy.serve, listeners)
        yield proxy
        nursery.cancel_scope.cancel()
