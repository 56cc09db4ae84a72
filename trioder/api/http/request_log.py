"""Access log and request metrics, as ASGI middleware.

Outside of Quart, so that crashed requests and disconnected clients are recorded, too.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

import structlog

from trioder.domain.text import shorten

log = structlog.stdlib.get_logger(__name__)

_MAX_PATH_LENGTH = 256
# Key of the ASGI scope: the URL rule that matched, a bounded label for metrics.
ROUTE = "trioder.route"


class Observe(Protocol):
    """Receives finished requests."""

    def __call__(self, *, method: str, route: str, status: int, duration_s: float) -> None:
        """Record a request; status 0 means that the client disconnected before the response."""


class RequestLog:
    """Wraps an ASGI application.

    Attributes:
        clock: monotonic seconds; real time, since a virtual clock does not advance during a request.
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
        """Run a request, then log it, also when it fails or is cancelled."""
        if scope["type"] != "http":
            await self._asgi_app(scope, receive, send)
            return
        started = self._clock()
        status = 0

        async def send_and_record(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._asgi_app(scope, receive, send_and_record)
        finally:
            self._finish(scope, status, self._clock() - started)

    def _finish(self, scope: dict[str, Any], status: int, duration_s: float) -> None:
        method = scope["method"]
        self._observe(method=method, route=scope.get(ROUTE, ""), status=status, duration_s=duration_s)
        # The raw path is percent-encoded ASCII: it contains no line breaks.
        path = scope.get("raw_path", b"").decode("ascii", "backslashreplace")
        client = scope.get("client")
        log.info(
            "request",
            method=method,
            path=shorten(path, _MAX_PATH_LENGTH),
            status=status or "client left",
            duration_ms=round(duration_s * 1000, 1),
            peer=f"{client[0]}:{client[1]}" if client else "",
        )
