"""Each kind of alarm in a running headend: when it is raised, and when it is cleared."""

import math
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.alarms import Listed, kinds_and_sources, list_alarms
from tests.unit.access.certificates import Authority, der_of
from tests.unit.headend.driver import NOW, Rig, ScriptedAgent, open_rig, pulse, registration
from tests.unit.headend.parts import asset_id, make_fleet
from tests.unit.headend.stores import SlowStore
from trioder.control.alarms.engine import START_GRACE_S
from trioder.domain.alarms import EventFilter
from trioder.domain.dispatch import DispatchRequest
from trioder.domain.fleet import Fleet
from trioder.events.facts import RegistrationChecked
from trioder.rpc.peer import Peer
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.uplink import write_heartbeat


class Reporter:
    """An agent that sends a pulse of its assets every second, as a test asks."""

    def __init__(self, rig: Rig, agent: ScriptedAgent, assets: int) -> None:
        self.rig = rig
        self.agent = agent
        self.assets = assets
        self.seq = 0

    async def pulse(self, **values: Any) -> None:
        self.seq += 1
        ts_ms = self.rig.headend.wall.now_ms()
        await self.agent.send(pulse(self.seq, *range(self.assets), **{"ts_ms": ts_ms} | values))
        await trio.testing.wait_all_tasks_blocked()

    async def report(self, seconds: int, **values: Any) -> None:
        for _ in range(seconds):
            await trio.sleep(1.0)
            await self.pulse(**values)


async def reporter(rig: Rig, assets: int = 1, **register: Any) -> Reporter:
    return Reporter(rig, await rig.registered(*range(assets), **register), assets)


async def event(agent: ScriptedAgent, event_type: str, severity: str, *, asset: str = "") -> None:
    await agent.send(
        pb.AgentToHeadend(
            event=pb.Event(
                event_type=event_type,
                asset_id=asset,
                severity=severity,
                message="of the device",
                timestamp="2027-01-15T08:00:00Z",
            )
        )
    )
    await trio.testing.wait_all_tasks_blocked()


def listed(rig: Rig, kind: str) -> list[Listed]:
    return [alarm for alarm in list_alarms(rig.headend) if alarm.kind == kind]


async def test_a_headend_without_agents_has_one_alarm_of_its_assets_after_the_grace(
    autojump_clock: object,
) -> None:
    async with open_rig(assets=10) as rig:
        await trio.sleep(START_GRACE_S + 9.0)
        assert list_alarms(rig.headend) == []
        await trio.sleep(3.0)
        [alarm] = list_alarms(rig.headend)
        assert (alarm.kind, alarm.severity, alarm.source, alarm.assets) == ("away", "major", "site North", 10)


async def test_a_fleet_that_reports_has_no_alarm(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await reporter(rig, 3)
        await agent.report(600)
        assert list_alarms(rig.headend) == []


async def test_a_lost_agent_is_one_alarm_until_it_is_back(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await reporter(rig, 3)
        await agent.report(10)
        await agent.agent.disconnect()
        await trio.sleep(30.0)
        agent = await reporter(rig, 3, epoch=2)
        await agent.report(60)
        [alarm] = list_alarms(rig.headend)
        assert alarm[:4] == ("away", "major", "agent agent", 3)
        assert alarm.raised_s == pytest.approx(20.0, abs=1.1)
        assert alarm.cleared_s == pytest.approx(45.0, abs=1.1)


async def test_an_agent_that_reconnects_within_the_delay_is_no_alarm(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await reporter(rig, 3)
        for epoch in range(2, 6):
            await agent.report(3)
            await agent.agent.disconnect()
            await trio.sleep(8.0)
            agent = await reporter(rig, 3, epoch=epoch)
        await agent.report(60)
        assert list_alarms(rig.headend) == []


async def test_an_asset_that_its_agent_no_longer_registers_is_away_itself(autojump_clock: object) -> None:
    async with open_rig() as rig:
        agent = await reporter(rig, 3)
        await agent.report(5)
        await agent.agent.disconnect()
        agent = await reporter(rig, 2, epoch=2)
        await agent.report(20)
        assert kinds_and_sources(rig.headend) == [("away", "asset Battery 2")]
        # Another agent takes it over.
        await (await rig.agent()).register(2, agent_id="other", outbox_id="other")
        await agent.report(10)
        assert kinds_and_sources(rig.headend, only_open=True) == []


async def test_an_agent_that_returns_for_other_assets_leaves_its_former_ones_away(
    autojump_clock: object,
) -> None:
    async with open_rig(assets=3) as rig:
        await (await reporter(rig, 2)).agent.disconnect()
        await trio.sleep(15.0)
        assert kinds_and_sources(rig.headend) == [("away", "agent agent")]
        await rig.registered(2, epoch=2)
        await trio.sleep(2.0)
        assert kinds_and_sources(rig.headend, only_open=True) == [
            ("away", "asset Battery 0"),
            ("away", "asset Battery 1"),
        ]


async def test_a_session_that_supersedes_an_open_one_is_no_alarm(autojump_clock: object) -> None:
    async with open_rig() as rig:
        for epoch in range(1, 6):
            agent = await reporter(rig, 3, epoch=epoch)
            await agent.report(8)
        await agent.report(30)
        assert list_alarms(rig.headend) == []


async def test_a_stale_asset_whose_agent_is_lost_is_away(autojump_clock: object) -> None:
    async with open_rig(assets=1) as rig:
        agent = await reporter(rig)
        await trio.sleep(20.0)
        assert kinds_and_sources(rig.headend, only_open=True) == [("stale", "asset Battery 0")]
        await agent.agent.disconnect()
        await trio.sleep(15.0)
        assert kinds_and_sources(rig.headend, only_open=True) == [("away", "agent agent")]


async def test_alarms_of_assets_that_another_agent_takes_over_are_grouped_there(
    autojump_clock: object,
) -> None:
    async with open_rig(assets=10) as rig:
        agent = await reporter(rig, 10)
        await agent.report(40, soc=40.0)
        assert kinds_and_sources(rig.headend) == [("soc_limit", "agent agent")]
        await agent.agent.disconnect()
        agent = await reporter(rig, 10, agent_id="other", outbox_id="other")
        await agent.report(10, soc=40.0)
        assert kinds_and_sources(rig.headend, only_open=True) == [("soc_limit", "agent other")]


async def test_assets_without_telemetry_are_stale_and_as_many_one_alarm(autojump_clock: object) -> None:
    async with open_rig(assets=20) as rig:
        agent = await reporter(rig, 20)
        await agent.report(10)
        await trio.sleep(40.0)
        await agent.report(30)
        [alarm] = list_alarms(rig.headend)
        assert alarm[:4] == ("stale", "minor", "agent agent", 20)
        # 12 s until they are stale, 5 s of delay; 10 s until the alarm is cleared.
        assert alarm.raised_s == pytest.approx(27.0, abs=2.1)
        assert alarm.cleared_s == pytest.approx(61.0, abs=2.1)


async def test_an_agent_that_never_sends_is_stale(autojump_clock: object) -> None:
    async with open_rig(assets=1) as rig:
        await rig.registered(0)
        await trio.sleep(25.0)
        assert kinds_and_sources(rig.headend) == [("stale", "asset Battery 0")]


async def test_a_value_that_cannot_be_is_an_alarm_until_the_values_are_good(autojump_clock: object) -> None:
    async with open_rig(assets=1) as rig:
        agent = await reporter(rig)
        await agent.report(5)
        await agent.report(3, soc=math.nan)
        await agent.report(60)
        [alarm] = list_alarms(rig.headend)
        assert alarm[:3] == ("value_suspect", "minor", "asset Battery 0")
        assert alarm.raised_s == pytest.approx(6.0, abs=1.1)
        # 10 s of good samples, and 20 s of delay.
        assert alarm.cleared_s == pytest.approx(38.0, abs=2.1)


async def test_a_value_that_comes_and_goes_is_one_alarm(autojump_clock: object) -> None:
    async with open_rig(assets=1) as rig:
        agent = await reporter(rig)
        for _ in range(20):
            await agent.report(1, soc=math.nan)
            await agent.report(25)
        assert len(list_alarms(rig.headend)) == 1
        await agent.report(20)
        assert kinds_and_sources(rig.headend, only_open=True) == []


async def test_a_value_that_its_device_flags_is_another_alarm(autojump_clock: object) -> None:
    async with open_rig(assets=1) as rig:
        agent = await reporter(rig)
        await agent.report(2)
        message = pulse(3, 0, ts_ms=rig.headend.wall.now_ms())
        message.telemetry_batch.quality[:] = [2]
        await agent.agent.send(message)
        await trio.sleep(2.0)
        assert [alarm[:3] for alarm in list_alarms(rig.headend)] == [
            ("value_bad", "major", "asset Battery 0")
        ]


async def test_a_wrong_sample_time_is_an_alarm_of_the_agent(autojump_clock: object) -> None:
    async with open_rig(assets=1) as rig:
        agent = await reporter(rig)
        await agent.report(3)
        await agent.pulse(ts_ms=NOW + 10**9)
        await agent.report(60)
        [alarm] = listed(rig, "sample_time")
        assert (alarm.severity, alarm.source) == ("major", "agent agent")
        assert alarm.cleared_s is not None


async def test_a_skewed_clock_is_an_alarm_of_the_agent(autojump_clock: object) -> None:
    async with open_rig(assets=1) as rig:
        agent = await rig.agent()
        message = registration(0)
        message.register.clock_unix_ms = NOW - 10_000
        await agent.send(message)
        await agent.receive()
        for second in range(20):
            await agent.send(write_heartbeat(NOW + 1_000 * second - 10_000))
            await trio.sleep(1.0)
        assert [alarm[:3] for alarm in listed(rig, "clock_skew")] == [("clock_skew", "minor", "agent agent")]
        await agent.disconnect()
        await trio.sleep(30.0)
        [alarm] = listed(rig, "clock_skew")
        assert alarm.cleared_s is not None


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


async def test_a_state_of_charge_at_a_limit_is_an_alarm_until_it_is_well_within(
    autojump_clock: object,
) -> None:
    async with open_rig(assets=1) as rig:
        agent = await reporter(rig)
        await agent.report(60, soc=39.9)
        # 1 % below the limit: within the hysteresis.
        await agent.report(100, soc=39.6)
        [alarm] = list_alarms(rig.headend)
        assert (alarm[:3], alarm.cleared_s) == (("soc_limit", "warning", "asset Battery 0"), None)
        assert alarm.raised_s == pytest.approx(36.0, abs=6.1)
        await agent.report(60, soc=38.0)
        assert kinds_and_sources(rig.headend, only_open=True) == []


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


async def test_telemetry_that_is_not_stored_is_a_backlog(autojump_clock: object) -> None:
    store = SlowStore()
    async with open_rig(assets=1, store=store) as rig:
        agent = await reporter(rig)
        await agent.report(5)
        store.commit()
        await agent.report(80)
        assert list_alarms(rig.headend) == []
        await agent.report(30)
        assert [alarm[:3] for alarm in list_alarms(rig.headend)] == [("backlog", "minor", "agent agent")]
        for _ in range(40):
            store.commit()
            await agent.report(1)
        assert kinds_and_sources(rig.headend, only_open=True) == []


async def test_a_backlog_of_an_agent_that_is_gone_is_not_known(autojump_clock: object) -> None:
    store = SlowStore()
    async with open_rig(assets=1, store=store) as rig:
        agent = await reporter(rig)
        await agent.report(5)
        store.commit()
        await agent.report(110)
        assert kinds_and_sources(rig.headend, only_open=True) == [("backlog", "agent agent")]
        await agent.agent.disconnect()
        await trio.sleep(35.0)
        assert kinds_and_sources(rig.headend, only_open=True) == [("away", "agent agent")]


async def test_a_slow_agent_has_no_backlog(autojump_clock: object) -> None:
    store = SlowStore()
    async with open_rig(assets=1, store=store) as rig:
        agent = await reporter(rig)
        for _ in range(5):
            await trio.sleep(150.0)
            await agent.pulse()
            await trio.sleep(1.0)
            store.commit()
        assert listed(rig, "backlog") == []


async def test_lost_batches_are_a_gap_for_an_hour(autojump_clock: object) -> None:
    async with open_rig(assets=1) as rig:
        agent = await reporter(rig)
        await agent.report(3)
        message = pulse(agent.seq + 5, 0, ts_ms=rig.headend.wall.now_ms())
        message.telemetry_batch.gap_from_seq = agent.seq + 1
        agent.seq += 5
        await agent.agent.send(message)
        await agent.report(3)
        alarms = [alarm[:3] for alarm in listed(rig, "gap")]
        assert alarms == [("gap", "major", "agent agent")]


async def test_a_nameplate_and_assets_that_the_fleet_file_does_not_have(autojump_clock: object) -> None:
    async with open_rig(assets=2) as rig:
        agent = await rig.agent()
        message = registration(0, 1, 7)
        message.register.assets[1].max_mw = 5.0
        message.register.assets[1].min_mw = -10.0
        message.register.assets[1].capacity_mwhr = 40.0
        await agent.send(message)
        await trio.sleep(2.0)
        assert [alarm[1:3] for alarm in listed(rig, "unknown_asset")] == [("warning", "agent agent")]
        assert [alarm[1:3] for alarm in listed(rig, "nameplate_differs")] == [("warning", "agent agent")]
        await agent.disconnect()
        await rig.registered(0, 1, epoch=2)
        await trio.sleep(2.0)
        assert kinds_and_sources(rig.headend, only_open=True) == []


async def test_an_agent_of_unknown_assets_alone_is_an_alarm_though_it_is_refused(
    autojump_clock: object,
) -> None:
    async with open_rig(assets=1) as rig:
        await reporter(rig)
        stranger = await rig.agent()
        await stranger.send(registration(7, agent_id="stranger", outbox_id="its"))
        await trio.sleep(2.0)
        assert [alarm.source for alarm in listed(rig, "unknown_asset")] == ["agent stranger"]
        [alarm] = rig.headend.alarms.register.open_alarms()
        # Whose it is is not known: tenants do not see it.
        assert (alarm.tenant, alarm.site_ids) == ("*", ())


async def test_an_agents_certificate_that_expires_soon_is_an_alarm_until_it_registers_with_a_newer_one(
    autojump_clock: object,
) -> None:
    async with open_rig(assets=1) as rig:

        async def checked(days: float | None) -> list[tuple[str, str]]:
            expires_s = None if days is None else rig.headend.wall.now_s() + days * 86_400
            rig.headend.events.publish(RegistrationChecked("agent", (), (), 0, expires_s))
            await trio.sleep(2.0)
            return [
                (alarm.severity, alarm.reason)
                for alarm in rig.headend.alarms.register.open_alarms()
                if alarm.kind == "certificate_expiring"
            ]

        assert await checked(14.1) == []
        assert await checked(13.5) == [("minor", "the agent's certificate expires in 13.5 days")]
        assert await checked(-1.0) == [("critical", "the agent's certificate has expired")]
        assert await checked(90.0) == []
        assert await checked(None) == []


def test_the_end_of_a_peers_certificate_is_known(tmp_path: Path) -> None:
    certificate = der_of(Authority(tmp_path).issue("agent", to_h=24.0).cert)
    expires_s = Peer(address="a:1", certificate=certificate).certificate_expires_s
    assert expires_s is not None
    assert abs(expires_s - time.time() - 24 * 3600) < 60
    assert Peer(address="a:1").certificate_expires_s is None
    assert Peer(address="a:1", certificate=b"none").certificate_expires_s is None


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
