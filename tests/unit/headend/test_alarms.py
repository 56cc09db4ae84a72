"""Alarms of devices, of dispatches and of setpoints; an alarm's acknowledgement and end."""

import pytest
import trio
import trio.testing

from tests.alarms import kinds_and_sources, list_alarms
from tests.unit.headend.driver import Rig, ScriptedAgent, open_rig
from tests.unit.headend.parts import asset_id, make_fleet
from tests.unit.headend.reporter import event, listed, reporter
from trioder.domain.alarms import EventFilter
from trioder.domain.dispatch import DispatchRequest
from trioder.domain.fleet import Fleet
from trioder.wire import agent_link_pb2 as pb


async def acknowledge(agent: ScriptedAgent, dispatch_id: str, status: str) -> None:
    await agent.send(
        pb.AgentToHeadend(
            dispatch_ack=pb.DispatchAck(
                dispatch_id=dispatch_id,
                asset_id=asset_id(0),
                status=status,
                timestamp="2027-01-15T08:00:00Z",
                reason="in maintenance",
            )
        )
    )
    await trio.testing.wait_all_tasks_blocked()


def dispatch(rig: Rig, mw: float, duration_s: int | None = None) -> str:
    request = DispatchRequest(asset_id=asset_id(0), mw=mw, duration_s=duration_s)
    return rig.headend.dispatcher.dispatch(request).dispatch_id


async def test_a_rejected_dispatch_is_an_alarm_until_one_is_accepted(autojump_clock: object) -> None:
    async with open_rig(assets=1) as rig:
        agent = await reporter(rig)
        await agent.report(2)
        await acknowledge(agent.agent, dispatch(rig, 5.0), "rejected")
        await agent.report(100)
        [alarm] = list_alarms(rig.headend)
        assert (alarm[:3], alarm.cleared_s) == (("dispatch_rejected", "major", "asset Battery 0"), None)
        await acknowledge(agent.agent, dispatch(rig, 1.0), "accepted")
        await agent.report(3)
        assert kinds_and_sources(rig.headend, only_open=True) == []


async def test_a_rejected_dispatch_is_no_alarm_any_more_after_an_hour(autojump_clock: object) -> None:
    async with open_rig(assets=1, within_s=7200) as rig:
        agent = await reporter(rig)
        await agent.report(2)
        await acknowledge(agent.agent, dispatch(rig, 5.0), "rejected")
        for _ in range(400):
            await trio.sleep(9.0)
            await agent.pulse()
        [alarm] = listed(rig, "dispatch_rejected")
        assert alarm.cleared_s == pytest.approx(3602.0, abs=2.1)


async def test_a_power_that_deviates_is_an_alarm_and_so_is_a_setpoint_never_tracked(
    autojump_clock: object,
) -> None:
    async with open_rig(assets=1) as rig:
        agent = await reporter(rig)
        await agent.report(2)
        await acknowledge(agent.agent, dispatch(rig, 8.0, duration_s=60), "accepted")
        # Its power stays at 1 MW.
        await agent.report(120)
        first, second = list_alarms(rig.headend)
        assert first[:3] == ("deviating", "minor", "asset Battery 0")
        assert first.raised_s < 60.0
        assert first.cleared_s == pytest.approx(75.0, abs=4.0)
        assert second[:3] == ("dispatch_not_tracked", "minor", "asset Battery 0")
        assert second.cleared_s is None


async def test_a_fault_of_a_device_is_an_alarm_until_its_device_reports_its_end(
    autojump_clock: object,
) -> None:
    async with open_rig(assets=1) as rig:
        agent = await reporter(rig)
        await event(agent.agent, "INVERTER_FAULT", "error", asset=asset_id(0))
        await event(agent.agent, "FAN_FAULT", "critical", asset=asset_id(0))
        await event(agent.agent, "DOOR_OPEN", "warning", asset=asset_id(0))
        await event(agent.agent, "STORAGE_FAULT", "minor")
        await agent.report(60)
        assert {alarm[:3] for alarm in list_alarms(rig.headend)} == {
            ("device_fault", "major", "asset Battery 0 INVERTER_FAULT"),
            ("device_fault", "critical", "asset Battery 0 FAN_FAULT"),
            ("device_fault", "minor", "agent agent STORAGE_FAULT"),
        }
        await event(agent.agent, "INVERTER_FAULT_CLEARED", "info", asset=asset_id(0))
        await agent.report(10)
        assert kinds_and_sources(rig.headend, only_open=True) == [
            ("device_fault", "agent agent STORAGE_FAULT"),
            ("device_fault", "asset Battery 0 FAN_FAULT"),
        ]


async def test_an_agent_cannot_raise_alarms_of_assets_that_it_does_not_drive(autojump_clock: object) -> None:
    async with open_rig() as rig:
        await rig.registered(1, agent_id="victim", outbox_id="victim")
        agent = await reporter(rig)
        await event(agent.agent, "INVERTER_FAULT", "error", asset=asset_id(1))
        await event(agent.agent, "INVERTER_FAULT", "error", asset="no id")
        await trio.sleep(2.0)
        assert [alarm.source for alarm in listed(rig, "device_fault")] == ["agent agent INVERTER_FAULT"]
        past = await rig.headend.store.events(EventFilter(origin="agent"), limit=10)
        assert [one.event.asset_id for one in past] == ["", ""]


async def test_a_flood_of_event_types_is_one_alarm(autojump_clock: object) -> None:
    async with open_rig(assets=1) as rig:
        agent = await reporter(rig)
        for number in range(500):
            await agent.agent.send(
                pb.AgentToHeadend(
                    event=pb.Event(
                        event_type=f"FAULT_{number}", severity="error", timestamp="2027-01-15T08:00:00Z"
                    )
                )
            )
        await trio.sleep(3.0)
        assert [alarm.source for alarm in listed(rig, "device_fault")] == ["agent agent"]
        assert rig.headend.counters.agent_events_dropped > 200
        past = await rig.headend.store.events(EventFilter(), limit=1_000)
        assert 200 <= sum(one.event.origin == "agent" for one in past) < 300
        [dropped] = [one.event for one in past if one.event.event_type == "EVENTS_DROPPED"]
        assert dropped.message.startswith(str(rig.headend.counters.agent_events_dropped))


async def test_an_asset_that_leaves_the_fleet_has_no_alarm(autojump_clock: object) -> None:
    fleet = make_fleet(2)
    smaller = Fleet(sites=fleet.sites, assets=fleet.assets[:1])
    async with open_rig(assets=2, read_fleet=lambda: smaller) as rig:
        agent = await reporter(rig, 2)
        await event(agent.agent, "INVERTER_FAULT", "error", asset=asset_id(1))
        await agent.report(3)
        assert kinds_and_sources(rig.headend, only_open=True) == [
            ("device_fault", "asset Battery 1 INVERTER_FAULT")
        ]
        await rig.headend.reloader.reload()
        await agent.report(30)
        assert kinds_and_sources(rig.headend, only_open=True) == []


async def test_an_acknowledged_alarm_keeps_who_was_first_and_lasts_as_long_as_its_condition(
    autojump_clock: object,
) -> None:
    async with open_rig(assets=1) as rig:
        agent = await reporter(rig)
        await event(agent.agent, "INVERTER_FAULT", "error", asset=asset_id(0))
        await trio.sleep(2.0)
        register = rig.headend.alarms.register
        [alarm] = register.open_alarms()
        first = register.acknowledge(alarm, by="ann", comment="on my way")
        await trio.sleep(5.0)
        again = register.acknowledge(first, by="bob", comment="done")
        assert (again.acknowledged_by, again.acknowledged_ms, again.comment) == (
            "ann",
            first.acknowledged_ms,
            "done",
        )
        # It lasts until its condition ends.
        assert [one.alarm_id for one in register.open_alarms()] == [alarm.alarm_id]
        await event(agent.agent, "INVERTER_FAULT_CLEARED", "info", asset=asset_id(0))
        await trio.sleep(8.0)
        cleared = register.find(alarm.alarm_id)
        assert cleared is not None
        assert (cleared.is_open, cleared.comment) == (False, "done")
