"""Recognises requests that need neither hypercorn nor Quart: whole heads of plain GETs, as most clients send.

What h11 might refuse, or read differently, is not recognised, and goes the usual way with the bytes as they
arrived.
"""

import re
from typing import NamedTuple

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
_LINE = re.compile(
    rb"GET (/[a-z]+(?:/[0-9A-Fa-f-]{36})?)(?:\?([a-z_]+=[0-9A-Za-z-]+(?:&[a-z_]+=[0-9A-Za-z-]+)*))? HTTP/1\.1"
)


class HotRequest(NamedTuple):
    """A GET without a body, on a connection that stays open.

    Attributes:
        path: of the target, such as `/assets`; without anything that is percent-encoded.
        query: by name, in the order of the target.
        headers: values by lower-case name, of those that are read.
    """

    path: str
    query: dict[str, list[str]]
    headers: dict[bytes, bytes]


class HotRequestParser:
    """Parses one head after the other."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        # Of the last head with usual headers: a client sends the same again and again.
        self._last_lines = b""
        self._last_headers: dict[bytes, bytes] = {}
        self._begin()

    def _begin(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._is_usual = True
        self._is_complete = False

    def parse(self, head: bytes) -> HotRequest | None:
        """Return the request of a whole head, which ends with an empty line; None if it is not recognised."""
        line, _, lines = head.partition(b"\r\n")
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        if lines != self._last_lines:
            if not self._read_headers(head):
                return None
            self._last_lines, self._last_headers = lines, self._headers
        path, text = match.groups()
        query: dict[str, list[str]] = {}
        if text is not None:
            for pair in text.decode().split("&"):
                name, _, value = pair.partition("=")
                query.setdefault(name, []).append(value)
        return HotRequest(path.decode(), query, self._last_headers)

    def _read_headers(self, head: bytes) -> bool:
        if head.count(b"\n") != head.count(b"\r\n") or _FOLDED[0] in head or _FOLDED[1] in head:
            return False
        self._begin()
        try:
            self._parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._is_usual = False
        is_kept = self._headers.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        if self._is_usual and self._is_complete and is_kept and b"host" in self._headers:
            return True
        # It may wait for a body, or for the end.
        self._parser = httptools.HttpRequestParser(self)
        return False

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
