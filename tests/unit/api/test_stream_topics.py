"""`GET /stream` in virtual time: dispatches, schedules and alarms, followed through their changes."""

from tests.unit.api.feeds import ASSET, alarm, dispatch, follow, post_schedule
from tests.unit.api.rest import make_fleet, open_rest, uuid_of
from trioder.wire.records import Acknowledgement


async def test_a_dispatch_is_followed_through_its_states(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest, "topics=dispatch") as follower:
        await follower.until("complete")
        dispatch_id = await dispatch(rest)
        first = await follower.next("dispatch")
        status, _ = await rest.ask("DELETE", f"/dispatch/{dispatch_id}")
        assert status == 200
        second = await follower.next("dispatch")
    assert [event["dispatch"]["dispatch_id"] for event in (first, second)] == [dispatch_id] * 2
    assert [event["dispatch"]["state"] for event in (first, second)] == ["queued", "cancelled"]
    assert [row["asset_id"] for row in second["setpoints"]] == [ASSET]
    assert second["setpoints"][0]["state"] == "cancelled"


async def test_a_large_dispatch_is_sent_without_its_setpoints(autojump_clock: object) -> None:
    fleet = make_fleet(sites=1, assets_a_site=200)
    async with open_rest(fleet=fleet) as rest, follow(rest, "topics=dispatch") as follower:
        rest.connect(*range(200))
        rest.report(*range(200))
        await follower.until("complete")
        await dispatch(rest, '{"fleet": true, "mw": 100}')
        event = await follower.next("dispatch")
    assert (event["dispatch"]["members"], event["setpoints"]) == (200, None)


async def test_the_counts_of_a_large_dispatch_are_sent_as_they_change(autojump_clock: object) -> None:
    fleet = make_fleet(sites=1, assets_a_site=200)
    async with open_rest(fleet=fleet) as rest, follow(rest, "topics=dispatch") as follower:
        session = rest.connect(*range(200))
        rest.report(*range(200))
        await follower.until("complete")
        dispatch_id = await dispatch(rest, '{"fleet": true, "mw": 100, "resplit": false}')
        seen = [(await follower.next("dispatch"))["dispatch"]["by_state"]]
        for keys, status in ((range(150), "applied"), (range(150, 200), "rejected")):
            for key in keys:
                acknowledgement = Acknowledgement(
                    dispatch_id=dispatch_id, asset_id=uuid_of(1000 + key), status=status, ts_unix_ms=1
                )
                rest.headend.dispatcher.acknowledged(acknowledgement, session=session)
            seen.append((await follower.next("dispatch"))["dispatch"]["by_state"])
    assert seen[:2] == [{"sent": 200}, {"sent": 50, "accepted": 150}]
    assert (seen[2]["rejected"], "sent" in seen[2]) == (50, False)


async def test_a_stop_is_followed_by_its_priority(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest, "topics=dispatch,telemetry,fleet") as follower:
        rest.connect(0)
        rest.report(0)
        await follower.until("complete")
        status, _ = await rest.ask(
            "POST", "/stop", data=b'{"fleet": true}', headers={"content-type": "application/json"}
        )
        assert status == 200
        events = await follower.within(2.0)
    stops = [event.data["dispatch"]["priority"] for event in events if event.name == "dispatch"]
    rows = [row for event in events if event.name == "telemetry" for row in event.data["rows"]]
    sums = [event.data for event in events if event.name == "fleet"]
    assert set(stops) == {"emergency"}
    assert rows[-1]["priority"] == "emergency"
    assert (sums[-1]["stopped_assets"], sums[-1]["requested_mw"]) == (4, 0.0)


async def test_a_schedule_and_its_occurrences_are_followed(autojump_clock: object) -> None:
    query = f"topics=schedules&asset_id={ASSET}"
    async with open_rest(tick_s=4.0) as rest, follow(rest, query) as follower:
        await follower.until("complete")
        await post_schedule(rest, 2)
        schedule_id = await post_schedule(rest, 0)
        created = await follower.next("schedules")
        async with follow(rest, query) as other:
            snapshot = await other.until("complete")
        begun = await follower.next("schedules")
        await rest.ask("DELETE", f"/schedules/{schedule_id}")
        events = [event.data for event in await follower.within(2.0) if event.name == "schedules"]
    assert (created["transition"], created["schedule"]["schedule_id"]) == ("created", schedule_id)
    assert [event.data["transition"] for event in snapshot if event.name == "schedules"] == ["active"]
    assert (begun["transition"], begun["occurrence"]["start"]) == ("occurrence", "2026-01-01T00:01:00.000Z")
    assert "cancelled" in [event["transition"] for event in events]
    assert {event["schedule"]["schedule_id"] for event in events} == {schedule_id}


async def test_an_alarm_is_followed_through_its_transitions(autojump_clock: object) -> None:
    async with open_rest() as rest, follow(rest, "topics=alarms") as follower:
        await follower.until("complete")
        register = rest.headend.alarms.register
        register.raise_alarm(alarm())
        raised = await follower.next("alarms")
        register.clear(register.acknowledge(alarm(), by="ann", comment="seen"))
        seen, cleared = await follower.next("alarms"), await follower.next("alarms")
    transitions = [event["transition"] for event in (raised, seen, cleared)]
    assert transitions == ["raised", "acknowledged", "cleared"]
    assert (cleared["alarm"]["state"], cleared["alarm"]["acknowledged_by"]) == ("cleared", "ann")
