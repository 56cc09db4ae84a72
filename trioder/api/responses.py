"""Responses: JSON encoded by msgspec; long lists are streamed in bounded chunks.

A stream is never in memory as a whole, however slowly its client reads, and other tasks run between chunks.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import msgspec
import trio
from quart import request
from quart_trio.wrappers import TrioResponse

from trioder.api.access import hold_stream
from trioder.api.asset_query import FleetIndex
from trioder.api.parsing import Query
from trioder.api.reads import Read
from trioder.api.representations import JSON, LONG_BYTES, Answer, Wishes

T = TypeVar("T")

# About 200 kB of JSON and 5 ms of the event loop.
ROWS_PER_CHUNK = 500
_CHUNK_BYTES = 64 * 1024

_encoder = msgspec.json.Encoder()


def json_response(value: Any, *, status: int = 200) -> TrioResponse:
    """Return a small value in one piece."""
    return TrioResponse(_encoder.encode(value), status, content_type=JSON)


async def read_response(read: Read, index: FleetIndex, query: Query) -> TrioResponse:
    """Return the response of a read to the current request.

    Raises:
        ApiError: 400 or 404; 429: the caller has too many long responses open.
    """
    wishes = Wishes(_joined("If-None-Match"), _joined("Accept-Encoding"))
    return answer_response(await read.later(index, query, wishes))


def answer_response(answer: Answer) -> TrioResponse:
    """Return an answer as a response to the current request.

    Raises:
        ApiError: 429: the caller has too many long responses open.
    """
    is_head = request.method == "HEAD"
    if answer.is_long and not is_head:
        hold_stream()
    if answer.parts is not None:
        body = b"" if is_head else _with_checkpoints(answer.parts())
    elif answer.is_long and not is_head:
        body = _with_checkpoints(_slices(answer.body))
    else:
        body = answer.body
    response = TrioResponse(body, answer.status)
    # Not those by default: a 304 has neither a type nor a length.
    response.headers.clear()
    for name, value in answer.headers:
        response.headers[name] = value
        if name == "content-type" and answer.parts is None:
            response.headers["content-length"] = str(len(answer.body))
    return response


def _joined(name: str) -> str | None:
    values = request.headers.getlist(name)
    return ", ".join(values) if values else None


def _slices(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), LONG_BYTES):
        yield body[start : start + LONG_BYTES]


async def _with_checkpoints(parts: Iterator[bytes]) -> AsyncGenerator[bytes]:
    for part in parts:
        yield part
        await trio.lowlevel.checkpoint()


def list_response(items: Sequence[T], row_of: Callable[[T], Any | None]) -> TrioResponse:
    """Return a list of any length, a row per item; rows that are None are omitted.

    A short list is sent in one piece with its length; each row of a long one is read when it is sent.
    """
    if len(items) <= ROWS_PER_CHUNK:
        return json_response(_rows(items, row_of))
    return stream_response(list_chunks(_parts(items, row_of)))


def object_response(
    value: msgspec.Struct, field: str, items: Sequence[T], row_of: Callable[[T], Any], *, status: int = 200
) -> TrioResponse:
    """Return `value` with a row per item in `field`, a list that is empty in `value` and may become long."""
    if len(items) <= ROWS_PER_CHUNK:
        opening, closing = _split_at(value, field)
        body = opening + _encoder.encode(_rows(items, row_of))[1:-1] + closing
        return TrioResponse(body, status, content_type=JSON)
    return stream_response(object_chunks(value, field, items, row_of), status=status)


def stream_response(
    chunks: AsyncGenerator[bytes], *, status: int = 200, content_type: str = JSON
) -> TrioResponse:
    """Return the concatenated chunks; a HEAD request consumes none of them.

    Raises:
        ApiError: 429: the caller has too many streamed responses open.
    """
    if request.method == "HEAD":
        return TrioResponse(b"", status, content_type=content_type)
    if request.method != "POST":
        # The command of a POST was carried out: its response must not be a refusal.
        hold_stream()
    return TrioResponse(_coalesced(chunks), status, content_type=content_type)


async def _coalesced(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Join small chunks: each chunk is one write, and wakes the client up."""
    buffer = bytearray()
    async with aclosing(chunks):
        async for chunk in chunks:
            buffer += chunk
            if len(buffer) >= _CHUNK_BYTES:
                yield bytes(buffer)  # noqa: ASYNC119  # Quart closes the outermost
                buffer.clear()
    if buffer:
        yield bytes(buffer)


async def list_chunks(parts: AsyncGenerator[Sequence[Any]]) -> AsyncGenerator[bytes]:
    """Encode the rows of all parts as one list."""
    opening = b"["
    async with aclosing(parts):
        async for rows in parts:
            if rows:
                yield opening + _encoder.encode(rows)[1:-1]  # noqa: ASYNC119  # Quart closes the outermost
                opening = b","
    yield b"[]" if opening == b"[" else b"]"


async def object_chunks(
    value: msgspec.Struct, field: str, items: Sequence[T], row_of: Callable[[T], Any]
) -> AsyncGenerator[bytes]:
    """Encode `value` with a row per item in the list that is empty in it."""
    chunk, closing = _split_at(value, field)
    async with aclosing(_parts(items, row_of)) as parts:
        async for rows in parts:
            yield chunk + _encoder.encode(rows)[1:-1]  # noqa: ASYNC119  # Quart closes the outermost
            chunk = b","
    yield closing if items else chunk + closing


def _split_at(value: msgspec.Struct, field: str) -> tuple[bytes, bytes]:
    """Return the JSON before and after the entries of the list."""
    # Quotes within a string are escaped, so this can only match the field.
    before, separator, after = _encoder.encode(value).partition(b'"%s":[' % field.encode())
    return before + separator, after


def _rows(items: Iterable[T], row_of: Callable[[T], Any | None]) -> list[Any]:
    return [row for item in items if (row := row_of(item)) is not None]


async def _parts(items: Sequence[T], row_of: Callable[[T], Any | None]) -> AsyncGenerator[Sequence[Any]]:
    for start in range(0, len(items), ROWS_PER_CHUNK):
        yield _rows(items[start : start + ROWS_PER_CHUNK], row_of)
        await trio.lowlevel.checkpoint()
