"""The live feed without a network: its events, what it resumes, and when it is lost."""

import random
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any, get_args

import httpx2
import msgspec
import pytest
import trio

from trioder.api.stream.topics import ALL_TOPICS
from trioder.client import (
    AsyncHeadendClient,
    BeginEvent,
    CompleteEvent,
    EndEvent,
    FeedEvent,
    FeedLost,
    HeadendClient,
    HeartbeatEvent,
    NotFound,
    Unauthorized,
    UnexpectedResponse,
)
from trioder.client import sync_readers as sync_module
from trioder.client.feed import Feed, Topic
from trioder.schemas import stream as schemas
from trioder.schemas.stream import MomentEvent

AT = "2026-01-01T00:00:00.000Z"
BEGIN = BeginEvent(at=AT, resumed=False, reason="first", topics=["fleet"], assets=1, heartbeat_s=2.0)


def event(name: str, data: msgspec.Struct, event_id: str = "") -> bytes:
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {name}\ndata: {msgspec.json.encode(data).decode()}\n\n".encode()


RETRY = b"retry: 2000\n\n"
SNAPSHOT = RETRY + event("begin", BEGIN) + event("complete", MomentEvent(at=AT), "a.1")
HEARTBEAT = event("heartbeat", MomentEvent(at=AT), "a.2")
END = event("end", EndEvent(at=AT, reason="the headend is stopping"))


class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """Parts of a stream, then its end, an error, or nothing more for ever."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            await trio.lowlevel.checkpoint()
            if isinstance(part, Exception):
                raise part
            yield part


class Headend:
    """Answers each request for the feed with the next of its bodies, the last for ever."""

    def __init__(self, *answers: httpx2.Response | Exception | Body) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.at_s: list[float] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        match answer:
            case Exception():
                raise answer
            case Body():
                return httpx2.Response(200, stream=answer, headers={"content-type": "text/event-stream"})
            case _:
                return httpx2.Response(answer.status_code, content=answer.content, headers=answer.headers)

    async def asynchronous(self, request: httpx2.Request) -> httpx2.Response:
        self.at_s.append(trio.current_time())
        return self(request)


async def events_of(headend: Headend, count: int, **options: Any) -> list[FeedEvent]:
    transport = httpx2.MockTransport(headend.asynchronous)
    async with (
        AsyncHeadendClient("http://headend", token="", transport=transport) as client,
        client.stream(**options) as feed,
    ):
        return [await anext(feed) for _ in range(count)]


def refusal(status: int, **headers: str) -> httpx2.Response:
    return httpx2.Response(
        status,
        json={"error": "code", "message": "why"},
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def feed() -> Feed:
    return Feed(rng=random.Random(1))


def test_the_events_are_those_of_the_schemas() -> None:
    for name, kind in schemas.EVENTS.items():
        sample = {"complete": CompleteEvent, "heartbeat": HeartbeatEvent}.get(name, kind)
        assert issubclass(sample, kind)
        with pytest.raises(UnexpectedResponse, match=f"the data of a {name} event of /stream: "):
            feed().received(name, "{}", "")
        assert sample in get_args(FeedEvent)


def test_the_topics_are_the_headend_s() -> None:
    assert get_args(Topic) == ALL_TOPICS


async def test_events_have_types(autojump_clock: object) -> None:
    begin, complete, heartbeat = await events_of(Headend(Body(SNAPSHOT, HEARTBEAT)), 3)
    assert begin == BEGIN
    assert complete == CompleteEvent(at=AT)
    assert heartbeat == HeartbeatEvent(at=AT)


async def test_an_event_of_a_later_version_is_passed_over(autojump_clock: object) -> None:
    body = Body(RETRY, event("begin", BEGIN), event("weather", MomentEvent(at=AT), "a.1"), HEARTBEAT)
    assert await events_of(Headend(body), 2) == [BEGIN, HeartbeatEvent(at=AT)]


async def test_the_request_has_the_filters(autojump_clock: object) -> None:
    headend = Headend(Body(SNAPSHOT))
    await events_of(
        headend, 1, site_ids=["s"], asset_ids=["a", "b"], topics=["fleet", "alarms"], last_event_id="a.7"
    )
    [request] = headend.requests
    assert request.url.path == "/stream"
    assert request.url.params.multi_items() == [
        ("site_id", "s"),
        ("asset_id", "a"),
        ("asset_id", "b"),
        ("topics", "fleet,alarms"),
    ]
    assert request.headers["last-event-id"] == "a.7"
    assert request.headers["accept"] == "text/event-stream"


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (b"", "the headend closed the connection"),
        (httpx2.ReadError("reset"), "GET http://headend/stream: ReadError: reset"),
        (httpx2.ReadTimeout("silent"), "GET http://headend/stream: ReadTimeout: silent"),
    ],
)
async def test_a_lost_feed_is_reported_once_and_resumed(
    autojump_clock: object, last: bytes | Exception, reason: str
) -> None:
    away = [httpx2.ConnectError("refused"), refusal(503), refusal(429)]
    headend = Headend(Body(SNAPSHOT, HEARTBEAT, last), *away, Body(SNAPSHOT))
    *_, lost, again, complete = await events_of(headend, 6)
    assert isinstance(lost, FeedLost)
    assert lost.reason == reason
    assert (again, complete) == (BEGIN, CompleteEvent(at=AT))
    assert [request.headers.get("last-event-id") for request in headend.requests] == [None, *["a.2"] * 4]


async def test_the_reason_of_an_end_is_that_of_the_loss(autojump_clock: object) -> None:
    *_, end, lost = await events_of(Headend(Body(SNAPSHOT, END)), 4)
    assert isinstance(end, EndEvent)
    assert isinstance(lost, FeedLost)
    assert lost.reason == "the headend is stopping"


async def test_a_snapshot_that_is_cut_off_begins_where_it_began(autojump_clock: object) -> None:
    first = Body(SNAPSHOT)
    headend = Headend(first, Body(RETRY, event("begin", BEGIN)), Body(SNAPSHOT))
    await events_of(headend, 5)
    assert [request.headers.get("last-event-id") for request in headend.requests] == [None, "a.1", "a.1"]


async def test_a_feed_that_is_lost_twice_is_reported_twice(autojump_clock: object) -> None:
    events = await events_of(Headend(Body(SNAPSHOT)), 6)
    kinds = [BeginEvent, CompleteEvent, FeedLost]
    assert [type(each) for each in events] == kinds * 2


async def test_it_is_opened_again_at_growing_random_intervals(autojump_clock: object) -> None:
    headend = Headend(*[httpx2.ConnectError("refused")] * 12, Body(SNAPSHOT))
    lost, _, complete, _ = await events_of(headend, 4)
    assert isinstance(lost, FeedLost)
    assert isinstance(complete, CompleteEvent)
    waited_s = [later - at for at, later in pairwise(headend.at_s)]
    assert waited_s[0] == pytest.approx(lost.retry_s)
    assert all(0 < wait_s <= min(4.0, 0.25 * 2**n) for n, wait_s in enumerate(waited_s))
    assert len(set(waited_s)) == len(waited_s)
    assert max(waited_s) > 1.0


async def test_the_first_interval_is_short_again_after_a_complete_feed(autojump_clock: object) -> None:
    headend = Headend(*[httpx2.ConnectError("refused")] * 12, Body(SNAPSHOT), Body(SNAPSHOT))
    await events_of(headend, 5)
    assert headend.at_s[-1] - headend.at_s[-2] <= 0.25


async def test_it_waits_for_retry_after(autojump_clock: object) -> None:
    headend = Headend(refusal(429, retry_after="9"), Body(SNAPSHOT))
    lost, _ = await events_of(headend, 2)
    assert isinstance(lost, FeedLost)
    assert lost.retry_s == 9.0
    assert headend.at_s[1] - headend.at_s[0] == pytest.approx(9.0)


async def test_it_does_not_wait_for_hours(autojump_clock: object) -> None:
    headend = Headend(refusal(429, retry_after="86400"), Body(SNAPSHOT))
    lost, _ = await events_of(headend, 2)
    assert isinstance(lost, FeedLost)
    assert lost.retry_s == 60.0
    assert headend.at_s[1] - headend.at_s[0] == pytest.approx(60.0)


@pytest.mark.parametrize(
    ("status", "kind"), [(401, Unauthorized), (404, NotFound), (500, UnexpectedResponse)]
)
async def test_what_would_fail_again_ends_the_feed(
    autojump_clock: object, status: int, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await events_of(Headend(refusal(status)), 1)
    # Also once it was open: a token that is revoked.
    with pytest.raises(kind):
        await events_of(Headend(Body(SNAPSHOT), refusal(status)), 4)


async def test_the_silence_of_the_headend_is_bounded(autojump_clock: object) -> None:
    headend = Headend(Body(SNAPSHOT))
    await events_of(headend, 1)
    assert headend.requests[0].extensions["timeout"]["read"] == 5.0


def test_the_client_for_threads_follows_the_same_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    slept_s: list[float] = []
    monkeypatch.setattr(sync_module.time, "sleep", slept_s.append)
    headend = Headend(
        Body(SNAPSHOT, HEARTBEAT, httpx2.ReadError("reset")),
        httpx2.ConnectError("refused"),
        Body(SNAPSHOT, END),
        refusal(401),
    )
    transport = httpx2.MockTransport(headend)
    with (
        HeadendClient("http://headend", token="", transport=transport) as client,
        client.stream(topics=["fleet"]) as reader,
    ):
        kinds = [type(next(reader)) for _ in range(8)]
        assert reader.last_event_id == "a.1"
        with pytest.raises(Unauthorized):
            next(reader)
    first = [BeginEvent, CompleteEvent, HeartbeatEvent, FeedLost]
    assert kinds == [*first, BeginEvent, CompleteEvent, EndEvent, FeedLost]
    assert [request.headers.get("last-event-id") for request in headend.requests] == [
        None,
        "a.2",
        "a.2",
        "a.1",
    ]
    assert len([delay_s for delay_s in slept_s if delay_s]) == 3


def test_an_iterator_goes_on_where_it_was_closed() -> None:
    headend = Headend(Body(SNAPSHOT, HEARTBEAT))
    with HeadendClient("http://headend", token="", transport=httpx2.MockTransport(headend)) as client:
        with client.stream() as reader:
            next(reader)
            next(reader)
        assert isinstance(next(reader), BeginEvent)
        reader.close()
    assert headend.requests[1].headers["last-event-id"] == "a.1"


async def test_a_read_that_was_cancelled_is_no_loss(autojump_clock: object) -> None:
    headend = Headend(Body(SNAPSHOT, HEARTBEAT), Body(SNAPSHOT))
    transport = httpx2.MockTransport(headend.asynchronous)
    async with (
        AsyncHeadendClient("http://headend", token="", transport=transport) as client,
        client.stream() as reader,
    ):
        assert [await anext(reader) for _ in range(2)] == [BEGIN, CompleteEvent(at=AT)]
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(reader)
        assert scope.cancelled_caught
        assert await anext(reader) == BEGIN
    assert headend.requests[1].headers["last-event-id"] == "a.1"
