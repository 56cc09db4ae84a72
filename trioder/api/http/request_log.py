"""The line that every request leaves in the log, and its place in the request metrics.

It stands outside of Quart, so that it also sees the requests that crash and the clients that go away.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

import structlog

log = structlog.stdlib.get_logger(__name__)

_MAX_PATH_CHARACTERS = 256
# The key of the ASGI scope under which Quart leaves the rule that matched: what metrics may label by.
ROUTE = "trioder.route"


class Observe(Protocol):
    """Whoever wants to know of finished requests."""

    def __call__(self, *, method: str, route: str, status: int, duration_s: float) -> None:
        """Note one; status 0 stands for a client that left before its answer."""


class RequestLog:
    """Wraps an ASGI application.

    Attributes:
        clock: seconds, growing. Requests take real time even where a test's clock does not move.
    """

    def __init__(
        self, asgi_app: Callable[..., Any], observe: Observe, *, clock: Callable[[], float] = perf_counter
    ):
        self._asgi_app = asgi_app
        self._observe = observe
        self._clock = clock

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        """Run one request and log it, however it ends."""
        if scope["type"] != "http":
            await self._asgi_app(scope, receive, send)
            return
        started = self._clock()
        status = 0

        async def send_and_note(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._asgi_app(scope, receive, send_and_note)
        finally:
            self._finish(scope, status, self._clock() - started)

    def _finish(self, scope: dict[str, Any], status: int, duration_s: float) -> None:
        method = scope["method"]
        self._observe(method=method, route=scope.get(ROUTE, ""), status=status, duration_s=duration_s)
        # The raw path is percent-encoded ASCII: nothing in it can break the line.
        path = scope.get("raw_path", b"").decode("ascii", "backslashreplace")
        client = scope.get("client")
        log.info(
            "request",
            method=method,
            path=path if len(path) <= _MAX_PATH_CHARACTERS else path[: _MAX_PATH_CHARACTERS - 3] + "...",
            status=status or "client left",
            duration_ms=round(duration_s * 1000, 1),
            peer=f"{client[0]}:{client[1]}" if client else "",
        )
