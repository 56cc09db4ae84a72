"""How answers are written: JSON by msgspec, and long ones as a stream of bounded chunks.

A stream is never whole in memory, however slowly its client reads, and other tasks run between its chunks.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import trio
from quart import request
from quart_trio.wrappers import TrioResponse

JSON = "application/json"

# About 200 kB of JSON and 5 ms of the event loop.
ROWS_A_CHUNK = 500
_CHUNK_BYTES = 64 * 1024

_encoder = msgspec.json.Encoder()


def json_answer(value: Any, *, status: int = 200) -> TrioResponse:
    """One small value."""
    return TrioResponse(_encoder.encode(value), status, content_type=JSON)


def list_answer(keys: Sequence[int], row_of: Callable[[int], Any | None]) -> TrioResponse:
    """A list of any length, in the order of `keys`; a row that is None by then is left out.

    A short list goes in one piece with its length; of a long one each row is as of the moment it is sent.
    """
    if len(keys) <= ROWS_A_CHUNK:
        return json_answer(_rows(keys, row_of))
    return stream_answer(list_chunks(_parts(keys, row_of)))


def object_answer(
    value: msgspec.Struct,
    *,
    list_field: str,
    keys: Sequence[int],
    row_of: Callable[[int], Any],
    status: int = 200,
) -> TrioResponse:
    """An object of which one list may be long: `list_field`, which is empty in `value`."""
    if len(keys) <= ROWS_A_CHUNK:
        opening, closing = _around(value, list_field)
        body = opening + _encoder.encode(_rows(keys, row_of))[1:-1] + closing
        return TrioResponse(body, status, content_type=JSON)
    return stream_answer(object_chunks(value, list_field=list_field, keys=keys, row_of=row_of), status=status)


def stream_answer(chunks: AsyncGenerator[bytes], *, status: int = 200) -> TrioResponse:
    """What the chunks make together; none of them is made for a client that only asks for the head."""
    if request.method == "HEAD":
        return TrioResponse(b"", status, content_type=JSON)
    return TrioResponse(_joined(chunks), status, content_type=JSON)


async def _joined(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same in fewer, larger chunks: each is a write, and a wake-up of the client."""
    joined = bytearray()
    async with aclosing(chunks):
        async for chunk in chunks:
            joined += chunk
            if len(joined) >= _CHUNK_BYTES:
                yield bytes(joined)  # noqa: ASYNC119  # Quart closes the outermost
                joined.clear()
    if joined:
        yield bytes(joined)


async def list_chunks(parts: AsyncGenerator[Sequence[Any]]) -> AsyncGenerator[bytes]:
    """One list of the rows of all parts."""
    opening = b"["
    async with aclosing(parts):
        async for rows in parts:
            if rows:
                yield opening + _encoder.encode(rows)[1:-1]  # noqa: ASYNC119  # Quart closes the outermost
                opening = b","
    yield b"[]" if opening == b"[" else b"]"


async def object_chunks(
    value: msgspec.Struct, *, list_field: str, keys: Sequence[int], row_of: Callable[[int], Any]
) -> AsyncGenerator[bytes]:
    """One object with the rows of `keys` in the list that is empty in `value`."""
    chunk, closing = _around(value, list_field)
    for start in range(0, len(keys), ROWS_A_CHUNK):
        part = keys[start : start + ROWS_A_CHUNK]
        yield chunk + _encoder.encode(_rows(part, row_of))[1:-1]
        chunk = b","
        await trio.lowlevel.checkpoint()
    yield closing if keys else chunk + closing


def _around(value: msgspec.Struct, list_field: str) -> tuple[bytes, bytes]:
    """What stands before and after the entries of the list."""
    # In a string the quotes would be escaped, so this is the field itself.
    before, mark, after = _encoder.encode(value).partition(b'"%s":[' % list_field.encode())
    return before + mark, after


def _rows(keys: Iterable[int], row_of: Callable[[int], Any | None]) -> list[Any]:
    return [row for key in keys if (row := row_of(key)) is not None]


async def _parts(keys: Sequence[int], row_of: Callable[[int], Any | None]) -> AsyncGenerator[Sequence[Any]]:
    for start in range(0, len(keys), ROWS_A_CHUNK):
        yield _rows(keys[start : start + ROWS_A_CHUNK], row_of)
        await trio.lowlevel.checkpoint()
