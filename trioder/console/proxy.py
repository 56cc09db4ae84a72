"""`/api/...`: passes a request on to the headend with the session's token, and its response back as it comes.

Only the headers that are named here cross, in either direction.
"""

from typing import Final

import trio

from trioder.api.http.request_log import REQUEST_ID
from trioder.console.exchange import Exchange, ExchangeError
from trioder.console.headend import HeadendClient, HeadendResponse, RequestBody
from trioder.console.sessions import Sessions
from trioder.domain.text import preview

_PREFIX: Final = b"/api"
_FEED: Final = b"/stream"
_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_REQUEST_HEADERS: Final = (
    b"accept",
    b"accept-encoding",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"idempotency-key",
    b"if-match",
    b"if-none-match",
    b"last-event-id",
    b"transfer-encoding",
)
_RESPONSE_HEADERS: Final = frozenset(
    {
        b"allow",
        b"cache-control",
        b"content-disposition",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"etag",
        b"last-modified",
        b"link",
        b"location",
        b"retry-after",
        b"vary",
        b"x-accel-buffering",
    }
)
# As the headend's.
_MAX_BODY_BYTES: Final = 1_000_000
_BODY_WITHIN_S: Final = 10.0


class Proxy:
    """Passes requests on.

    Args:
        headend: to which.
        sessions: know the token of a request.
    """

    def __init__(self, headend: HeadendClient, sessions: Sessions) -> None:
        self._headend = headend
        self._sessions = sessions
        # Those that wait for the headend.
        self._feeds: set[trio.CancelScope] = set()
        self._is_closing = False

    async def serve(self, exchange: Exchange) -> None:
        """Respond with what the headend responds.

        Raises:
            ExchangeError: 405, 408, 413; 502: the headend does not respond.
            CutOffError: it broke off amid the response.
        """
        if exchange.method not in _METHODS:
            raise ExchangeError(
                405,
                f"{preview(exchange.method)} is not allowed at {preview(exchange.path)}",
                headers=[(b"allow", ", ".join(_METHODS).encode())],
            )
        target = exchange.raw_path[len(_PREFIX) :]
        if exchange.query:
            target += b"?" + exchange.query
        headers = [(name, value) for name in _REQUEST_HEADERS if (value := exchange.value(name)) is not None]
        headers.append((b"x-request-id", exchange.scope[REQUEST_ID].encode()))
        token = self._sessions.token_of(exchange)
        if token is not None:
            headers.append((b"authorization", b"Bearer " + token))
        body = None
        if exchange.has_body:
            body = _PassedBody(exchange)
        elif exchange.method in {"PATCH", "POST", "PUT"}:
            headers = [header for header in headers if header[0] != b"content-length"]
            headers.append((b"content-length", b"0"))
        if self._is_closing and target.startswith(_FEED):
            raise ExchangeError(503, "the console is stopping", headers=[(b"retry-after", b"5")])
        async with self._headend.request(exchange.method, target, headers, body) as response:
            passed = _passed_headers(response)
            if response.status == 401 and token is not None:
                # A token that has ended would be asked for with each request of the page.
                passed += self._sessions.clearing_headers(exchange)
            await exchange.begin(response.status, passed)
            if _is_feed(response):
                await self._pass_feed(exchange, response)
            else:
                while (part := await response.receive_part()) is not None:
                    await exchange.send_part(part)
            await exchange.end()

    def end_feeds(self) -> None:
        """End the feeds, and let no further one begin: the console stops."""
        self._is_closing = True
        for scope in self._feeds:
            scope.cancel()

    async def _pass_feed(self, exchange: Exchange, response: HeadendResponse) -> None:
        while not self._is_closing:
            # Only while it waits for the headend: a chunk that is sent in part cannot be followed by an end.
            with trio.CancelScope() as waiting:
                self._feeds.add(waiting)
                try:
                    part = await response.receive_part()
                finally:
                    self._feeds.discard(waiting)
            if waiting.cancelled_caught or part is None:
                return
            await exchange.send_part(part)


class _PassedBody(RequestBody):
    """The body of a request, bounded in size and time."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._received = 0
        self._deadline_s = trio.current_time() + _BODY_WITHIN_S
        stated = exchange.value(b"content-length")
        if stated is not None and int(stated) > _MAX_BODY_BYTES:
            raise _too_large()

    async def __anext__(self) -> bytes:
        with trio.move_on_at(self._deadline_s) as scope:
            part = await self._exchange.receive_part()
        if scope.cancelled_caught:
            raise ExchangeError(408, f"the body did not arrive within {_BODY_WITHIN_S:g} s")
        if part is None:
            raise StopAsyncIteration
        self._received += len(part)
        if self._received > _MAX_BODY_BYTES:
            raise _too_large()
        return part


def _too_large() -> ExchangeError:
    return ExchangeError(413, f"the body is larger than {_MAX_BODY_BYTES} bytes")


def _is_feed(response: HeadendResponse) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"text/event-stream") for name, value in response.headers
    )


def _passed_headers(response: HeadendResponse) -> list[tuple[bytes, bytes]]:
    passed = [(name, value) for name, value in response.headers if name in _RESPONSE_HEADERS]
    # Who asks is in the cookie here.
    passed = [
        (name, value.replace(b"Authorization", b"Cookie") if name == b"vary" else value)
        for name, value in passed
    ]
    if not any(name == b"cache-control" for name, _ in passed):
        passed.append((b"cache-control", b"private, no-cache"))
    return passed
