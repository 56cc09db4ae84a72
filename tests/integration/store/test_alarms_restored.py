"""A headend that is started again on a real database continues the alarms of the one before it."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.alarms import kinds_and_sources
from tests.integration.store.senders import until_health
from tests.integration.store.servers import FLEET, open_store_on, run_sql
from trioder.api.context import Headend
from trioder.domain.alarms import AlarmFilter, EventFilter
from trioder.events.facts import AgentEvent, BatchesLost
from trioder.headend.service import open_headend
from trioder.process.wall_time import WallClock

FAULT = ("device_fault", "agent agent INVERTER_FAULT")


@asynccontextmanager
async def open_on(url: str) -> AsyncIterator[Headend]:
    async with open_store_on(url, fleet=FLEET) as store:
        await until_health(store, "ok")
        async with open_headend(
            fleet=FLEET, store=store, wall=WallClock.starting_now(), rng=random.SystemRandom(), tick_s=0
        ) as headend:
            yield headend
            await store.wait_idle()


def report(headend: Headend, event_type: str, severity: str = "error") -> None:
    now_ms = headend.wall.now_ms()
    headend.events.publish(AgentEvent("agent", "session", "", event_type, severity, "of the device", now_ms))


async def until_open(headend: Headend, *expected: tuple[str, str]) -> None:
    with trio.fail_after(20):
        while kinds_and_sources(headend, only_open=True) != sorted(expected):
            await trio.sleep(0.05)


async def test_open_alarms_are_continued_and_not_raised_again(database_url: str) -> None:
    async with open_on(database_url) as headend:
        report(headend, "INVERTER_FAULT")
        headend.events.publish(BatchesLost("agent", 7, headend.wall.now_ms()))
        await until_open(headend, FAULT, ("gap", "agent agent"))
        [fault, _] = sorted(headend.alarms.register.open_alarms(), key=lambda alarm: alarm.kind)
        headend.alarms.register.acknowledge(fault, by="ann", comment="seen")
    async with open_on(database_url) as headend:
        await until_open(headend, FAULT, ("gap", "agent agent"))
        report(headend, "INVERTER_FAULT")
        await trio.sleep(2.5)
        assert headend.counters.alarms_raised == 0
        found = headend.alarms.find(fault.alarm_id)
        assert found is not None
        assert (found.acknowledged_by, found.comment, found.is_open) == ("ann", "seen", True)
        report(headend, "INVERTER_FAULT_CLEARED", "info")
        await until_open(headend, ("gap", "agent agent"))
    async with open_on(database_url) as headend:
        await until_open(headend, ("gap", "agent agent"))
        cleared = await headend.alarms.newest(AlarmFilter(state="cleared"), limit=10)
        assert [(alarm.alarm_id, alarm.comment) for alarm in cleared] == [(fault.alarm_id, "seen")]
        past = await headend.store.events(EventFilter(), limit=100)
        types = [one.event.event_type for one in past]
        assert sorted(types) == sorted(
            [
                *("INVERTER_FAULT", "INVERTER_FAULT", "INVERTER_FAULT_CLEARED"),
                *("ALARM_RAISED", "ALARM_RAISED", "ALARM_ACKNOWLEDGED", "ALARM_CLEARED"),
            ]
        )
    assert run_sql(database_url, "SELECT count(*) FROM alarms") == [(2,)]
