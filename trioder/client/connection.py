"""How a client reaches a headend: address, token, TLS, and the settings of the transport."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

import trioder
from trioder.client.operation import Operation

TOKEN_VARIABLE = "TRIODER_TOKEN"  # noqa: S105  # its name

# Of the transport, for each connection and each read or write; not of a whole request. A dispatch may wait
# 30 s for acknowledgements.
TIMEOUTS = httpx2.Timeout(connect=10.0, read=60.0, write=10.0, pool=None)
# At least one event comes in 2 s.
FEED_TIMEOUTS = httpx2.Timeout(connect=5.0, read=5.0, write=5.0, pool=None)
# Feeds and streamed lists hold one each.
LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where requests go, and what all of them have.

    Attributes:
        url: of the headend.
        headers: of every request.
        verify: the authorities that its certificate may be of.
        timeouts: of the transport.
    """

    url: httpx2.URL
    headers: dict[str, str]
    verify: ssl.SSLContext | bool
    timeouts: httpx2.Timeout


@contextmanager
def transport_errors(operation: Operation[Any]) -> Iterator[None]:
    """Raise `HeadendUnavailable` where the transport fails."""
    try:
        yield
    except httpx2.RequestError as error:
        raise operation.cut_off(_where(error, operation), error) from error


def connection_of(
    url: str,
    *,
    token: str | None,
    ca_file: str | Path | None,
    timeouts: httpx2.Timeout | None,
) -> Connection:
    """Return a connection; the token is that of `TRIODER_TOKEN` by default.

    Raises:
        ValueError: not the address of a headend, or not a token.
        OSError: the file cannot be read.
        ssl.SSLError: it has no certificate.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"url is {url!r}: {error}") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError(f"url is {url!r}; it must be like http://localhost:3001 or https://headend.example")
    if parsed.userinfo:
        # Not quoted: it has a secret.
        raise ValueError("url has a user before the @; a headend takes a token instead")
    if parsed.query or parsed.fragment:
        raise ValueError(f"url is {url!r}; it must have neither a query nor a fragment")
    headers = {"User-Agent": f"trioder-client/{trioder.__version__}"}
    if token is None:
        token = os.environ.get(TOKEN_VARIABLE, "")
    if token:
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise ValueError(
                "the token has characters that no token has; it must be printable ASCII, without spaces"
            )
        headers["Authorization"] = f"Bearer {token}"
    return Connection(
        url=parsed,
        headers=headers,
        verify=True if ca_file is None else ssl.create_default_context(cafile=str(ca_file)),
        timeouts=timeouts or TIMEOUTS,
    )


def _where(error: httpx2.RequestError, operation: Operation[Any]) -> str:
    try:
        return str(error.request.url.copy_with(query=None))
    except RuntimeError:  # it has no request
        return operation.path
