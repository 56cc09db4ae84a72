"""One request and its response, over ASGI; what is wrong with a request is an `ExchangeError`."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from trioder.api.errors import ErrorCode, error_json

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

_JSON = b"application/json"


class ExchangeError(Exception):
    """A request fails with this HTTP status, and one sentence for people.

    Args:
        status: of the response.
        message: names the value and the rule.
        code: None for that of the status.
        headers: further headers of the response.
    """

    def __init__(
        self, status: int, message: str, *, code: ErrorCode | None = None, headers: Headers = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = list(headers)


class Exchange:
    """A request, and the means to respond to it.

    Args:
        scope: of ASGI.
        receive: likewise.
        send: likewise.

    Attributes:
        method: in capitals.
        path: decoded, without the query.
        raw_path: percent-encoded, as it was sent.
        query: likewise, without the question mark.
        client: the address of the client.
        is_secure: whether it came over TLS.
        status: of the response; 0 before it was begun.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.raw_path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.client: str = scope["client"][0] if scope.get("client") else ""
        self.is_secure: bool = scope["scheme"] == "https"
        self.status = 0
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._receive = receive
        self._send = send

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a header, whose name is in small letters."""
        return [value for header, value in self._headers if header == name]

    def value(self, name: bytes) -> bytes | None:
        """Return the value of a header, several joined by commas; None without one."""
        values = self.values(name)
        return b", ".join(values) if values else None

    @property
    def has_body(self) -> bool:
        """Whether the request says that it has a body."""
        return self.value(b"content-length") not in {None, b"0"} or bool(self.values(b"transfer-encoding"))

    async def receive_part(self) -> bytes | None:
        """Return the next part of the body; None at its end.

        Raises:
            ExchangeError: the client has left before the end, which must not be taken for one.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ExchangeError(400, "the client left amid the body")
        body: bytes = message.get("body", b"")
        return body if body or message.get("more_body") else None

    async def begin(self, status: int, headers: Headers = ()) -> None:
        """Send the head of a response."""
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def send_part(self, part: bytes) -> None:
        """Send a part of the response's body; waits for the client as long as it takes."""
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end(self, part: bytes = b"") -> None:
        """Send the last part of the response's body."""
        await self._send({"type": "http.response.body", "body": part})

    async def respond(self, status: int, headers: Headers = (), body: bytes = b"") -> None:
        """Send a whole response."""
        length = () if status in {204, 304} else ((b"content-length", b"%d" % len(body)),)
        await self.begin(status, (*headers, *length))
        await self.end(body)

    async def respond_json(self, value: Any, *, status: int = 200, headers: Headers = ()) -> None:
        """Send a value as JSON, which is not to be kept by the browser."""
        fixed = ((b"content-type", _JSON), (b"cache-control", b"no-store"))
        await self.respond(status, (*fixed, *headers), msgspec.json.encode(value))

    async def respond_error(self, error: ExchangeError) -> None:
        """Send an error in the form that the headend's have."""
        fixed = ((b"content-type", _JSON), (b"cache-control", b"no-store"))
        body = error_json(error.status, error.message, code=error.code)
        await self.respond(error.status, (*fixed, *error.headers), body)
