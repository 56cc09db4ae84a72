"""The client for programs with threads, or with one."""

import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

import httpx2
import msgspec

from trioder.client import commands, reads
from trioder.client.connection import FEED_TIMEOUTS, LIMITS, connection_of, transport_errors
from trioder.client.errors import HeadendError
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


def _call(build: Callable[P, Operation[T]]) -> "Callable[Concatenate[HeadendClient, P], T]":
    def method(self: "HeadendClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(build(*args, **kwargs))

    return as_method(method, build)


def _pages(build: Callable[P, Listing[Row]]) -> "Callable[Concatenate[HeadendClient, P], Iterator[Row]]":
    def method(self: "HeadendClient", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Row]:
        return self.rows_of(build(*args, **kwargs))

    return as_method(method, build)


def _lines(build: Callable[P, LineList[Row]]) -> "Callable[Concatenate[HeadendClient, P], Lines[Row]]":
    def method(self: "HeadendClient", /, *args: P.args, **kwargs: P.kwargs) -> "Lines[Row]":
        return Lines(self, build(*args, **kwargs))

    return as_method(method, build)


class HeadendClient:
    """A headend's REST API and live feed. It may be shared by threads; close it, or use it with `with`.

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
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        if retries < 0:
            raise ValueError(f"retries is {retries}; it must be at least 0")
        connection = connection_of(url, token=token, ca_file=ca_file, timeouts=transport_timeouts)
        self._retries = retries
        self._rng = random.SystemRandom()
        self._http = httpx2.Client(
            base_url=connection.url,
            headers=connection.headers,
            verify=connection.verify,
            timeout=connection.timeouts,
            limits=LIMITS,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

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
    ) -> "FeedReader":
        """Follow the live feed: an iterator of its events, which has no end.

        It opens the feed again when it is lost, and resumes where it was; a `FeedLost` is among the events
        then, and a `CompleteEvent` when all is known again. Its first event comes from the first request.

        Args:
            site_ids: only the assets of these sites; all that the caller sees by default.
            asset_ids: only these assets.
            topics: only these; all by default.
            last_event_id: continue after this event, as a `FeedReader` had it.
        """
        feed = Feed(
            site_ids=site_ids,
            asset_ids=asset_ids,
            topics=topics,
            last_event_id=last_event_id,
            rng=self._rng,
        )
        return FeedReader(self, feed)

    def follow_dispatch(self, dispatch_id: str | None) -> Iterator[DispatchRow]:
        """Yield a dispatch as it is now, at least once a second, until it has ended."""
        wait = DispatchWait(dispatch_id, TERMINAL)
        while True:
            dispatch = self.send(wait.request)
            yield dispatch
            if dispatch.state in TERMINAL:
                return
            time.sleep(wait.next_delay_s())

    def wait_for_dispatch(
        self, dispatch_id: str | None, *, until: DispatchState | Iterable[DispatchState] = TERMINAL
    ) -> DispatchRow:
        """Return a dispatch when it has reached a state, or any of several; by default, when it has ended.

        A state that is passed is reached: `accepted` by `tracking`. There is no time limit: a dispatch
        without an end may never be over. `follow_dispatch` is for those who stop waiting.

        Raises:
            DispatchEnded: it has ended without that.
        """
        wait = DispatchWait(dispatch_id, until)
        while True:
            dispatch = self.send(wait.request)
            if wait.is_over(dispatch):
                return dispatch
            time.sleep(wait.next_delay_s())

    def send(self, operation: Operation[T]) -> T:
        """Send a request, again if that is safe, and return what its response means."""
        attempts = Attempts(operation, retries=self._retries, rng=self._rng)
        while True:
            try:
                with transport_errors(operation):
                    response = self._http.send(self._request(operation))
                return operation.result(response.status_code, response.headers, response.content)
            except HeadendError as failure:
                delay_s = attempts.delay_s(failure)
            time.sleep(delay_s)

    def rows_of(self, listing: Listing[Row]) -> Iterator[Row]:
        """Yield the rows of all pages."""
        cursor = PageCursor(listing)
        while (page := cursor.next_page()) is not None:
            rows = self.send(page)
            cursor.received(rows)
            yield from rows

    def open(self, operation: Operation[Any], *, timeouts: httpx2.Timeout | None = None) -> httpx2.Response:
        """Send a request once, and return the response before its body, which the caller reads and closes."""
        with transport_errors(operation):
            response = self._http.send(self._request(operation, timeouts), stream=True)
        if response.status_code in operation.statuses:
            return response
        try:
            with transport_errors(operation):
                body = response.read()
        finally:
            response.close()
        raise operation.failure(response.status_code, response.headers, body)

    def open_again(self, operation: Operation[Any]) -> httpx2.Response:
        """Open a response; send the request again if there is none."""
        attempts = Attempts(operation, retries=self._retries, rng=self._rng)
        while True:
            try:
                return self.open(operation)
            except HeadendError as failure:
                delay_s = attempts.delay_s(failure)
            time.sleep(delay_s)

    def _request(self, operation: Operation[Any], timeouts: httpx2.Timeout | None = None) -> httpx2.Request:
        return self._http.build_request(
            operation.method,
            operation.path,
            params=list(operation.query),
            content=operation.content,
            headers=dict(operation.headers),
            timeout=timeouts or self._http.timeout,
        )


class Lines(Generic[Row]):
    """The rows of a response that comes in lines: an iterator, read once. Use it with `with`, or read it all.

    A response that is cut off is `HeadendUnavailable`, whatever was read of it.
    """

    def __init__(self, client: HeadendClient, lines: LineList[Row]) -> None:
        self._operation = lines.operation
        self._rows = self._read(client, LineDecoder(lines))

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

    def _read(self, client: HeadendClient, decoder: LineDecoder[Row]) -> Generator[Row]:
        response = client.open_again(self._operation)
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

    def __init__(self, client: HeadendClient, feed: Feed) -> None:
        self._client = client
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
            self._response = self._client.open(self._operation, timeouts=FEED_TIMEOUTS)
            self._events = iter(httpx2.EventSource(self._response))
        with transport_errors(self._operation):
            received = next(self._events, None)
        if received is None:
            raise self._feed.ended()
        return self._feed.received(received.event, received.data, received.id)
