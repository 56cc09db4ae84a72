"""How answers are written: JSON by msgspec, and long lists as a stream of bounded chunks."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import msgspec
import trio
from quart import request
from quart_trio.wrappers import TrioResponse

JSON = "application/json"

# About 200 kB of JSON and 5 ms of the event loop.
ROWS_A_CHUNK = 500

_encoder = msgspec.json.Encoder()


def json_answer(value: Any, *, status: int = 200) -> TrioResponse:
    """One small value."""
    return TrioResponse(_encoder.encode(value), status, content_type=JSON)


def list_answer(
    keys: Sequence[int], row_of: Callable[[int], Any | None], *, rows_a_chunk: int = ROWS_A_CHUNK
) -> TrioResponse:
    """A list of any length, in the order of `keys`; a row that is None by then is left out.

    A short list goes in one piece with its length. A long one is never whole in memory, however slowly its
    client reads, and other tasks run between its chunks; each row is as of the moment it is sent.
    """
    if len(keys) <= rows_a_chunk:
        return json_answer(_rows(keys, row_of))
    if request.method == "HEAD":
        return TrioResponse(b"", content_type=JSON)
    return TrioResponse(_chunks(keys, row_of, rows_a_chunk), content_type=JSON)


def _rows(keys: Iterable[int], row_of: Callable[[int], Any | None]) -> list[Any]:
    return [row for key in keys if (row := row_of(key)) is not None]


async def _chunks(
    keys: Sequence[int], row_of: Callable[[int], Any | None], rows_a_chunk: int
) -> AsyncIterator[bytes]:
    opening = b"["
    for start in range(0, len(keys), rows_a_chunk):
        rows = _rows(keys[start : start + rows_a_chunk], row_of)
        if rows:
            yield opening + _encoder.encode(rows)[1:-1]
            opening = b","
        await trio.lowlevel.checkpoint()
    yield b"[]" if opening == b"[" else b"]"
