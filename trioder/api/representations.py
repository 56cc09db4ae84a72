"""Representations of what is read: encoded bytes, entity tags, compression, and conditional requests.

Which of them is asked for, and who may see it, is decided by the callers.
"""

import re
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from secrets import token_bytes
from typing import Any, NamedTuple

import msgspec

from trioder.process.slices import Steps, run_at_once

JSON = "application/json"
# The representation depends on these headers of the request.
VARY = "Accept, Accept-Encoding, Authorization"
# Below this, compression saves no packet.
_GZIP_FROM_BYTES = 1_024
# In one piece of at most 3 ms; larger bodies are compressed in parts.
GZIP_AT_ONCE_BYTES = 64 * 1024
# What changes with every request is compressed for one response: with little effort.
_GZIP_ONCE, _GZIP_KEPT = 1, 6
_GZIP_WINDOW = 31
_GZIP_US_A_BYTE = 0.03
# About 500 rows. A longer body is a long response, and is written in pieces of so many bytes.
LONG_BYTES = 200_000
_CACHE_BYTES = 32 * 1024 * 1024

_QUALITY = re.compile(r"q[ \t]*=[ \t]*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)
_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')

_encode = msgspec.json.Encoder().encode
_JSON_ALONE = (("content-type", JSON),)

# Tags of another process are never equal to those of this one, whose versions begin at 0 again.
_PROCESS = token_bytes(8)


class Wishes(NamedTuple):
    """What a request says about the representation that it wants.

    Attributes:
        if_none_match: all values of the header, joined by commas; None without one.
        accept_encoding: likewise.
    """

    if_none_match: str | None = None
    accept_encoding: str | None = None


class Answer(NamedTuple):
    """A response, however it is written.

    Attributes:
        headers: without the length of the body, which is the writer's.
        body: all of it; empty with `parts`.
        parts: returns an iterator over a long body that is made while it is sent; None without.
        is_long: it counts as one of the open streams of its caller.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    parts: Callable[[], Iterator[bytes]] | None = None
    is_long: bool = False


@dataclass(slots=True)
class Representation:
    """The bytes of a response, as long as nothing in it changes."""

    token: Hashable
    body: bytes
    gzipped: bytes | None = None

    def gzip_steps(self) -> Steps[bytes]:
        """Compress the body, once, in steps."""
        if self.gzipped is None:
            compressor, parts = zlib.compressobj(_GZIP_KEPT, zlib.DEFLATED, _GZIP_WINDOW), []
            for start in range(0, len(self.body), GZIP_AT_ONCE_BYTES):
                part = self.body[start : start + GZIP_AT_ONCE_BYTES]
                parts.append(compressor.compress(part))
                yield _GZIP_US_A_BYTE * len(part)
            self.gzipped = b"".join([*parts, compressor.flush()])
        return self.gzipped

    def answer_steps(self, etag: str, wishes: Wishes) -> Steps[Answer]:
        """Return the response, in steps: it may have to be compressed."""
        if len(self.body) >= _GZIP_FROM_BYTES and prefers_gzip(wishes.accept_encoding):
            body = yield from self.gzip_steps()
            return Answer(200, _headers(etag, is_gzipped=True), body, is_long=len(body) > LONG_BYTES)
        return Answer(200, _headers(etag), self.body, is_long=len(self.body) > LONG_BYTES)

    def answer_now(self, etag: str, wishes: Wishes) -> Answer | None:
        """Return the response; None if that takes long."""
        needs_gzip = self.gzipped is None and prefers_gzip(wishes.accept_encoding)
        if needs_gzip and len(self.body) > GZIP_AT_ONCE_BYTES:
            return None
        return run_at_once(self.answer_steps(etag, wishes))


class RepresentationCache:
    """The representations in memory, up to 32 MiB: those that were used last."""

    def __init__(self, *, max_bytes: int = _CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._entries: OrderedDict[Hashable, Representation] = OrderedDict()

    def get(self, key: Hashable, token: Hashable) -> Representation | None:
        """Return what is cached, if it was made for this token."""
        entry = self._entries.get(key)
        if entry is None or entry.token != token:
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: Hashable, representation: Representation) -> None:
        """Cache it in the place of an older one."""
        former = self._entries.pop(key, None)
        # A compressed copy is smaller.
        self._used_bytes += 2 * (len(representation.body) - (0 if former is None else len(former.body)))
        self._entries[key] = representation
        while self._used_bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._used_bytes -= 2 * len(oldest.body)


def entity_tag(*parts: Hashable) -> str:
    """Return the weak entity tag of what these parts determine; their text must be stable.

    Weak, as the compressed body has the same, and as ages within it may differ.
    """
    return f'W/"{blake2b(repr(parts).encode(), key=_PROCESS, digest_size=12).hexdigest()}"'


def not_modified(etag: str, wishes: Wishes) -> Answer | None:
    """Return a 304 if the client has this representation (RFC 9110, 13.1.2); None if not."""
    if wishes.if_none_match is None or not _matches(wishes.if_none_match, etag):
        return None
    return Answer(304, (("etag", etag), ("vary", VARY)))


def _matches(if_none_match: str, etag: str) -> bool:
    if if_none_match.strip() == "*":
        return True
    # By weak comparison. A tag may contain commas.
    opaque = etag.removeprefix("W/")
    return opaque in if_none_match and opaque in _ENTITY_TAG.findall(if_none_match)


def once(body: bytes, wishes: Wishes, *, etag: str) -> Answer:
    """Return the response with a body that is for this request only."""
    if len(body) < _GZIP_FROM_BYTES or not prefers_gzip(wishes.accept_encoding):
        return Answer(200, _headers(etag), body)
    return Answer(200, _headers(etag, is_gzipped=True), zlib.compress(body, _GZIP_ONCE, _GZIP_WINDOW))


def json_answer(value: Any, *, status: int = 200) -> Answer:
    """Return the response with one small value."""
    return row_answer(_encode(value), status=status)


def row_answer(row: bytes, *, status: int = 200) -> Answer:
    """Return the response with one small value that is encoded already."""
    return Answer(status, _JSON_ALONE, row)


def in_parts(parts: Callable[[], Iterator[bytes]], wishes: Wishes, *, etag: str) -> Answer:
    """Return the response with a long body that is made while it is sent."""
    is_gzipped = prefers_gzip(wishes.accept_encoding)
    return Answer(
        200,
        _headers(etag, is_gzipped=is_gzipped),
        parts=(lambda: _compressed(parts())) if is_gzipped else parts,
        is_long=True,
    )


def prefers_gzip(accept_encoding: str | None) -> bool:
    """Whether a client accepts gzip, and does not prefer no coding (RFC 9110, 12.5.3)."""
    if not accept_encoding:
        return False
    weights: dict[str, float] = {}
    for member in accept_encoding.split(","):
        coding, _, parameter = member.partition(";")
        weight = 1.0
        if parameter:
            match = _QUALITY.fullmatch(parameter.strip(" \t"))
            # What cannot be read is not accepted.
            weight = 0.0 if match is None else float(match[1])
        weights[coding.strip(" \t").lower()] = weight
    any_other = weights.get("*", 0.0)
    gzip = weights.get("gzip", weights.get("x-gzip", any_other))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _headers(etag: str, *, is_gzipped: bool = False) -> tuple[tuple[str, str], ...]:
    plain = ("content-type", JSON), ("etag", etag), ("vary", VARY)
    return (*plain, ("content-encoding", "gzip")) if is_gzipped else plain


def _compressed(parts: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(_GZIP_ONCE, zlib.DEFLATED, _GZIP_WINDOW)
    for part in parts:
        if compressed := compressor.compress(part):
            yield compressed
    yield compressor.flush()


def list_parts(parts: Iterable[Sequence[bytes]]) -> Iterator[bytes]:
    """Return the encoded rows of all parts as one list."""
    opening = b"["
    for rows in parts:
        if rows:
            yield opening + b",".join(rows)
            opening = b","
    yield b"[]" if opening == b"[" else b"]"
