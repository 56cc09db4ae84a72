"""One request and the meaning of its response, without any I/O."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote
from uuid import uuid4

import msgspec

from trioder.client.errors import (
    Conflict,
    Forbidden,
    HeadendError,
    HeadendUnavailable,
    NotFound,
    RequestRefused,
    TooManyRequests,
    Unauthorized,
    UnexpectedResponse,
)
from trioder.process.rfc3339 import format_ms

T = TypeVar("T")
Row = TypeVar("Row")

Method = Literal["GET", "POST", "PUT", "DELETE"]
# A time: with a time zone, or RFC 3339 text.
Time = datetime | str
Value = str | float | bool | Iterable[str] | None

LINES = "application/x-ndjson"
EVENTS = "text/event-stream"

_KEY = "Idempotency-Key"
# Statuses of a headend that is starting, stopping or busy, and of proxies that do not reach it.
_UNAVAILABLE = frozenset({408, 502, 503, 504})
_REFUSALS: Mapping[int, type[RequestRefused]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MAX_QUOTED = 200
_NAME = re.compile(r"[a-z_]\w*")
# Of a URL's path they are no names: they are removed, with their neighbours.
_NO_SEGMENTS = frozenset({"", ".", ".."})
_SECONDS = re.compile(r"[0-9]{1,9}")


class _ErrorBody(msgspec.Struct):
    error: str
    message: str


_error_decoder = msgspec.json.Decoder(_ErrorBody)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[T]):
    """A request, and how its response is decoded.

    Attributes:
        method: of HTTP.
        route: as `/openapi.json` has it, such as `/assets/{asset_id}`.
        path: the route with its values, percent-encoded.
        query: the parameters, in order.
        content: the body, JSON; None without one.
        headers: beyond those of every request.
        read: returns what a successful response's body means.
        repeatable: whether sending it twice does no more than sending it once.
        statuses: of success.
    """

    method: Method
    route: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    read: Callable[[bytes], T]
    repeatable: bool
    statuses: frozenset[int] = frozenset({200})

    def result(self, status: int, headers: Mapping[str, str], body: bytes) -> T:
        """Return what the response means.

        Raises:
            HeadendError: it is not a success.
        """
        if status not in self.statuses:
            raise self.failure(status, headers, body)
        try:
            return self.read(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            if status in _UNAVAILABLE:
                raise self.failure(status, headers, body) from None
            raise self.unreadable(error, body, status=status) from error

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> HeadendError:
        """Return the error that a response without success means."""
        try:
            error = _error_decoder.decode(body)
        except msgspec.MsgspecError:
            if status in _UNAVAILABLE:
                return self._unavailable(f"the response is {status}", status, headers)
            return self._unexpected(status, _quoted(body))
        if status in _UNAVAILABLE:
            return self._unavailable(error.message, status, headers)
        if not 400 <= status < 500:
            return self._unexpected(status, error.message)
        named = self._field_in(error.message)
        if status == 429:
            return TooManyRequests(
                error.message,
                status=status,
                code=error.error,
                field=named,
                retry_after_s=_retry_after_s(headers),
            )
        refusal = _REFUSALS.get(status, RequestRefused)
        return refusal(error.message, status=status, code=error.error, field=named)

    def cut_off(self, url: str, error: Exception) -> HeadendUnavailable:
        """Return the error of a request that got no response, or not all of it."""
        return HeadendUnavailable(f"{self.method} {url}: {type(error).__name__}{_text_of(error)}")

    def unreadable(self, error: Exception, body: bytes, *, status: int = 200) -> UnexpectedResponse:
        """Return the error of a body that does not fit."""
        return self._unexpected(status, f"{error}: {_quoted(body)}")

    def _unavailable(self, message: str, status: int, headers: Mapping[str, str]) -> HeadendUnavailable:
        return HeadendUnavailable(message, status=status, retry_after_s=_retry_after_s(headers))

    def _unexpected(self, status: int, what: str) -> UnexpectedResponse:
        return UnexpectedResponse(
            f"the response to {self.method} {self.path} is {status}: {what}", status=status
        )

    def _field_in(self, message: str) -> str | None:
        names = {name for name, _ in self.query}
        if self.content is not None:
            names.update(msgspec.json.decode(self.content))
        return next((name for name in _NAME.findall(message) if name in names), None)


def operation(
    method: Method,
    route: str,
    read: Callable[[bytes], T],
    *,
    ids: Mapping[str, str | None] | None = None,
    query: Mapping[str, Value] | None = None,
    body: msgspec.Struct | None = None,
    accept: str = "application/json",
    headers: Mapping[str, str] | None = None,
    key: str | None = None,
    statuses: Iterable[int] = (200,),
) -> Operation[T]:
    """Return a request.

    Args:
        method: of HTTP. GET is repeatable, others are with a `key` only.
        route: with the names of `ids` in braces.
        read: see `Operation`.
        ids: the values in the path.
        query: parameters; those that are None are left out, lists are repeated.
        body: its fields that are None are left out.
        accept: the type of the response.
        headers: further ones.
        key: the Idempotency-Key.
        statuses: of success.

    Raises:
        ValueError: an id is missing, or cannot be one.
    """
    sent = {"Accept": accept, **(headers or {})}
    if key is not None:
        sent[_KEY] = key
    content = None
    if body is not None:
        fields = msgspec.structs.asdict(body)
        content = msgspec.json.encode({name: each for name, each in fields.items() if each is not None})
        sent["Content-Type"] = "application/json"
    return Operation(
        method=method,
        route=route,
        path=route.format_map({name: _segment(name, value) for name, value in (ids or {}).items()}),
        query=tuple(_parameters(query or {})),
        content=content,
        headers=sent,
        read=read,
        repeatable=method == "GET" or key is not None,
        statuses=frozenset(statuses),
    )


def reader(of: Any) -> Callable[[bytes], Any]:
    """Return a decoder of JSON of this type."""
    return msgspec.json.Decoder(of).decode


def new_key() -> str:
    """Return an Idempotency-Key that nobody has used."""
    return str(uuid4())


def time_text(name: str, time: Time | None) -> str | None:
    """Return RFC 3339 text, to the millisecond.

    Raises:
        ValueError: the time has no time zone.
    """
    if not isinstance(time, datetime):
        return time
    if time.tzinfo is None:
        raise ValueError(f"{name} is {time.isoformat()}; it must have a time zone")
    return format_ms((time - _EPOCH) // _MILLISECOND)


def _parameters(query: Mapping[str, Value]) -> Iterable[tuple[str, str]]:
    for name, value in query.items():
        match value:
            case None:
                continue
            case bool():
                yield name, "true" if value else "false"
            case str() | int() | float():
                yield name, str(value)
            case _:
                yield from ((name, each) for each in value)


def _segment(name: str, value: str | None) -> str:
    if value is None:
        raise ValueError(f"{name} is None, as in the response to a dry run; it must be an id")
    if value in _NO_SEGMENTS:
        raise ValueError(f"{name} is {value!r}, which would lead to another path; it must be an id")
    return quote(value, safe="")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    return float(text) if _SECONDS.fullmatch(text) else None


def _text_of(error: BaseException) -> str:
    # Under Trio, that of a TLS handshake is in the cause of the cause.
    reason: BaseException | None = error
    while reason is not None and not str(reason):
        reason = reason.__cause__ or reason.__context__
    return "" if reason is None else f": {reason}"


def _quoted(body: bytes) -> str:
    text = body[:_MAX_QUOTED].decode(errors="replace")
    return repr(text if len(body) <= _MAX_QUOTED else f"{text}...")
