"""The client for asynchronous programs, under asyncio or Trio."""

import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

import anyio
import httpx2
import msgspec

from trioder.client import commands, reads
from trioder.client.connection import FEED_TIMEOUTS, LIMITS, connection_of, transport_errors
from trioder.client.errors import HeadendError, HeadendUnavailable
from trioder.client.feed import Feed, FeedEvent, Topic
from trioder.client.lists import LineDecoder, LineList, Listing, PageCursor
from trioder.client.methods import as_method
from trioder.client.operation import Operation
from trioder.client.retries import RETRIES, Attempts
from trioder.client.waiting import DispatchWait
from trioder.domain.lifecycle import TERMINAL, DispatchState
from trioder.schemas.dispatch import DispatchRow

P = ParamSpec("P")
T = TypeVar("T")
Row = TypeVar("Row")


def _call(
    build: Callable[P, Operation[T]],
) -> "Callable[Concatenate[AsyncHeadendClient, P], Coroutine[Any, Any, T]]":
    async def method(self: "AsyncHeadendClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(build(*args, **kwargs))

    return as_method(method, build)


def _pages(
    build: Callable[P, Listing[Row]],
) -> "Callable[Concatenate[AsyncHeadendClient, P], AsyncPages[Row]]":
    def method(self: "AsyncHeadendClient", /, *args: P.args, **kwargs: P.kwargs) -> "AsyncPages[Row]":
        return AsyncPages(self, build(*args, **kwargs))

    return as_method(method, build)


def _lines(
    build: Callable[P, LineList[Row]],
) -> "Callable[Concatenate[AsyncHeadendClient, P], AsyncLines[Row]]":
    def method(self: "AsyncHeadendClient", /, *args: P.args, **kwargs: P.kwargs) -> "AsyncLines[Row]":
        return AsyncLines(self, build(*args, **kwargs))

    return as_method(method, build)


class AsyncHeadendClient:
    """A headend's REST API and live feed. It may be shared by tasks; close it, or use it with `async with`.

    Every operation raises a `HeadendError`: `RequestRefused` where the headend refuses it, and
    `HeadendUnavailable` where there is no answer, also not after the retries. What is repeatable is sent
    again: reads, and `dispatch` and `create_schedule`, which have an Idempotency-Key; nothing else.

    Args:
        url: of the headend, such as ``http://localhost:3001``.
        token: a bearer token; that of the variable ``TRIODER_TOKEN`` by default, and none for "".
        ca_file: the certificates (PEM) of the authorities that the headend's may be of; by default those
            that the system trusts.
        retries: how often a repeatable request is sent again, after 0.25 s to 5 s or as the headend says.
        transport_timeouts: of httpx, for each connection, read and write, not for a whole request.
        transport: of httpx, instead of the network.

    No method has a time limit: bound it with the library's own, such as `trio.fail_after`, `anyio.fail_after`
    or `asyncio.timeout`.

    Raises:
        ValueError: not such an address, token or number.
        OSError: the file cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca_file: str | Path | None = None,
        retries: int = RETRIES,
        transport_timeouts: httpx2.Timeout | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        if retries < 0:
            raise ValueError(f"retries is {retries}; it must be at least 0")
        connection = connection_of(url, token=token, ca_file=ca_file, timeouts=transport_timeouts)
        self._retries = retries
        self._rng = random.SystemRandom()
        self._http = httpx2.AsyncClient(
            base_url=connection.url,
            headers=connection.headers,
            verify=connection.verify,
            timeout=connection.timeouts,
            limits=LIMITS,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    index = _call(reads.index)
    health = _call(reads.health)
    metrics = _call(reads.metrics)
    openapi = _call(reads.openapi)
    whoami = _call(reads.whoami)
    audit = _pages(reads.audit)
    assets = _pages(reads.assets)
    asset = _call(reads.asset)
    sites = _call(reads.sites)
    fleet = _call(reads.fleet)
    reload_fleet = _call(commands.reload_fleet)
    site_limits = _call(reads.site_limits)
    set_site_limits = _call(commands.set_site_limits)
    remove_site_limits = _call(commands.remove_site_limits)
    telemetry = _pages(reads.telemetry)
    asset_telemetry = _call(reads.asset_telemetry)
    history = _lines(reads.history)
    history_buckets = _lines(reads.history_buckets)
    agents = _pages(reads.agents)
    sessions = _call(reads.sessions)
    dispatch = _call(commands.dispatch)
    show_dispatch = _call(reads.show_dispatch)
    dispatches = _call(reads.dispatches)
    cancel_dispatch = _call(commands.cancel_dispatch)
    stop = _call(commands.stop)
    resume = _call(commands.resume)
    create_schedule = _call(commands.create_schedule)
    schedules = _call(reads.schedules)
    schedule = _call(reads.schedule)
    cancel_schedule = _call(commands.cancel_schedule)
    occurrences = _call(reads.occurrences)
    skip_occurrence = _call(commands.skip_occurrence)
    alarms = _pages(reads.alarms)
    alarm = _call(reads.alarm)
    acknowledge_alarm = _call(commands.acknowledge_alarm)
    events = _pages(reads.events)

    def stream(
        self,
        *,
        site_ids: Iterable[str] = (),
        asset_ids: Iterable[str] = (),
        topics: Iterable[Topic] = (),
        last_event_id: str = "",
    ) -> "AsyncFeedReader":
        """Follow the live feed: an asynchronous iterator of its events, which has no end.

        It opens the feed again when it is lost, and resumes where it was; a `FeedLost` is among the events
        then, and a `CompleteEvent` when all is known again. Its first event comes from the first request.

        Args:
            site_ids: only the assets of these sites; all that the caller sees by default.
            asset_ids: only these assets.
            topics: only these; all by default.
            last_event_id: continue after this event, as an `AsyncFeedReader` had it.
        """
        feed = Feed(
            site_ids=site_ids,
            asset_ids=asset_ids,
            topics=topics,
            last_event_id=last_event_id,
            rng=self._rng,
        )
        return AsyncFeedReader(self, feed)

    async def wait_for_dispatch(
        self, dispatch_id: str | None, *, until: DispatchState | Iterable[DispatchState] = TERMINAL
    ) -> DispatchRow:
        """Return a dispatch when it has reached a state, or any of several; by default, when it has ended.

        A state that is passed is reached: `accepted` by `tracking`. There is no time limit: a dispatch
        without an end may never be over.

        Raises:
            DispatchEnded: it has ended without that.
        """
        wait = DispatchWait(dispatch_id, until)
        while True:
            dispatch = await self.send(wait.request)
            if wait.is_over(dispatch):
                return dispatch
            await anyio.sleep(wait.next_delay_s())

    async def send(self, operation: Operation[T]) -> T:
        """Send a request, again if that is safe, and return what its response means."""
        attempts = Attempts(operation, retries=self._retries, rng=self._rng)
        while True:
            try:
                with transport_errors(operation):
                    response = await self._http.send(self._request(operation))
                return operation.result(response.status_code, response.headers, response.content)
            except HeadendError as failure:
                delay_s = attempts.delay_s(failure)
            await anyio.sleep(delay_s)

    async def open(
        self, operation: Operation[Any], *, timeouts: httpx2.Timeout | None = None
    ) -> httpx2.Response:
        """Send a request once, and return the response before its body, which the caller reads and closes."""
        with transport_errors(operation):
            response = await self._http.send(self._request(operation, timeouts), stream=True)
        if response.status_code in operation.statuses:
            return response
        try:
            with transport_errors(operation):
                body = await response.aread()
        finally:
            await response.aclose()
        raise operation.failure(response.status_code, response.headers, body)

    async def open_again(self, operation: Operation[Any]) -> httpx2.Response:
        """Open a response; send the request again if there is none."""
        attempts = Attempts(operation, retries=self._retries, rng=self._rng)
        while True:
            try:
                return await self.open(operation)
            except HeadendError as failure:
                delay_s = attempts.delay_s(failure)
            await anyio.sleep(delay_s)

    def _request(self, operation: Operation[Any], timeouts: httpx2.Timeout | None = None) -> httpx2.Request:
        return self._http.build_request(
            operation.method,
            operation.path,
            params=list(operation.query),
            content=operation.content,
            headers=dict(operation.headers),
            timeout=timeouts or self._http.timeout,
        )


class AsyncPages(Generic[Row]):
    """The rows of all pages of a list: an asynchronous iterator, read once."""

    def __init__(self, client: AsyncHeadendClient, listing: Listing[Row]) -> None:
        self._client = client
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
            rows = await self._client.send(page)
            self._cursor.received(rows)
            self._rows = iter(rows)


class AsyncLines(Generic[Row]):
    """The rows of a response that comes in lines: an asynchronous iterator, read once.

    Use it with `async with`, or read it all. A response that is cut off is `HeadendUnavailable`, whatever was
    read of it.
    """

    def __init__(self, client: AsyncHeadendClient, lines: LineList[Row]) -> None:
        self._client = client
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
            self._response = await self._client.open_again(self._operation)
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

    def __init__(self, client: AsyncHeadendClient, feed: Feed) -> None:
        self._client = client
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
            self._response = await self._client.open(self._operation, timeouts=FEED_TIMEOUTS)
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
