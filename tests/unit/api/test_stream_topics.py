"""`GET /stream` in virtual time: dispatches, schedules and alarms, followed through their changes."""

from tests.unit.api.feeds import ASSET, alarm, dispatch, follow, post_schedule
from tests.unit.api.rest import make_fleet, open_rest


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
