"""Recognises requests that need neither hypercorn nor Quart: whole heads of plain GETs, as most clients send.

What h11 might refuse, or read differently, is not recognised, and goes the usual way with the bytes as they
arrived.
"""

import re
from dataclasses import dataclass, field

import httptools

_FOLDED = (b"\r\n ", b"\r\n\t")
# Of these the usual way decides: bodies, upgrades, and what would change the connection.
_UNUSUAL = frozenset(
    {
        *(b"content-length", b"transfer-encoding", b"trailer", b"te", b"expect"),
        *(b"upgrade", b"http2-settings", b"proxy-connection"),
    }
)
# The headers that are read, as far as there is one of each.
_READ = frozenset(
    {
        b"host",
        b"connection",
        b"authorization",
        b"if-none-match",
        b"accept-encoding",
        b"accept",
        b"x-request-id",
    }
)
_TARGET = re.compile(
    rb"(/[a-z]+(?:/[0-9A-Fa-f-]{36})?)(?:\?([a-z_]+=[0-9A-Za-z-]+(?:&[a-z_]+=[0-9A-Za-z-]+)*))?"
)


@dataclass(frozen=True, slots=True)
class HotRequest:
    """A GET without a body, on a connection that stays open.

    Attributes:
        path: of the target, such as `/assets`; without anything that is percent-encoded.
        query: by name, in the order of the target.
        headers: values by lower-case name, of those that are read.
    """

    path: str
    query: dict[str, list[str]] = field(default_factory=dict)
    headers: dict[bytes, bytes] = field(default_factory=dict)


class HotRequestParser:
    """Parses one head after the other."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._is_usual = True
        self._is_complete = False

    def parse(self, head: bytes) -> HotRequest | None:
        """Return the request of a whole head, which ends with an empty line; None if it is not recognised."""
        if not head.startswith(b"GET /") or head.count(b"\n") != head.count(b"\r\n"):
            return None
        if _FOLDED[0] in head or _FOLDED[1] in head:
            return None
        self._begin()
        try:
            self._parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._is_usual = False
        if not (self._is_usual and self._is_complete and self._parser.get_http_version() == "1.1"):
            # It may wait for a body.
            self._parser = httptools.HttpRequestParser(self)
            return None
        match = _TARGET.fullmatch(self._target)
        if match is None or b"host" not in self._headers:
            return None
        if self._headers.get(b"connection", b"keep-alive").lower() != b"keep-alive":
            return None
        query: dict[str, list[str]] = {}
        if match[2] is not None:
            for pair in match[2].decode().split("&"):
                name, _, value = pair.partition("=")
                query.setdefault(name, []).append(value)
        return HotRequest(match[1].decode(), query, self._headers)

    def on_url(self, url: bytes) -> None:
        """Receive the target, or a part of it; called by the parser, as all that follows."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive a header."""
        name = name.lower()
        if name in _READ:
            if name in self._headers:
                self._is_usual = False
            self._headers[name] = value.strip(b" \t")
        elif name in _UNUSUAL:
            self._is_usual = False

    def on_message_complete(self) -> None:
        """The request has no body."""
        self._is_complete = True
