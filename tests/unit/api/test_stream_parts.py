"""The parts of the live feed on their own: ids, the ring of changes, filters, marks of what was written."""

from dataclasses import replace

import pytest
import trio

from tests.unit.api.feeds import follow
from tests.unit.api.rest import START_S, make_fleet, open_rest, uuid_of
from trioder.api.asset_query import FleetIndexes
from trioder.api.stream import feed as feed_module
from trioder.api.stream.changes import Change, ChangeRing, event_steps
from trioder.api.stream.sse import Event, EventId, EventIdError, with_ids, without_id
from trioder.api.stream.topics import TOPICS, topics_of
from trioder.api.stream.view import StreamFilter, View
from trioder.domain.access import EVERYTHING, Scope
from trioder.domain.fleet import Fleet
from trioder.domain.quality import Quality
from trioder.domain.telemetry import Samples
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.events.facts import BatchesLost
from trioder.ingest.latest import LatestState
from trioder.process.slices import run_at_once

ALL_TOPICS = frozenset(TOPICS)


def filter_of(
    *, scope: Scope = EVERYTHING, sites: list[int] | None = None, assets: list[int] | None = None
) -> StreamFilter:
    return StreamFilter(
        scope=scope,
        site_ids=None if sites is None else frozenset(map(uuid_of, sites)),
        asset_ids=None if assets is None else frozenset(uuid_of(1000 + key) for key in assets),
        topics=ALL_TOPICS,
    )


def view_of(fleet: Fleet, which: StreamFilter) -> View:
    return View(which, FleetIndexes(fleet).of(which.scope))


def change(number: int, *, size: int = 10, topic: str = "alarms") -> Change:
    return Change(topic, size, lambda _view: b"%d" % number)


def numbers(ring: ChangeRing, tick: int) -> list[int]:
    view = view_of(make_fleet(), filter_of())
    return [int(event.data) for event in run_at_once(event_steps(view, ring.since(tick)))]


@pytest.mark.parametrize("text", ["0c2f9a11.0", "0c2f9a11.1234", "0c2f9a11.1234.5"])
def test_an_id_is_read_as_it_was_written(text: str) -> None:
    assert str(EventId.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0c2f9a1.1",
        "0c2f9a11",
        "0c2f9a11.",
        "0c2f9a11.x",
        "0c2f9a11.1.",
        "0c2f9a11.\u0661",
        " 0c2f9a11.1",
        "0c2f9a11.1\n",
    ],
)
def test_what_no_headend_writes_is_no_id(text: str) -> None:
    with pytest.raises(EventIdError):
        EventId.parse(text)


def test_an_event_is_one_line_of_data() -> None:
    event = Event(b"fleet", b'{"a":"\\n"}')
    assert without_id(event) == b'event: fleet\ndata: {"a":"\\n"}\n\n'
    assert with_ids([event, event], "0c2f9a11", 7) == (
        b'id: 0c2f9a11.7.1\nevent: fleet\ndata: {"a":"\\n"}\n\n'
        b'id: 0c2f9a11.7\nevent: fleet\ndata: {"a":"\\n"}\n\n'
    )
    assert EventId.parse("0c2f9a11.7.1").complete_tick == 6


def test_the_ring_returns_what_is_newer() -> None:
    ring = ChangeRing()
    for tick in (3, 3, 5, 9):
        ring.append(tick, change(tick))
    assert [numbers(ring, tick) for tick in (0, 3, 8, 9)] == [[3, 3, 5, 9], [5, 9], [9], []]


def test_the_ring_drops_the_oldest_beyond_its_number() -> None:
    ring = ChangeRing(max_changes=3)
    for tick in range(1, 6):
        ring.append(tick, change(tick))
    assert (ring.start_tick, numbers(ring, 2)) == (2, [3, 4, 5])


def test_the_ring_drops_the_oldest_beyond_its_bytes() -> None:
    ring = ChangeRing(max_bytes=10_000)
    for tick in range(1, 101):
        ring.append(tick, change(tick, size=700))
    assert (ring.start_tick, numbers(ring, ring.start_tick)) == (90, list(range(91, 101)))
    # One that is too large by itself leaves nothing.
    ring.append(101, change(101, size=20_000))
    assert (ring.start_tick, ring.since(0)) == (101, [])


def test_an_emptied_ring_starts_at_its_tick() -> None:
    ring = ChangeRing(max_bytes=10_000)
    for tick in range(1, 10):
        ring.append(tick, change(tick, size=700))
    ring.clear(20)
    assert (ring.start_tick, ring.since(0)) == (20, [])
    for tick in range(21, 31):
        ring.append(tick, change(tick, size=700))
    assert ring.start_tick == 20


@pytest.mark.parametrize(
    ("which", "keys", "sites"),
    [
        (filter_of(), [0, 1, 2, 3, 4, 5], {0, 1, 2}),
        (filter_of(sites=[2, 0]), [0, 1, 4, 5], {0, 2}),
        (filter_of(assets=[4, 1]), [1, 4], None),
        (filter_of(sites=[0], assets=[4, 1]), [1], None),
        (filter_of(sites=[0], assets=[4]), [], None),
        (filter_of(scope=Scope(tenant="default", site_ids=frozenset({uuid_of(1)}))), [2, 3], {1}),
        (
            filter_of(scope=Scope(tenant="default", site_ids=frozenset({uuid_of(1)})), sites=[0], assets=[0]),
            [],
            None,
        ),
        (filter_of(scope=Scope(tenant="other")), [], set()),
    ],
)
def test_a_filter_selects_within_its_scope(
    which: StreamFilter, keys: list[int], sites: set[int] | None
) -> None:
    view = view_of(make_fleet(sites=3), which)
    assert list(view.keys) == keys
    assert view.key_set == set(keys)
    assert (None if view.sites is None else set(view.sites)) == (
        None if sites is None else set(map(uuid_of, sites))
    )


def samples_of(keys: list[int], *, quality: bytes = b"") -> Samples:
    values = [1.0] * len(keys)
    return Samples(
        ts_unix_ms=1_000,
        source="agent",
        asset_keys=keys,
        soc_mwhr=values,
        current_mw=values,
        setpoint_mw=values,
        available_discharge_mw=values,
        available_charge_mw=values,
        quality=quality,
    )


@pytest.mark.parametrize("keys", [[3], [1, 5, 7], list(range(2, 14)), [13, *range(12)]])
def test_the_latest_state_marks_what_was_written(keys: list[int]) -> None:
    latest = LatestState(make_fleet(sites=1, assets_a_site=20))
    latest.apply_agent(samples_of([0]), received_ms=1_000, batch_seq=1)
    assert latest.written is None
    latest.written = set()
    latest.apply_agent(samples_of(keys), received_ms=1_000, batch_seq=2)
    assert latest.written == set(keys)
    # A repeated batch changes nothing.
    latest.written = set()
    latest.apply_agent(samples_of(keys), received_ms=1_000, batch_seq=2)
    assert latest.written == set()
    latest.apply_synthesized(samples_of(keys))
    assert latest.written == set(keys)
    latest.clock_stepped(5)
    assert latest.written == set(range(20))


def test_the_columns_of_an_asset_are_its_latest_sample() -> None:
    latest = LatestState(make_fleet())
    assert latest.columns(0) is None
    latest.apply_agent(
        samples_of([0], quality=bytes([Quality.BAD])), received_ms=2_000, made_ms=1_500, batch_seq=1
    )
    columns = latest.columns(0)
    assert columns is not None
    assert columns[:4] == (True, Quality.BAD, 1_000, 1_500)
    assert columns.state == latest.state(0)


def test_a_subscription_is_emptied_without_waiting() -> None:
    bus = EventBus(Counters())
    with bus.subscribe(BatchesLost, name="test", bound=3) as subscription:
        assert subscription.take_all() == []
        facts = [BatchesLost("agent", number, 0) for number in range(5)]
        for fact in facts:
            bus.publish(fact)
        assert subscription.take_all() == facts[2:]
        assert (subscription.depth, subscription.delivered, subscription.dropped) == (0, 3, 2)


async def test_every_topic_that_has_facts_is_in_the_table(autojump_clock: object) -> None:
    async with open_rest() as rest:
        headend = rest.headend
        topics = topics_of(
            fleet=headend.fleet,
            dispatcher=headend.dispatcher,
            schedules=headend.schedules,
            alarms=headend.alarms.register,
            sessions=headend.sessions,
        )
    assert {"fleet", "telemetry", *topics} == ALL_TOPICS


async def test_only_some_groups_without_clients_are_kept(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_MAX_IDLE_GROUPS", 2)
    async with open_rest(tick_s=1.0) as rest:
        feed = rest.headend.feed
        for key in range(4):
            async with follow(rest, f"asset_id={uuid_of(1000 + key)}") as follower:
                await follower.until("telemetry")
        assert [list(group.view.keys) for group in feed._groups.values()] == [[2], [3]]
        assert feed.rows._rows.keys() == {2, 3}
        async with follow(rest, "topics=fleet"):
            await trio.sleep(61)
            assert feed._groups.keys() == {replace(filter_of(), topics=frozenset({"fleet"}))}
            assert feed.rows._rows == {}


async def test_a_clock_that_is_set_renews_all_rows(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest, "topics=telemetry") as follower:
        rest.connect(0)
        rest.report(0)
        await follower.next("telemetry")
        rest.headend.wall.adjust(3600.0)
        rest.headend.latest.clock_stepped(3_600_000)
        event = await follower.next("telemetry")
        assert event["rows"][0]["sampled_at"].startswith("2026-01-01T01:00:00")
        assert rest.headend.wall.now_s() > START_S + 3600
