"""Alarms of large fleets: however many conditions there are, alarms and work are few."""

import pytest
import trio

from tests.alarms import list_alarms
from tests.unit.headend.driver import Rig, open_rig
from tests.unit.headend.parts import asset_id, make_samples, make_session
from trioder.events.facts import AgentEvent, SessionClosed, SessionOpened
from trioder.gateway.sessions import Session

ASSETS, SHARD = 10_000, 25


def connect(rig: Rig, *, shard: int = SHARD, number: int = 0) -> list[Session]:
    headend = rig.headend
    sessions = []
    for first in range(0, len(headend.fleet.keys), shard):
        keys = range(first, first + shard)
        session = make_session(f"agent-{first}", *keys, session_id=f"session-{first}-{number}")
        session.outbox_id = f"outbox-{first}"
        session.connected_ms = headend.wall.now_ms()
        headend.sessions.claim(session, asset_ids=[asset_id(key) for key in keys])
        headend.latest.begin_session(keys)
        headend.events.publish(SessionOpened(*session.subject, 1, "test:1", session.connected_ms))
        sessions.append(session)
    return sessions


def report(rig: Rig, sessions: list[Session]) -> None:
    now_ms = rig.headend.wall.now_ms()
    for session in sessions:
        rig.headend.latest.apply_agent(make_samples(*session.asset_keys, ts_ms=now_ms), received_ms=now_ms)


async def report_for(rig: Rig, sessions: list[Session], seconds: int) -> None:
    for _ in range(0, seconds, 4):
        report(rig, sessions)
        await trio.sleep(4.0)


def disconnect(rig: Rig, sessions: list[Session]) -> None:
    for session in sessions:
        rig.headend.sessions.release(session)
        rig.headend.events.publish(SessionClosed(*session.subject, "cut", rig.headend.wall.now_ms()))


def shown(rig: Rig, *, only_open: bool = True) -> list[tuple[str, str, int]]:
    return [
        (alarm.kind, alarm.source, alarm.assets)
        for alarm in list_alarms(rig.headend)
        if not only_open or alarm.cleared_s is None
    ]


async def test_ten_thousand_assets_that_go_stale_in_one_second_are_one_alarm(autojump_clock: object) -> None:
    async with open_rig(assets=ASSETS) as rig:
        sessions = connect(rig)
        await report_for(rig, sessions, 12)
        await trio.sleep(40.0)
        assert shown(rig, only_open=False) == [("stale", "headend default", ASSETS)]
        [alarm] = rig.headend.alarms.register.open_alarms()
        assert alarm.reason == "10000 assets of 400 agents: no telemetry for more than 12 s"
        await report_for(rig, sessions, 40)
        assert shown(rig) == []
        assert rig.headend.counters.alarms_raised == 1


async def test_a_few_lost_agents_are_an_alarm_each_and_many_are_one(autojump_clock: object) -> None:
    async with open_rig(assets=ASSETS) as rig:
        sessions = connect(rig)
        await report_for(rig, sessions, 4)
        disconnect(rig, sessions[:3])
        await report_for(rig, sessions[3:], 16)
        assert shown(rig) == [("away", f"agent agent-{first}", SHARD) for first in (0, 25, 50)]
        disconnect(rig, sessions[3:])
        await trio.sleep(15.0)
        assert shown(rig) == [("away", "headend default", ASSETS)]
        sessions = connect(rig, number=1)
        await report_for(rig, sessions, 40)
        assert shown(rig) == []


async def test_a_fleet_of_many_unconnected_assets_costs_one_alarm_a_site(autojump_clock: object) -> None:
    async with open_rig(assets=ASSETS) as rig:
        await trio.sleep(75.0)
        assert shown(rig, only_open=False) == [("away", "site North", ASSETS)]


async def test_faults_of_many_devices_of_an_agent_are_one_alarm_of_the_most_severe(
    autojump_clock: object,
) -> None:
    async with open_rig(assets=SHARD) as rig:
        [session] = connect(rig)
        for key in session.asset_keys:
            severity = "critical" if key == 7 else "minor"
            rig.headend.events.publish(
                AgentEvent("agent-0", session.session_id, asset_id(key), "FAN", severity, "stuck", 1)
            )
        await trio.sleep(2.0)
        [alarm] = list_alarms(rig.headend)
        assert alarm[:4] == ("device_fault", "critical", "agent agent-0", SHARD)


async def test_agents_that_come_and_go_leave_nothing_behind(autojump_clock: object) -> None:
    async with open_rig(assets=2) as rig:
        engine = rig.headend.alarms
        for number in range(300):
            session = make_session(f"agent {number}", 0, 1, session_id=f"{number}", outbox_id=f"{number}")
            session.connected_ms = rig.headend.wall.now_ms()
            rig.headend.sessions.claim(session, asset_ids=[])
            rig.headend.events.publish(SessionOpened(*session.subject, 1, "test:1", 0))
            await trio.sleep(0.5)
            disconnect(rig, [session])
        await trio.sleep(30.0)
        assert shown(rig) == [("away", "agent agent 299", 2)]
        assert len(engine._conditions) == 2  # no public sign of memory
        assert len(engine._agents._agents) == 1


@pytest.mark.parametrize("assets", [2_000])
async def test_a_second_of_the_engine_is_run_in_slices(autojump_clock: object, assets: int) -> None:
    async with open_rig(assets=assets) as rig:
        sessions = connect(rig)
        await report_for(rig, sessions, 4)
        steps = rig.headend.alarms._polls.steps()  # what the engine runs each second
        assert max(steps) < 2_000.0
