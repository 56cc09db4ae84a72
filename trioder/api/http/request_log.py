"""Request ids, request metrics and the request log's entries, as ASGI middleware.

Outside of Quart, so that crashed requests and disconnected clients are recorded, too.
"""

import re
from collections.abc import Callable, Iterable
from os import urandom
from time import perf_counter
from typing import Any, Protocol

from trioder.api.http.access_log import AccessLog

# Keys of the ASGI scope: the URL rule that matched, a bounded label for metrics; ...
ROUTE = "trioder.route"
# ... the id of the request; the name of its principal, where there is one; ...
REQUEST_ID = "trioder.request_id"
PRINCIPAL_NAME = "trioder.principal_name"
# ... and what is to be called when the request has ended, however it does.
AT_END = "trioder.at_end"

_REQUEST_ID_HEADER = b"x-request-id"
# Of clients: nothing that a log or a table would have to escape.
_REQUEST_ID_RULE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


class Observe(Protocol):
    """Receives finished requests."""

    def __call__(self, *, method: str, route: str, status: int, duration_s: float) -> None:
        """Record a request; status 0 means that the client disconnected before the response."""


class CutOffError(Exception):
    """A streamed response cannot be completed, for a reason that was logged; see `RequestLog`."""


class RequestLog:
    """Wraps an ASGI application.

    A response of which a `CutOffError` is raised ends without its last chunk, and with it the connection.

    Args:
        asgi_app: the application.
        observe: receives every request.
        access_log: gets every request; by default one that writes at once.
        clock: monotonic seconds; real time, since a virtual clock does not advance during a request.
    """

    def __init__(
        self,
        asgi_app: Callable[..., Any],
        observe: Observe,
        *,
        access_log: AccessLog | None = None,
        clock: Callable[[], float] = perf_counter,
    ):
        self._asgi_app = asgi_app
        self._observe = observe
        self._access_log = access_log or AccessLog()
        self.clock = clock

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        """Run a request, then log it, also when it fails or is cancelled."""
        if scope["type"] != "http":
            await self._asgi_app(scope, receive, send)
            return
        started = self.clock()
        status = 0
        request_id = scope[REQUEST_ID] = request_id_of(scope["headers"])

        async def send_and_record(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (_REQUEST_ID_HEADER, request_id.encode())]
            await send(message)

        try:
            await self._asgi_app(scope, receive, send_and_record)
        except* CutOffError:
            pass
        finally:
            self._finish(scope, status, self.clock() - started)

    def _finish(self, scope: dict[str, Any], status: int, duration_s: float) -> None:
        if AT_END in scope:
            scope[AT_END]()
        self.record(
            method=scope["method"],
            route=scope.get(ROUTE, ""),
            raw_path=scope.get("raw_path", b""),
            status=status,
            duration_s=duration_s,
            client=scope.get("client"),
            request_id=scope[REQUEST_ID],
            principal=scope.get(PRINCIPAL_NAME),
        )

    def record(
        self,
        *,
        method: str,
        route: str,
        raw_path: bytes,
        status: int,
        duration_s: float,
        client: tuple[str, int] | None,
        request_id: str,
        principal: str | None,
    ) -> None:
        """Record a request that has ended: its metrics, and its line in the log.

        Args as of `AccessLog.add`, and:
            route: the URL rule that matched; empty without one.
        """
        self._observe(method=method, route=route, status=status, duration_s=duration_s)
        self._access_log.add(
            method=method,
            raw_path=raw_path,
            status=status,
            duration_s=duration_s,
            client=client,
            request_id=request_id,
            principal=principal,
        )


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the client's, so that it can be followed through a chain of services, or a new one."""
    for name, value in headers:
        if name == _REQUEST_ID_HEADER and _REQUEST_ID_RULE.fullmatch(value):
            return value.decode()
    return urandom(16).hex()
