"""Lists as lines: `application/x-ndjson`, one JSON object a line, for those who ask for it.

A stream is encoded in parts that take about 2 ms each, between which other tasks run, and no faster than its
client reads. One that cannot be completed is cut off: its connection is closed without the last chunk.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import msgspec
import structlog
import trio
from quart import request
from quart_trio.wrappers import TrioResponse
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from trioder.api.http.request_log import CutOffError
from trioder.api.representations import JSON
from trioder.api.responses import stream_response
from trioder.store.interface import StoreUnavailableError

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

NDJSON = "application/x-ndjson"

_ROWS_PER_PART = 200

_encoder = msgspec.json.Encoder()


def accepts_lines(accept: str) -> bool:
    """Whether an Accept header prefers lines to JSON."""
    return parse_accept_header(accept, MIMEAccept).best_match([JSON, NDJSON], JSON) == NDJSON


def wants_lines() -> bool:
    """Whether the current request prefers lines to JSON."""
    return accepts_lines(",".join(request.headers.getlist("Accept")))


def lines_response(items: Sequence[T], row_of: Callable[[T], Any | None]) -> TrioResponse:
    """Return a line per item; rows that are None are omitted.

    Each row of a long list is read when it is sent.
    """
    if len(items) <= _ROWS_PER_PART:
        return TrioResponse(_encoder.encode_lines(_rows(items, row_of)), content_type=NDJSON)
    return stream_response(_lines(_one(items), row_of, request.path), content_type=NDJSON)


def pages_response(pages: AsyncGenerator[Sequence[T]], row_of: Callable[[T], Any]) -> TrioResponse:
    """Return a line per item of all pages, each of which is read when those before it are sent.

    There is no limit of the whole response's time: a client that reads nothing is disconnected.
    """
    response = stream_response(_lines(pages, row_of, request.path), content_type=NDJSON)
    response.timeout = None
    return response


async def _one(items: Sequence[T]) -> AsyncGenerator[Sequence[T]]:
    yield items


async def _lines(
    pages: AsyncGenerator[Sequence[T]], row_of: Callable[[T], Any | None], path: str
) -> AsyncGenerator[bytes]:
    async with aclosing(pages):
        try:
            async for page in pages:
                for start in range(0, len(page), _ROWS_PER_PART):
                    rows = _rows(page[start : start + _ROWS_PER_PART], row_of)
                    yield _encoder.encode_lines(rows)  # noqa: ASYNC119  # Quart closes the outermost
                    await trio.lowlevel.checkpoint()
        except StoreUnavailableError as error:
            log.warning("response cut off: the database is not available", path=path, reason=str(error))
            raise CutOffError from error


def _rows(items: Iterable[T], row_of: Callable[[T], Any | None]) -> list[Any]:
    return [row for item in items if (row := row_of(item)) is not None]
