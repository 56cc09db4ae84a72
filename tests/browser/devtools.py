"""A connection to a browser over the Chrome DevTools Protocol, on Trio.

It calls methods and dispatches events; what they mean is left to others.
https://chromedevtools.github.io/devtools-protocol/
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, connect_websocket_url

from trioder.process.nurseries import open_background_nursery

# A screenshot is one message.
_LARGEST_MESSAGE = 256 * 1024 * 1024
_CLOSE_WITHIN_S = 2.0

# Gets the parameters of an event, synchronously, in the order in which events arrive.
EventHandler = Callable[[dict[str, Any]], None]


class DevToolsError(Exception):
    """The browser refused a method, or the connection has ended."""


@dataclass(slots=True, kw_only=True)
class _Call:
    method: str
    done: trio.Event = field(default_factory=trio.Event)
    result: dict[str, Any] | None = None
    error: str = "the connection to the browser has ended"


class DevToolsConnection:
    """Methods and events of one browser; a session is a page or a worker, and "" the browser itself."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self._numbers = count(1)
        self._calls: dict[int, _Call] = {}
        self._handlers: dict[tuple[str, str], list[EventHandler]] = {}

    async def send(self, method: str, *, session: str = "", **params: Any) -> dict[str, Any]:
        """Call a method and return its result.

        Raises:
            DevToolsError: the browser refused it, or has gone.
        """
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        call = self._calls[number] = _Call(method=method)
        try:
            await self._socket.send_message(json.dumps(message))
            await call.done.wait()
        except ConnectionClosed:
            raise DevToolsError(f"{method}: {call.error}") from None
        finally:
            del self._calls[number]
        if call.result is None:
            raise DevToolsError(f"{method}: {call.error}")
        return call.result

    def on(self, event: str, handler: EventHandler, *, session: str = "") -> None:
        """Call the handler with each event of this name, in addition to those that there are."""
        self._handlers.setdefault((session, event), []).append(handler)

    async def run(self) -> None:
        """Receive until the connection ends; calls that wait then fail."""
        try:
            while True:
                self._dispatch(json.loads(await self._socket.get_message()))
        except ConnectionClosed:
            pass
        finally:
            for call in self._calls.values():
                call.done.set()

    def _dispatch(self, message: dict[str, Any]) -> None:
        if "id" not in message:
            for handler in self._handlers.get((message.get("sessionId", ""), message["method"]), ()):
                handler(message["params"])
        elif call := self._calls.get(message["id"]):
            if "error" in message:
                error = message["error"]
                call.error = f"{error['message']} {error.get('data', '')}".rstrip()
            else:
                call.result = message["result"]
            call.done.set()


@asynccontextmanager
async def open_devtools(url: str) -> AsyncIterator[DevToolsConnection]:
    """Connect to the browser's DevTools at a ws:// address."""
    async with open_background_nursery() as nursery:
        socket = await connect_websocket_url(nursery, url, max_message_size=_LARGEST_MESSAGE)
        connection = DevToolsConnection(socket)
        nursery.start_soon(connection.run)
        try:
            yield connection
        finally:
            with trio.move_on_after(_CLOSE_WITHIN_S, shield=True):
                await socket.aclose()
