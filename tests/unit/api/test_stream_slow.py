"""Clients of `GET /stream` that read slowly or not at all, and what clients share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from tests.unit.api.feeds import Follower, alarm, dispatch, follow
from tests.unit.api.rest import Rest, make_fleet, open_rest
from trioder.api.stream.client import StreamClient
from trioder.api.stream.topics import TOPICS
from trioder.api.stream.view import StreamFilter
from trioder.domain.access import EVERYTHING

EVERY_TOPIC = StreamFilter(scope=EVERYTHING, site_ids=None, asset_ids=None, topics=frozenset(TOPICS))


class StuckWriter:
    """The connection of a client that reads so many pieces, each after some time, and then no more."""

    def __init__(self, *, reads: int, after_s: float = 0.0) -> None:
        self.reads = reads
        self.after_s = after_s
        self.written: list[bytes] = []
        self.closed = False

    async def send(self, data: bytes) -> None:
        self.written.append(data)
        if len(self.written) > self.reads:
            await trio.sleep_forever()
        await trio.sleep(self.after_s)

    def close(self) -> None:
        self.closed = True


async def never_ends() -> str | None:
    return None


@asynccontextmanager
async def written_to(rest: Rest, writer: StuckWriter) -> AsyncIterator[trio.Event]:
    """Write the stream of everything; yield what is set when it has ended."""
    ended = trio.Event()

    async def write() -> None:
        async with rest.headend.feed.open_group(EVERY_TOPIC) as group:
            client = StreamClient(rest.headend.feed, group, last=None, recheck=never_ends, described={})
            await client.write_to(writer)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        yield ended
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("reads", [0, 3, 12])
async def test_a_client_that_does_not_read_is_dropped_after_30_s(autojump_clock: object, reads: int) -> None:
    async with open_rest() as rest:
        rest.connect(0)
        rest.report(0)
        writer = StuckWriter(reads=reads)
        with capture_logs() as lines:
            async with written_to(rest, writer) as ended:
                while len(writer.written) <= reads:
                    await trio.sleep(0.1)
                stuck_s = trio.current_time()
                await ended.wait()
                assert 29.5 < trio.current_time() - stuck_s < 31.5
        assert writer.closed
        assert len(rest.headend.feed) == 0
        assert rest.headend.counters.streams_dropped == 1
        [line] = [line for line in lines if line["event"] == "stream ended"]
        assert line["reason"] == "the client did not read"


async def test_a_client_that_reads_slowly_is_not_dropped_and_skips_to_the_newest(
    autojump_clock: object,
) -> None:
    async with open_rest() as rest:
        rest.connect(0)
        writer = StuckWriter(reads=10**6, after_s=20.0)
        async with written_to(rest, writer) as ended:
            for second in range(400):
                rest.report(0, current_mw=second / 100)
                await trio.sleep(1)
            assert not ended.is_set()
        written = b"".join(writer.written)
        values = [float(part.split(b",")[0]) for part in written.split(b'"current_mw":')[1:]]
        assert values == sorted(values)
        # Of 400, some: each the newest of its time.
        assert len(set(values)) < 25
        assert rest.headend.counters.stream_updates_conflated > 300
        assert rest.headend.counters.streams_dropped == 0


async def test_a_client_that_lags_has_no_dispatch_skipped(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0)
        async with follow(rest, "topics=dispatch", buffer=0) as follower:
            await follower.until("complete")
            made = []
            for _ in range(30):
                made.append(await dispatch(rest))
                await trio.sleep(1)
            seen = [
                event.data["dispatch"]["dispatch_id"]
                for event in await follower.within(1.5)
                if event.name == "dispatch"
            ]
    assert list(dict.fromkeys(seen)) == made


async def test_a_client_that_lags_too_far_is_sent_a_snapshot(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.headend.feed.ring._max_changes = 5
        async with follow(rest, "topics=alarms", buffer=0) as follower:
            await follower.until("complete")
            for number in range(20):
                rest.headend.alarms.register.raise_alarm(alarm(number))
                await trio.sleep(1)
            begin = (await follower.until("begin"))[-1].data
            assert (begin["resumed"], begin["reason"]) == (False, "the client is too far behind")
            events = await follower.until("complete")
    assert [event.data["transition"] for event in events[:-1]] == ["open"] * 20


async def test_clients_with_equal_filters_are_sent_the_same_bytes(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0)
        writers = [StuckWriter(reads=10**6) for _ in range(3)]
        async with (
            written_to(rest, writers[0]),
            written_to(rest, writers[1]),
            written_to(rest, writers[2]),
        ):
            await trio.sleep(1)
            rest.report(0)
            await trio.sleep(1)
        last = [writer.written[-1] for writer in writers]
        assert last[0] is last[1] is last[2]


async def test_a_large_event_is_written_in_pieces(autojump_clock: object) -> None:
    async with open_rest(fleet=make_fleet(sites=1, assets_a_site=1200)) as rest:
        rest.connect(*range(1200))
        rest.report(*range(1200))
        writer = StuckWriter(reads=10**6)
        async with written_to(rest, writer):
            await trio.sleep(1)
        assert max(map(len, writer.written)) <= 32 * 1024
        follower = Follower(receive=trio.open_memory_channel[bytes](0)[1])
        follower._text = b"".join(writer.written).decode()
        events = await follower.until("complete")
        assert [len(event.data["rows"]) for event in events if event.name == "telemetry"] == [500, 500, 200]
