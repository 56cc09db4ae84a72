"""Alarms of what samples say, and of samples that do not reach the store."""

import math

import pytest
import trio
import trio.testing

from tests.alarms import kinds_and_sources, list_alarms
from tests.unit.headend.driver import NOW, open_rig, pulse
from tests.unit.headend.reporter import listed, reporter
from tests.unit.headend.stores import SlowStore


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
