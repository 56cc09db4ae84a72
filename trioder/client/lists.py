"""Lists that are read in parts: pages, each a request of its own, and lines of one response."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from trioder.client.errors import UnexpectedResponse
from trioder.client.operation import Operation

Row = TypeVar("Row")

# Of a page: decoded in about 2 ms.
PAGE_ROWS = 1_000
# A row has less than 1 kB.
_MAX_LINE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[Row]):
    """A list with pages.

    Attributes:
        page: returns the request of the page after a position, with its greatest number of rows; None is the
            first page.
        position_of: a row, by which the next page begins after it.
        limit: of all pages together; None for all rows.
        page_rows: the greatest number of rows of a page.
    """

    page: Callable[[str | None, int], Operation[list[Row]]]
    position_of: Callable[[Row], str]
    limit: int | None = None
    page_rows: int = PAGE_ROWS


class PageCursor(Generic[Row]):
    """Which page of a list is next; `received` is called with each."""

    def __init__(self, listing: Listing[Row]) -> None:
        self._listing = listing
        self._left = listing.limit
        self._after: str | None = None
        self._requested = 0
        self._ended = listing.limit == 0

    def next_page(self) -> Operation[list[Row]] | None:
        """Return the request of the next page; None after the last."""
        if self._ended:
            return None
        page_rows = self._listing.page_rows
        self._requested = page_rows if self._left is None else min(page_rows, self._left)
        return self._listing.page(self._after, self._requested)

    def received(self, rows: Sequence[Row]) -> None:
        """Go on after these rows of the page that was requested.

        Raises:
            UnexpectedResponse: the page is not the one that was requested.
        """
        if len(rows) > self._requested:
            raise UnexpectedResponse(
                f"a page has {len(rows)} rows; at most {self._requested} were requested", status=200
            )
        if self._left is not None:
            self._left -= len(rows)
        if len(rows) < self._requested or self._left == 0:
            self._ended = True
            return
        former, self._after = self._after, self._listing.position_of(rows[-1])
        if self._after == former:
            raise UnexpectedResponse(f"the page after {former} ends where it begins", status=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineList(Generic[Row]):
    """A list that comes in lines of JSON.

    Attributes:
        operation: whose response it is.
        decoder: of each line.
    """

    operation: Operation[None]
    decoder: "msgspec.json.Decoder[Row]"

    @classmethod
    def of(cls, row: Any, operation: Operation[None]) -> "LineList[Any]":
        """Return a list of rows of this type."""
        return cls(operation=operation, decoder=msgspec.json.Decoder(row))


class LineDecoder(Generic[Row]):
    """Decodes lines of JSON from bytes in parts of any size."""

    def __init__(self, lines: LineList[Row]) -> None:
        self._decoder = lines.decoder
        self._rest = b""

    def decode(self, part: bytes) -> list[Row]:
        """Return the rows whose lines are complete.

        Raises:
            msgspec.MsgspecError: a line is not such a row.
        """
        complete, newline, rest = part.rpartition(b"\n")
        if not newline:
            self._rest += part
            if len(self._rest) > _MAX_LINE_BYTES:
                raise msgspec.DecodeError(f"a line is longer than {_MAX_LINE_BYTES:,} bytes")
            return []
        lines, self._rest = self._rest + complete, rest
        return self._decoder.decode_lines(lines)

    def end(self) -> list[Row]:
        """Return the rows that are left at the end of the response."""
        rest, self._rest = self._rest, b""
        return self._decoder.decode_lines(rest)
