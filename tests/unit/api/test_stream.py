"""`GET /stream` in virtual time: what a client is sent, when, and what it is refused."""

from dataclasses import replace

import msgspec
import pytest
import trio
import trio.testing

from tests.unit.api.feeds import ASSET, Received, alarm, dispatch, follow, names, opened, post_schedule
from tests.unit.api.rest import open_rest, uuid_of
from trioder.api.stream.topics import ALL_TOPICS
from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet
from trioder.domain.quality import Quality
from trioder.events.facts import SessionClosed
from trioder.schemas.stream import EVENTS, TelemetryEvent


async def test_a_snapshot_comes_first(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0, 1)
        rest.report(0, 1)
        dispatch_id = await dispatch(rest)
        rest.headend.alarms.register.raise_alarm(alarm())
        async with follow(rest) as follower:
            events = await follower.until("complete")
    assert follower.status == 200
    assert follower.headers["content-type"] == "text/event-stream"
    assert follower.headers["cache-control"] == "no-store"
    order = ["begin", "fleet", "telemetry", "dispatch", "alarms", "sessions", "complete"]
    assert names(events) == order
    by_name = {event.name: event.data for event in events}
    assert (by_name["begin"]["resumed"], by_name["begin"]["assets"]) == (False, 4)
    assert by_name["fleet"]["connected_assets"] == 2
    assert [row["asset_id"] for row in by_name["telemetry"]["rows"]] == [ASSET, uuid_of(1001)]
    assert by_name["dispatch"]["dispatch"]["dispatch_id"] == dispatch_id
    assert (by_name["alarms"]["transition"], by_name["alarms"]["alarm"]["kind"]) == ("open", "soc_limit")
    assert (by_name["sessions"]["transition"], by_name["sessions"]["agent_id"]) == ("open", "agent-1")
    # One that is cut off in its snapshot must not resume in the middle of it.
    assert [bool(event.id) for event in events] == [False] * 6 + [True]


async def test_every_event_has_the_documented_type(autojump_clock: object) -> None:
    async with open_rest() as rest:
        session = rest.connect(0, 1)
        async with follow(rest, f"topics={','.join(ALL_TOPICS)}") as follower:
            events = await follower.until("complete")
            rest.report(0, 1)
            rest.headend.events.publish(opened(session))
            rest.headend.alarms.register.raise_alarm(alarm())
            await dispatch(rest)
            await post_schedule(rest, 1)
            await trio.sleep(2.0)
            rest.headend.closing.set()
            events += await follower.until("end")
        async with open_rest() as other, follow(other, "topics=dispatch") as follower:
            events += await follower.until("heartbeat")
    assert set(names(events)) == EVENTS.keys()
    for event in events:
        encoded = msgspec.json.encode(event.data)
        value = msgspec.json.decode(encoded, type=EVENTS[event.name])
        assert msgspec.to_builtins(value) == event.data


async def test_a_row_has_the_values_of_get_telemetry(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest) as follower:
        await follower.until("complete")
        rest.connect(0)
        rest.report(0, current_mw=-3.25, soc_mwhr=17.5, available_mw=(9.0, 7.5))
        await dispatch(rest, f'{{"asset_id": "{ASSET}", "mw": 3, "duration_s": 60}}')
        row = await follower.next_row(ASSET)
        latest = await rest.get(f"/telemetry/{ASSET}")
    compared = row.keys() & latest.keys()
    assert {name: row[name] for name in compared} == {name: latest[name] for name in compared}
    assert row.keys() - latest.keys() == {"sampled_at", "connected", "ends_at"}
    assert (row["connected"], row["ends_at"]) == (True, "2026-01-01T00:01:00.000Z")


@pytest.mark.parametrize("quality", [Quality.SUSPECT, Quality.BAD])
async def test_values_that_are_not_finite_are_null_and_have_their_quality(
    autojump_clock: object, quality: Quality
) -> None:
    async with open_rest() as rest, follow(rest) as follower:
        rest.connect(0)
        rest.report(0, current_mw=float("nan"), quality=quality)
        row = await follower.next_row(ASSET)
    assert (row["current_mw"], row["status"], row["quality"]) == (None, None, quality.name.lower())


async def test_an_asset_changes_within_a_third_of_a_second_and_only_the_newest_value_is_sent(
    autojump_clock: object,
) -> None:
    async with open_rest() as rest, follow(rest, "topics=telemetry") as follower:
        rest.connect(0, 1)
        await follower.until("complete")
        await trio.sleep(5.03)
        began_s = trio.current_time()
        for power_mw in (1.0, 2.0, 3.0):
            rest.report(0, current_mw=power_mw)
        event = await follower.next("telemetry")
        assert [row["current_mw"] for row in event["rows"]] == [3.0]
        assert trio.current_time() - began_s < 0.3


async def test_at_most_five_chunks_a_second_are_written(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest, "topics=telemetry") as follower:
        rest.connect(0)
        await follower.until("complete")
        for number in range(100):
            await trio.sleep(0.1)
            rest.report(0, current_mw=number / 10)
        events = await follower.within(0.4)
        assert 45 <= len(events) <= 52
        assert events[-1].data["rows"][0]["current_mw"] == 9.9


async def test_the_sums_come_once_a_second_and_are_those_of_get_fleet(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest, "topics=fleet") as follower:
        rest.connect(0, 1)
        rest.report(0, 1, current_mw=2.5)
        await follower.until("complete")
        events = await follower.within(20.0)
        assert set(names(events)) == {"fleet"}
        assert 19 <= len(events) <= 21
        rest.report(0, 1, current_mw=4.5)
        # What can be held for a quarter of an hour is computed every 5 s.
        last = (await follower.within(6.0))[-1].data
        assert {name: last[name] for name in last if name != "at"} == await rest.get("/fleet")


async def test_something_comes_at_least_every_two_seconds(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest, "topics=dispatch") as follower:
        await follower.until("complete")
        for _ in range(20):
            with trio.fail_after(2.0):
                assert (await follower.event()).name == "heartbeat"


async def test_an_asset_that_goes_stale_is_sent_as_stale(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest, "topics=telemetry") as follower:
        rest.connect(0)
        rest.report(0)
        assert (await follower.next_row(ASSET))["quality"] == "good"
        with trio.fail_after(13.5):
            row = await follower.next_row(ASSET)
        assert (row["quality"], row["sampled_at"]) == ("stale", "2026-01-01T00:00:00.000Z")
        # Once.
        with pytest.raises(trio.TooSlowError), trio.fail_after(30):
            await follower.next_row(ASSET)
        rest.report(0)
        assert (await follower.next_row(ASSET))["quality"] == "good"


async def test_an_asset_whose_agent_goes_is_sent_as_disconnected(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest, "topics=telemetry,sessions") as follower:
        session = rest.connect(0)
        rest.headend.events.publish(opened(session))
        rest.report(0)
        assert (await follower.next("sessions"))["transition"] in {"open", "opened"}
        assert (await follower.next_row(ASSET))["connected"] is True
        rest.headend.sessions.release(session)
        rest.headend.events.publish(SessionClosed(*session.subject, "the connection was lost", 1))
        with trio.fail_after(1.0):
            events = [await follower.event(), await follower.event()]
        [closed] = [event.data for event in events if event.name == "sessions"]
        assert (closed["transition"], closed["reason"]) == ("closed", "the connection was lost")
        assert closed["asset_ids"] == [ASSET]
        [row] = [event.data["rows"][0] for event in events if event.name == "telemetry"]
        assert (row["asset_id"], row["connected"]) == (ASSET, False)


async def test_a_dispatch_changes_the_row_of_its_asset(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest, "topics=telemetry") as follower:
        rest.connect(0)
        rest.report(0)
        assert (await follower.next_row(ASSET))["dispatch_id"] is None
        dispatch_id = await dispatch(rest)
        with trio.fail_after(1.0):
            assert (await follower.next_row(ASSET))["dispatch_id"] == dispatch_id


async def test_the_sums_follow_a_change_within_a_second(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest, f"topics=fleet&site_id={uuid_of(0)}") as follower:
        rest.connect(0)
        rest.report(0)
        await follower.within(7.5)
        rest.report(0, current_mw=1.25, available_mw=(2.0, 1.0))
        last = (await follower.within(1.2))[-1].data
    assert last["current_mw"] == 1.25
    # What can be held longer is not computed again at once; it is no more than what is available now.
    available = last["available"]
    assert available["now"] == available["15_min"] == {"discharge_mw": 2.0, "charge_mw": 1.0}


async def test_what_the_headend_synthesizes_is_sent(autojump_clock: object) -> None:
    async with open_rest(tick_s=4.0) as rest, follow(rest, "topics=telemetry") as follower:
        row = await follower.next_row(ASSET)
        assert (row["source"], row["quality"], row["connected"]) == ("synthesized", "synthesized", False)
        with trio.fail_after(4.5):
            await follower.next_row(ASSET)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", [0, 1, 2, 3]),
        (f"site_id={uuid_of(1)}", [2, 3]),
        (f"site_id={uuid_of(0)}&site_id={uuid_of(1)}", [0, 1, 2, 3]),
        (f"asset_id={uuid_of(1001).upper()}&asset_id={uuid_of(1002)}", [1, 2]),
        (f"asset_id={uuid_of(1001)}&asset_id={uuid_of(1002)}&site_id={uuid_of(1)}", [2]),
    ],
)
async def test_only_what_is_asked_for_is_sent(autojump_clock: object, query: str, shown: list[int]) -> None:
    expected = [uuid_of(1000 + key) for key in shown]
    async with open_rest() as rest:
        rest.connect(0, 1, 2, 3)
        rest.report(0, 1, 2, 3)
        async with follow(rest, query) as follower:
            snapshot = {event.name: event.data for event in await follower.until("complete")}
            assert (snapshot["begin"]["assets"], snapshot["fleet"]["assets"]) == (len(shown), len(shown))
            assert [row["asset_id"] for row in snapshot["telemetry"]["rows"]] == expected
            assert snapshot["sessions"]["asset_ids"] == expected
            rest.report(0, 1, 2, 3, current_mw=1.0)
            changed = await follower.next("telemetry")
            assert sorted(row["asset_id"] for row in changed["rows"]) == expected
            # Dispatches and alarms of others are not.
            for key in range(4):
                await dispatch(rest, f'{{"asset_id": "{uuid_of(1000 + key)}", "mw": 1}}')
            await trio.sleep(1)
            rest.headend.closing.set()
            events = await follower.until("end")
    sent = {event.data["dispatch"]["target"]["id"] for event in events if event.name == "dispatch"}
    assert sorted(sent) == expected


async def test_only_the_topics_that_are_asked_for_are_sent(autojump_clock: object) -> None:
    async with open_rest() as rest:
        session = rest.connect(0)
        rest.report(0)
        async with follow(rest, "topics=alarms,sessions") as follower:
            assert names(await follower.until("complete")) == ["begin", "sessions", "complete"]
            rest.report(0, current_mw=1.0)
            await dispatch(rest)
            rest.headend.events.publish(opened(session))
            rest.headend.alarms.register.raise_alarm(alarm())
            assert sorted(names([await follower.event(), await follower.event()])) == ["alarms", "sessions"]


@pytest.mark.parametrize(
    ("query", "last_id", "status", "message"),
    [
        ("topics=fleet,nonsense", "", 400, "topics has 'nonsense'"),
        ("topics=", "", 400, "topics has ''"),
        ("topics=fleet&topics=alarms", "", 400, "topics is given 2 times"),
        ("topic=fleet", "", 400, "there is no query parameter 'topic' here"),
        ("limit=5", "", 400, "there is no query parameter 'limit' here"),
        ("asset_id=5", "", 400, "asset_id is '5'; it must be a UUID"),
        ("site_id=x", "", 400, "site_id is 'x'; it must be a UUID"),
        (f"asset_id={ASSET}&asset_id={uuid_of(77)}", "", 404, f"there is no asset {uuid_of(77)} in"),
        (f"site_id={uuid_of(77)}", "", 404, f"there is no site '{uuid_of(77)}' in"),
        ("", "1", 400, "Last-Event-ID is '1'; it must be the id of an event of this stream"),
        ("", "0c2f9a11.-1", 400, "Last-Event-ID is '0c2f9a11.-1'"),
        ("", "0c2f9a11.1.2.3", 400, "Last-Event-ID is '0c2f9a11.1.2.3'"),
        ("", "0C2F9A11.1", 400, "Last-Event-ID is '0C2F9A11.1'"),
        ("", f"0c2f9a11.{'9' * 400}", 400, "Last-Event-ID is '0c2f9a11.999"),
    ],
)
async def test_what_is_wrong_is_named(
    autojump_clock: object, query: str, last_id: str, status: int, message: str
) -> None:
    async with open_rest() as rest, follow(rest, query, headers={"Last-Event-ID": last_id}) as follower:
        body = msgspec.json.decode(await follower.body())
    assert (follower.status, body["message"][: len(message)]) == (status, message)
    assert len(body["message"]) < 300


async def test_the_openapi_document_has_the_type_of_each_event(autojump_clock: object) -> None:
    async with open_rest() as rest:
        document = await rest.get("/openapi.json")
    operation = document["paths"]["/stream"]["get"]
    content = operation["responses"]["200"]["content"]["text/event-stream"]
    assert content["x-events"].keys() == EVENTS.keys()
    for reference in content["x-events"].values():
        assert reference["$ref"].rpartition("/")[2] in document["components"]["schemas"]
    assert [each["name"] for each in operation["parameters"]] == ["site_id", "asset_id", "topics"]


async def test_a_head_request_opens_no_stream(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest, method="HEAD") as follower:
        assert await follower.body() == b""
        assert (follower.status, follower.headers["content-type"]) == (200, "text/event-stream")
        assert len(rest.headend.feed) == 0


async def test_a_reload_of_the_fleet_begins_the_stream_anew(autojump_clock: object) -> None:
    async with open_rest(tick_s=4.0) as rest, follow(rest) as follower:
        await follower.until("complete")
        old = rest.headend.fleet.copy()
        added = replace(old.assets[0], id=uuid_of(5000), name="New")
        fleet = Fleet(sites=old.sites, assets=[*old.assets[1:], added])
        rest.headend.reloader._read = lambda: fleet
        assert (await rest.ask("POST", "/fleet/reload"))[0] == 200
        begin = (await follower.until("begin"))[-1].data
        assert (begin["resumed"], begin["reason"]) == (False, "the fleet file was reloaded")
        snapshot = await follower.until("complete")
        shown = {row.asset_id for event in rows_of(snapshot) for row in event.rows}
        # The new one may have no sample yet.
        assert shown - {added.id} == {asset.id for asset in old.assets[1:]}
        await follower.next_row(added.id)


def rows_of(events: list[Received]) -> list[TelemetryEvent]:
    return [msgspec.convert(event.data, TelemetryEvent) for event in events if event.name == "telemetry"]


async def test_a_changed_name_of_a_filter_s_asset_keeps_the_filter(autojump_clock: object) -> None:
    async with open_rest(tick_s=4.0) as rest, follow(rest, f"asset_id={ASSET}") as follower:
        await follower.until("complete")
        old = rest.headend.fleet.copy()

        def renamed(asset: Asset) -> Asset:
            return replace(asset, capacity_mwhr=80.0)

        fleet = Fleet(sites=old.sites, assets=map(renamed, reversed(old.assets)))
        rest.headend.reloader._read = lambda: fleet
        await rest.ask("POST", "/fleet/reload")
        begin = (await follower.until("begin"))[-1].data
        assert begin["assets"] == 1
        row = await follower.next_row(ASSET)
        assert row["soc_pct"] == pytest.approx(100 * row["soc_mwhr"] / 80.0)


async def test_the_stop_of_the_headend_ends_streams_in_order(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest) as follower:
        await follower.until("complete")
        rest.headend.closing.set()
        assert (await follower.next("end"))["reason"] == "the headend is stopping"
        with pytest.raises(trio.EndOfChannel):
            await follower.event()
        assert len(rest.headend.feed) == 0
        async with follow(rest) as refused:
            assert refused.status == 503


async def test_the_metrics_count_streams_and_events(autojump_clock: object) -> None:
    async with open_rest() as rest:
        rest.connect(0)
        rest.report(0)
        async with follow(rest) as follower, follow(rest) as _other:
            await follower.until("complete")
            await trio.testing.wait_all_tasks_blocked()
            metrics = await (await rest.raw("GET", "/metrics")).get_data(as_text=True)
    figures = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert figures["trioder_streams_open"] == "2.0"
    assert figures["trioder_streams_opened_total"] == "2.0"
    assert figures["trioder_stream_snapshots_total"] == "2.0"
    assert float(figures["trioder_stream_events_total"]) >= 10
    assert float(figures["trioder_stream_bytes_total"]) > 1000
    assert 'trioder_event_queue_depth{subscriber="live feed"}' in figures


async def test_without_clients_nothing_is_followed(autojump_clock: object) -> None:
    async with open_rest() as rest:
        feed, latest = rest.headend.feed, rest.headend.latest
        async with follow(rest) as follower:
            await follower.until("complete")
            assert latest.written is not None
        # For clients that connect again.
        await trio.sleep(50)
        assert latest.written is not None
        await trio.sleep(20)
        assert latest.written is None
        tick = feed.tick
        await trio.sleep(60)
        assert feed.tick == tick
        async with follow(rest) as follower:
            await follower.until("complete")
