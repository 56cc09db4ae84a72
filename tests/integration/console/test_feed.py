"""The live feed through the console: a real headend behind it, clients that leave, either side that ends."""

import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from tests.integration.api.test_stream import Stream, open_served
from tests.integration.console.rig import (
    EVENTS,
    Console,
    answering,
    open_console,
    open_scripted,
    until,
)


async def open_feed(console: Console, query: str = "", **headers: str) -> Stream:
    stream = await console.connect()
    await stream.send_all(console.request("GET", f"/api/stream{query}", **headers))
    return Stream(stream)


async def test_an_event_arrives_at_once() -> None:
    async def tick(stream: trio.SocketStream, _request: bytes) -> None:
        await stream.send_all(EVENTS)
        for number in range(5):
            await go.acquire()
            await stream.send_all(b"9\r\ndata: %d\n\n\r\n" % number)

    go = trio.Semaphore(0)
    async with (
        open_scripted(tick) as headend,
        open_console(headend.port) as console,
        await open_feed(console) as feed,
    ):
        await feed.until(b"\r\n\r\n")
        for number in range(5):
            go.release()
            with trio.fail_after(0.5):
                await feed.until(b"data: %d\n\n" % number)


async def test_the_feed_of_a_headend_and_its_resumption() -> None:
    async with open_served() as served, open_console(served.port) as console:
        async with await open_feed(console, "?topics=telemetry") as feed:
            received = await feed.until(b"event: complete")
            assert b"content-type: text/event-stream" in received
            assert b"x-accel-buffering: no" in received
            await feed.until(b"event: telemetry")
            last = feed.received.rpartition(b"\nid: ")[2].split(b"\n")[0].decode()
        async with await open_feed(console, "?topics=telemetry", last_event_id=last) as feed:
            await feed.until(b'"resumed":')
            assert b"there is no Last-Event-ID" not in feed.received


async def test_a_client_that_leaves_ends_its_feed_in_the_headend() -> None:
    with capture_logs() as lines:
        async with open_served() as served, open_console(served.port) as console:
            for _ in range(3):
                async with await open_feed(console) as feed:
                    await feed.until(b"event: complete")
                with trio.fail_after(1):
                    await until(lambda: len(served.headend.feed) == 0)
                    await until(lambda: console.client.open_requests == 0)
    assert not [line for line in lines if "crash" in str(line["event"])]


async def test_many_feeds_at_once_do_not_wait_for_each_other() -> None:
    async with open_served() as served, open_console(served.port) as console:
        feeds = [await open_feed(console, "?topics=fleet") for _ in range(120)]
        for feed in feeds:
            await feed.until(b"event: complete")
        assert len(served.headend.feed.clients) == 120
        assert (await console.ask("GET", "/api/fleet")).status == 200
        for feed in feeds:
            await trio.aclose_forcefully(feed.stream)
        await until(lambda: len(served.headend.feed.clients) == 0)


async def test_a_headend_that_stops_ends_the_feed_in_order() -> None:
    async with (
        open_served() as served,
        open_console(served.port) as console,
        await open_feed(console) as feed,
    ):
        await feed.until(b"event: complete")
        served.headend.closing.set()
        with trio.fail_after(1):
            await feed.until(b"\r\n0\r\n\r\n")


async def test_a_headend_that_is_gone_ends_the_feed_without_its_last_chunk() -> None:
    async def vanish(stream: trio.SocketStream, _request: bytes) -> None:
        await stream.send_all(EVENTS + b"9\r\ndata: 0\n\n\r\n")
        await gone.wait()
        await stream.aclose()

    gone = trio.Event()
    async with (
        open_scripted(vanish) as headend,
        open_console(headend.port) as console,
        await open_feed(console) as feed,
    ):
        await feed.until(b"data: 0")
        gone.set()
        with trio.fail_after(1):
            received = b"".join([part async for part in feed.stream])
        assert b"0\r\n\r\n" not in received


async def test_a_console_that_stops_ends_feeds_in_order_and_begins_none() -> None:
    async with open_served() as served, open_console(served.port) as console:
        async with await open_feed(console) as feed, await console.connect() as idle:
            await feed.until(b"event: complete")
            await idle.send_all(console.request("GET", "/alarms"))
            await idle.receive_some()
            console.app.end_feeds()
            with trio.fail_after(1):
                await feed.until(b"\r\n0\r\n\r\n")
            refused = await console.ask("GET", "/api/stream")
            assert (refused.status, refused.json["error"]) == (503, "unavailable")
            console.shutdown.set()
            with trio.fail_after(1):
                await console.ended.wait()
        await until(lambda: len(served.headend.feed) == 0)


async def test_a_console_that_stops_does_not_wait_for_a_silent_feed() -> None:
    async def fall_silent(stream: trio.SocketStream, _request: bytes) -> None:
        await stream.send_all(EVENTS + b"9\r\ndata: 0\n\n\r\n")
        await stream.receive_some()

    async with (
        open_scripted(fall_silent) as headend,
        open_console(headend.port) as console,
        await open_feed(console) as feed,
    ):
        await feed.until(b"data: 0")
        await wait_all_tasks_blocked(0.02)
        console.app.end_feeds()
        with trio.fail_after(1):
            await feed.until(b"\r\n0\r\n\r\n")
            await until(lambda: headend.connections == 0)


async def test_an_error_of_the_feed_is_no_feed() -> None:
    answer = answering("404 Not Found", body=b'{"error":"not_found","message":"no site"}')
    async with open_scripted(answer) as headend, open_console(headend.port) as console:
        response = await console.ask("GET", "/api/stream?site_id=x")
    assert (response.status, response.json["message"]) == (404, "no site")
