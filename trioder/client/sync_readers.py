"""What the client for threads returns to be iterated over: lines, and the live feed."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any, Generic, Self, TypeVar

import httpx2
import msgspec

from trioder.client.connection import transport_errors
from trioder.client.errors import HeadendError
from trioder.client.feed import Feed, FeedEvent
from trioder.client.lists import LineDecoder, LineList
from trioder.client.operation import Operation

Row = TypeVar("Row")

# Returns a response before its body.
Open = Callable[[Operation[Any]], httpx2.Response]


class Lines(Generic[Row]):
    """The rows of a response that comes in lines: an iterator, read once. Use it with `with`, or read it all.

    A response that is cut off is `HeadendUnavailable`, whatever was read of it.
    """

    def __init__(self, open_response: Open, lines: LineList[Row]) -> None:
        self._operation = lines.operation
        self._rows = self._read(open_response, LineDecoder(lines))

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        return next(self._rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if rows are left."""
        self._rows.close()

    def _read(self, open_response: Open, decoder: LineDecoder[Row]) -> Generator[Row]:
        response = open_response(self._operation)
        parts = response.iter_bytes()
        try:
            while True:
                with transport_errors(self._operation):
                    part = next(parts, None)
                yield from decoder.decode(part) if part is not None else decoder.end()
                if part is None:
                    return
        except msgspec.MsgspecError as error:
            raise self._operation.unreadable(error, b"") from error
        finally:
            response.close()


class FeedReader:
    """The events of the live feed: an iterator; see `HeadendClient.stream`. Use it with `with`."""

    def __init__(self, open_response: Open, feed: Feed) -> None:
        self._open = open_response
        self._feed = feed
        self._response: httpx2.Response | None = None
        self._events: Iterator[httpx2.ServerSentEvent] = iter(())
        self._pause_s = 0.0

    @property
    def last_event_id(self) -> str:
        """Of the last event that had one: where another feed can continue; empty without one."""
        return self._feed.last_event_id

    def __iter__(self) -> Iterator[FeedEvent]:
        return self

    def __next__(self) -> FeedEvent:
        while True:
            try:
                event = self._next()
            except HeadendError as failure:
                self.close()
                lost, is_new = self._feed.lost(failure)
                self._pause_s = lost.retry_s
                if is_new:
                    return lost
            else:
                if event is not None:
                    return event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The next event would be that of a new one, which resumes."""
        if self._response is not None:
            with suppress(httpx2.HTTPError):
                self._response.close()
            self._response = None

    def _next(self) -> FeedEvent | None:
        if self._response is None:
            time.sleep(self._pause_s)
            self._pause_s = 0.0
            self._operation = self._feed.request()
            self._response = self._open(self._operation)
            self._events = iter(httpx2.EventSource(self._response))
        with transport_errors(self._operation):
            received = next(self._events, None)
        if received is None:
            raise self._feed.ended()
        return self._feed.received(received.event, received.data, received.id)
