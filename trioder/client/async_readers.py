"""What the asynchronous client returns to be iterated over: pages, lines, and the live feed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar

import anyio
import httpx2
import msgspec

from trioder.client.connection import transport_errors
from trioder.client.errors import HeadendError, HeadendUnavailable
from trioder.client.feed import Feed, FeedEvent
from trioder.client.lists import LineDecoder, LineList, Listing, PageCursor
from trioder.client.operation import Operation

Row = TypeVar("Row")

# Returns a response before its body.
AsyncOpen = Callable[[Operation[Any]], Awaitable[httpx2.Response]]


class AsyncPages(Generic[Row]):
    """The rows of all pages of a list: an asynchronous iterator, read once."""

    def __init__(
        self, send: "Callable[[Operation[list[Row]]], Awaitable[list[Row]]]", listing: Listing[Row]
    ) -> None:
        self._send = send
        self._cursor = PageCursor(listing)
        self._rows: Iterator[Row] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Row:
        while True:
            for row in self._rows:
                return row
            page = self._cursor.next_page()
            if page is None:
                raise StopAsyncIteration
            rows = await self._send(page)
            self._cursor.received(rows)
            self._rows = iter(rows)


class AsyncLines(Generic[Row]):
    """The rows of a response that comes in lines: an asynchronous iterator, read once.

    Use it with `async with`, or read it all. A response that is cut off is `HeadendUnavailable`, whatever was
    read of it.
    """

    def __init__(self, open_response: AsyncOpen, lines: LineList[Row]) -> None:
        self._open = open_response
        self._operation = lines.operation
        self._decoder = LineDecoder(lines)
        self._response: httpx2.Response | None = None
        self._parts: AsyncIterator[bytes]
        self._rows: Iterator[Row] = iter(())
        self._is_reading = False
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Row:
        while True:
            for row in self._rows:
                return row
            if self._ended:
                raise StopAsyncIteration
            try:
                self._rows = iter(await self._next_rows())
            except HeadendError:
                await self.aclose()
                raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, if rows are left."""
        self._ended = True
        if self._response is not None:
            await _close(self._response, self._parts)

    async def _next_rows(self) -> list[Row]:
        if self._response is None:
            self._response = await self._open(self._operation)
            self._parts = self._response.aiter_bytes()
        if self._is_reading:
            raise HeadendUnavailable(f"{self._operation.path}: a read was cancelled, and the rest is lost")
        self._is_reading = True
        with transport_errors(self._operation):
            part = await anext(self._parts, None)
        self._is_reading = False
        try:
            if part is not None:
                return self._decoder.decode(part)
            self._ended = True
            return self._decoder.end()
        except msgspec.MsgspecError as error:
            raise self._operation.unreadable(error, b"") from error


class AsyncFeedReader:
    """The events of the live feed: an asynchronous iterator; see `AsyncHeadendClient.stream`.

    Use it with `async with`.
    """

    def __init__(self, open_response: AsyncOpen, feed: Feed) -> None:
        self._open = open_response
        self._feed = feed
        self._response: httpx2.Response | None = None
        self._events: AsyncIterator[httpx2.ServerSentEvent]
        self._is_reading = False
        self._pause_s = 0.0

    @property
    def last_event_id(self) -> str:
        """Of the last event that had one: where another feed can continue; empty without one."""
        return self._feed.last_event_id

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FeedEvent:
        while True:
            try:
                event = await self._next()
            except HeadendError as failure:
                await self.aclose()
                lost, is_new = self._feed.lost(failure)
                self._pause_s = lost.retry_s
                if is_new:
                    return lost
            else:
                if event is not None:
                    return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. The next event would be that of a new one, which resumes."""
        response, self._response = self._response, None
        self._is_reading = False
        if response is not None:
            await _close(response, self._events)

    async def _next(self) -> FeedEvent | None:
        if self._is_reading:
            # The last read was cancelled, and has ended the response.
            await self.aclose()
        if self._response is None:
            await anyio.sleep(self._pause_s)
            self._pause_s = 0.0
            self._operation = self._feed.request()
            self._response = await self._open(self._operation)
            self._events = aiter(httpx2.EventSource(self._response))
        self._is_reading = True
        with transport_errors(self._operation):
            received = await anext(self._events, None)
        self._is_reading = False
        if received is None:
            raise self._feed.ended()
        return self._feed.received(received.event, received.data, received.id)


async def _close(response: httpx2.Response, parts: AsyncIterator[Any]) -> None:
    # Generators within httpx wait for more: a cancelled read ends them all, which closing the outermost does
    # not, and Trio warns of those that are left to the garbage collector.
    with suppress(httpx2.HTTPError), anyio.CancelScope() as scope:
        scope.cancel()
        async for _ in parts:
            pass
    with suppress(httpx2.HTTPError):
        await response.aclose()
