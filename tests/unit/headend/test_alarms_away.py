"""Alarms of assets whose agent is not connected, or which report nothing."""

import pytest
import trio
import trio.testing

from tests.alarms import kinds_and_sources, list_alarms
from tests.unit.headend.driver import open_rig
from tests.unit.headend.reporter import reporter
from trioder.control.alarms.engine import START_GRACE_S


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
