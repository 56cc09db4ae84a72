"""Header fields of requests and responses: validation, and what they mean for the call.

h2 3.2 accepts header fields that later versions refuse (published advisories), and ends the whole
connection over others. Its checks are off; these replace them.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from trioder.rpc.status import RpcError, StatusCode

Metadata = Sequence[tuple[str, str]]

_NAME = re.compile(r"[0-9a-z!#$%&'*+.^_`|~-]+")
_NOT_IN_VALUES = re.compile(r"[\x00\r\n]|^[ \t]|[ \t]$")
_OF_HTTP_1 = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})
_REQUEST_PSEUDO = frozenset({":method", ":scheme", ":path", ":authority"})
_RESPONSE_PSEUDO = frozenset({":status"})
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

# https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
_STATUS_OF_HTTP = {
    "400": StatusCode.INTERNAL,
    "401": StatusCode.UNAUTHENTICATED,
    "403": StatusCode.PERMISSION_DENIED,
    "404": StatusCode.UNIMPLEMENTED,
    "429": StatusCode.UNAVAILABLE,
    "502": StatusCode.UNAVAILABLE,
    "503": StatusCode.UNAVAILABLE,
    "504": StatusCode.UNAVAILABLE,
}


class MalformedHeadersError(Exception):
    """The fields break HTTP/2 itself: the stream is reset, without a status."""


class NotGrpcError(Exception):
    """A well-formed HTTP request that is not gRPC; the response is an HTTP status."""

    def __init__(self, http_status: str) -> None:
        super().__init__(http_status)
        self.http_status = http_status


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """A request's header fields, validated."""

    path: str
    metadata: Metadata
    timeout_s: float | None


def read_request(fields: Iterable[tuple[str, str]]) -> RequestHead:
    """Validate a request's header fields.

    Raises:
        MalformedHeadersError: a field that HTTP/2 forbids, or a pseudo-header missing or repeated.
        NotGrpcError: not a gRPC request.
        RpcError: a gRPC request that asks for what is not supported.
    """
    pseudo, regular = _checked(fields, _REQUEST_PSEUDO)
    if not {":method", ":scheme", ":path"} <= pseudo.keys():
        raise MalformedHeadersError("a pseudo-header is missing")
    named = dict(regular)
    if "host" in named and named["host"] != pseudo.get(":authority", named["host"]):
        raise MalformedHeadersError("'host' and ':authority' differ")
    if pseudo[":method"] != "POST":
        raise NotGrpcError("405")
    if not re.match(r"application/grpc(\+proto)?(;|$)", named.get("content-type", "")):
        raise NotGrpcError("415")
    return RequestHead(
        path=pseudo[":path"], metadata=tuple(regular), timeout_s=_read_timeout_s(named.get("grpc-timeout"))
    )


def read_response(fields: Iterable[tuple[str, str]]) -> RpcError | None:
    """Validate a response's header fields; return the error that they alone mean, if any.

    Raises:
        MalformedHeadersError: a field that HTTP/2 forbids, or no status.
    """
    pseudo, regular = _checked(fields, _RESPONSE_PSEUDO)
    if ":status" not in pseudo:
        raise MalformedHeadersError("':status' is missing")
    named = dict(regular)
    if "grpc-status" in named:
        return None
    http_status = pseudo[":status"]
    if http_status != "200":
        status = _STATUS_OF_HTTP.get(http_status, StatusCode.UNKNOWN)
        return RpcError(status, f"the peer answered HTTP status {http_status}")
    if not named.get("content-type", "").startswith("application/grpc"):
        return RpcError(StatusCode.UNKNOWN, f"the peer answered {named.get('content-type')!r}, not gRPC")
    return None


def read_trailers(fields: Iterable[tuple[str, str]]) -> RpcError | None:
    """Return how the call ended: None for OK.

    Raises:
        MalformedHeadersError: a field that HTTP/2 forbids.
    """
    named = dict(_checked(fields, _RESPONSE_PSEUDO)[1])
    text = named.get("grpc-status", "")
    if not text.isascii() or not text.isdigit():
        return RpcError(StatusCode.UNKNOWN, f"the peer ended the call with status {text!r}")
    message = unquote(named.get("grpc-message", ""), errors="replace")
    try:
        status = StatusCode(int(text))
    except ValueError:
        return RpcError(StatusCode.UNKNOWN, message or f"the peer ended the call with status {text}")
    return None if status is StatusCode.OK else RpcError(status, message)


def encode_timeout(timeout_s: float) -> str:
    """Return a grpc-timeout: at most 8 digits, in the finest unit that fits."""
    timeout_s = min(timeout_s, 99_999_999.0)
    for unit, factor in (("u", 1e6), ("m", 1e3)):
        if (count := round(timeout_s * factor)) < 10**8:
            return f"{max(count, 0)}{unit}"
    return f"{round(timeout_s)}S"


def checked_metadata(metadata: Metadata) -> Metadata:
    """Return a caller's metadata, if it can be sent.

    Raises:
        ValueError: a name or value that cannot.
    """
    for name, value in metadata:
        if not _NAME.fullmatch(name) or name.startswith("grpc-") or name in _OF_HTTP_1:
            raise ValueError(f"{name!r} cannot name metadata")
        if not value.isascii() or not value.isprintable() or value != value.strip():
            raise ValueError(f"{name!r} is {value!r}; metadata must be printable ASCII without outer spaces")
    return metadata


def _checked(
    fields: Iterable[tuple[str, str]], allowed_pseudo: frozenset[str]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return pseudo-headers and other fields, by the rules of RFC 9113, section 8."""
    pseudo: dict[str, str] = {}
    regular: list[tuple[str, str]] = []
    for name, value in fields:
        if _NOT_IN_VALUES.search(value):
            raise MalformedHeadersError(f"{name!r} has a line break, a NUL or outer spaces")
        if name.startswith(":"):
            if regular or name in pseudo or name not in allowed_pseudo:
                raise MalformedHeadersError(f"{name!r} is unknown, repeated or late")
            pseudo[name] = value
        elif not _NAME.fullmatch(name):
            raise MalformedHeadersError(f"{name!r} is not a field name")
        elif name in _OF_HTTP_1 or (name == "te" and value != "trailers"):
            raise MalformedHeadersError(f"{name!r} is of HTTP/1.1")
        else:
            regular.append((name, value))
    return pseudo, regular


def _read_timeout_s(text: str | None) -> float | None:
    if text is None:
        return None
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise RpcError(StatusCode.INTERNAL, f"grpc-timeout is {text!r}; it must be 1 to 8 digits and a unit")
    return int(match[1]) * _SECONDS[match[2]]
