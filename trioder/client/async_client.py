"""The client for asynchronous programs, under asyncio or Trio."""

import random
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import anyio
import httpx2

from trioder.client import commands, reads
from trioder.client.async_readers import AsyncFeedReader, AsyncLines, AsyncPages
from trioder.client.connection import FEED_TIMEOUTS, LIMITS, connection_of, transport_errors
from trioder.client.errors import HeadendError
from trioder.client.feed import Feed, Topic
from trioder.client.lists import LineList, Listing
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
        return await self._send(build(*args, **kwargs))

    return as_method(method, build)


def _pages(
    build: Callable[P, Listing[Row]],
) -> "Callable[Concatenate[AsyncHeadendClient, P], AsyncPages[Row]]":
    def method(self: "AsyncHeadendClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncPages[Row]:
        return AsyncPages(self._send, build(*args, **kwargs))

    return as_method(method, build)


def _lines(
    build: Callable[P, LineList[Row]],
) -> "Callable[Concatenate[AsyncHeadendClient, P], AsyncLines[Row]]":
    def method(self: "AsyncHeadendClient", /, *args: P.args, **kwargs: P.kwargs) -> "AsyncLines[Row]":
        return AsyncLines(self._open_again, build(*args, **kwargs))

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
        retries: how often a repeatable request is sent again, after 0.25 s to 5 s or after its `Retry-After`.
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
    fleet_power = _call(reads.fleet_power)
    site_power = _call(reads.site_power)
    fleet_history = _call(reads.fleet_history)
    site_history = _call(reads.site_history)
    site_limits = _call(reads.site_limits)
    set_site_limits = _call(commands.set_site_limits)
    remove_site_limits = _call(commands.remove_site_limits)
    telemetry = _pages(reads.telemetry)
    asset_telemetry = _call(reads.asset_telemetry)
    history = _lines(reads.history)
    history_buckets = _lines(reads.history_buckets)
    agents = _pages(reads.agents)
    agent_processes = _call(reads.agent_processes)
    sessions = _pages(reads.sessions)
    dispatch = _call(commands.dispatch)
    show_dispatch = _call(reads.show_dispatch)
    allocations = _pages(reads.allocations)
    dispatches = _pages(reads.dispatches)
    cancel_dispatch = _call(commands.cancel_dispatch)
    stops = _call(reads.stops)
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
            topics: only these; all but `sites` by default.
            last_event_id: continue after this event, as an `AsyncFeedReader` had it.
        """
        feed = Feed(
            site_ids=site_ids,
            asset_ids=asset_ids,
            topics=topics,
            last_event_id=last_event_id,
            rng=self._rng,
        )
        return AsyncFeedReader(partial(self._open, timeouts=FEED_TIMEOUTS), feed)

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
            dispatch = await self._send(wait.request)
            if wait.is_over(dispatch):
                return dispatch
            await anyio.sleep(wait.next_delay_s())

    async def _send(self, operation: Operation[T]) -> T:
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

    async def _open(
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

    async def _open_again(self, operation: Operation[Any]) -> httpx2.Response:
        """Open a response; send the request again if there is none."""
        attempts = Attempts(operation, retries=self._retries, rng=self._rng)
        while True:
            try:
                return await self._open(operation)
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
