"""The clients against a real headend's live feed: its events, its loss, and how it is resumed."""

import queue
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import httpx2
import pytest
import trio

from tests.integration.client.served import KINDS, Kind, Served, open_served
from tests.unit.access.documents import document_of, token_entry
from tests.unit.api.rest import uuid_of
from trioder.access.table import AccessTable, token_sha256
from trioder.client import (
    AsyncHeadendClient,
    BeginEvent,
    CompleteEvent,
    DispatchEvent,
    EndEvent,
    FeedEvent,
    FeedLost,
    FleetEvent,
    HeadendClient,
    NotFound,
    SessionEvent,
    TelemetryEvent,
    Unauthorized,
    async_client,
    sync_client,
)

pytestmark = pytest.mark.parametrize("kind", KINDS)


class Follower:
    """Reads a feed in a thread of its own, and has its events."""

    def __init__(self, kind: Kind, url: str, **options: Any) -> None:
        self.kind, self.url, self.options = kind, url, options
        self.events: queue.SimpleQueue[FeedEvent | Exception] = queue.SimpleQueue()
        self.stopped = threading.Event()

    def run(self) -> None:
        try:
            if self.kind == "sync":
                self._follow()
            else:
                anyio.run(self._follow_asynchronously, backend=self.kind)
        except Exception as error:  # noqa: BLE001  # the test judges it
            self.events.put(error)

    def _follow(self) -> None:
        with HeadendClient(self.url, token="") as client, client.stream(**self.options) as feed:
            for event in feed:
                self.events.put(event)
                if self.stopped.is_set():
                    return

    async def _follow_asynchronously(self) -> None:
        async with (
            AsyncHeadendClient(self.url, token="") as client,
            client.stream(**self.options) as feed,
        ):
            async for event in feed:
                self.events.put(event)
                if self.stopped.is_set():
                    return

    async def until(self, matches: Callable[[FeedEvent], bool]) -> list[FeedEvent]:
        """Return the events up to the first that matches."""
        seen: list[FeedEvent] = []
        while not seen or not matches(seen[-1]):
            event = await trio.to_thread.run_sync(partial(self.events.get, timeout=20))
            if isinstance(event, Exception):
                raise event
            seen.append(event)
        return seen

    async def until_type(self, kind: type) -> list[FeedEvent]:
        return await self.until(lambda event: isinstance(event, kind))


@asynccontextmanager
async def following(kind: Kind, served: Served, *, url: str = "", **options: Any) -> AsyncIterator[Follower]:
    follower = Follower(kind, url or served.url, **options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, follower.run)
        try:
            yield follower
        finally:
            follower.stopped.set()
            # Its last event comes at once.
            served.headend.closing.set()


async def test_a_snapshot_and_then_changes_have_their_types(kind: Kind) -> None:
    async with open_served() as served:
        served.rest.connect(*range(4))
        served.rest.report(*range(4))
        async with following(kind, served) as follower:
            begin, *snapshot = await follower.until_type(CompleteEvent)
            assert isinstance(begin, BeginEvent)
            assert (begin.assets, begin.resumed) == (4, False)
            kinds = {type(event) for event in snapshot}
            assert {FleetEvent, TelemetryEvent, SessionEvent} <= kinds
            [rows] = [event.rows for event in snapshot if isinstance(event, TelemetryEvent)]
            assert {row.current_mw for row in rows} == {5.0}
            await served.rest.post(b'{"asset_id": "%s", "mw": 1.0}' % uuid_of(1000).encode())
            *_, event = await follower.until_type(DispatchEvent)
            assert isinstance(event, DispatchEvent)
            assert event.dispatch.target.id == uuid_of(1000)
    assert len(served.headend.feed) == 0


async def test_only_what_was_asked_for_is_followed(kind: Kind) -> None:
    async with open_served() as served:
        served.rest.report(*range(4))
        options = {"topics": ["telemetry"], "asset_ids": [uuid_of(1003)]}
        async with following(kind, served, **options) as follower:
            events = await follower.until_type(CompleteEvent)
            assert [type(event) for event in events] == [BeginEvent, TelemetryEvent, CompleteEvent]
            assert [row.asset_id for row in events[1].rows] == [uuid_of(1003)]


async def test_a_headend_that_restarts_is_followed_on_within_5_s(kind: Kind) -> None:
    async with open_served() as served:
        url, port = served.url, served.port
        async with trio.open_nursery() as nursery:
            follower = Follower(kind, url, topics=["fleet"])
            nursery.start_soon(trio.to_thread.run_sync, follower.run)
            await follower.until_type(CompleteEvent)
            served.headend.closing.set()
            *_, end, lost = await follower.until_type(FeedLost)
            assert isinstance(end, EndEvent)
            assert isinstance(lost, FeedLost)
            assert lost.reason == end.reason == "the headend is stopping"
            await served.ended.wait()
            # It has tried in vain by then.
            await trio.sleep(1.0)
            async with open_served(port=port):
                with trio.fail_after(5):
                    begin, *_, complete = await follower.until_type(CompleteEvent)
                assert isinstance(begin, BeginEvent)
                assert "Last-Event-ID is of another run of the feed" in begin.reason
                assert isinstance(complete, CompleteEvent)
                follower.stopped.set()


async def test_a_connection_that_breaks_is_resumed_where_it_was(kind: Kind) -> None:
    async with open_served() as served, trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        scopes: list[trio.CancelScope] = []

        async def forward(source: trio.SocketStream, sink: trio.SocketStream) -> None:
            async for data in source:
                await sink.send_all(data)

        async def proxy(client: trio.SocketStream) -> None:
            with trio.CancelScope() as scope:
                scopes.append(scope)
                async with (
                    await trio.open_tcp_stream("127.0.0.1", served.port) as server,
                    trio.open_nursery() as both,
                ):
                    both.start_soon(forward, client, server)
                    await forward(server, client)

        nursery.start_soon(trio.serve_listeners, proxy, [listener])
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with following(kind, served, url=url, topics=["fleet"]) as follower:
            await follower.until_type(CompleteEvent)
            await follower.until_type(FleetEvent)
            scopes[0].cancel()
            await follower.until_type(FeedLost)
            begin, *_ = await follower.until_type(CompleteEvent)
            assert isinstance(begin, BeginEvent)
            assert begin.resumed
        nursery.cancel_scope.cancel()


async def test_a_silent_headend_is_lost(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has accepted the request, sends a snapshot, and nothing more: its machine was cut off."""
    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        b'event: complete\ndata: {"at": "2026-01-01T00:00:00.000Z"}\n\n'
    )
    for module in (sync_client, async_client):
        monkeypatch.setattr(module, "FEED_TIMEOUTS", httpx2.Timeout(0.5))

    async def serve(client: trio.SocketStream) -> None:
        await client.receive_some()
        await client.send_all(answer)
        # Until the client leaves.
        await client.receive_some()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            follower = Follower(kind, f"http://127.0.0.1:{listener.socket.getsockname()[1]}")
            nursery.start_soon(trio.to_thread.run_sync, follower.run)
            await follower.until_type(CompleteEvent)
            *_, lost = await follower.until_type(FeedLost)
            assert isinstance(lost, FeedLost)
            assert "ReadTimeout" in lost.reason
            follower.stopped.set()
            # The last event that it takes.
            await follower.until_type(CompleteEvent)
            nursery.cancel_scope.cancel()


async def test_a_feed_that_is_not_permitted_is_an_error(kind: Kind) -> None:
    entry = token_entry(sha256=token_sha256("secret"), tenant="default", expires_at=None)
    table = AccessTable(document_of(entry))
    async with open_served(access=table) as served, following(kind, served) as follower:
        with pytest.raises(Unauthorized):
            await follower.until_type(BeginEvent)
    async with open_served() as served, following(kind, served, site_ids=[uuid_of(77)]) as follower:
        with pytest.raises(NotFound):
            await follower.until_type(BeginEvent)
