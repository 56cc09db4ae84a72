"""The alarm of a site whose measured power is beyond its limit, and which values count."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.alarms import list_alarms
from tests.unit.headend.driver import Rig, open_rig
from tests.unit.headend.reporter import Reporter
from tests.unit.headend.test_alarms_restored import AlarmStore
from trioder.domain.access import Scope
from trioder.domain.alarms import AlarmFilter
from trioder.domain.site_limits import SiteLimits, SiteLimitsRecord
from trioder.store.interface import Store

LIMIT_MW = 10.0


def limit(rig: Rig, export_mw: float | None = LIMIT_MW, import_mw: float | None = LIMIT_MW) -> None:
    """Limit the one site of all."""
    now_ms = rig.headend.wall.now_ms()
    rig.headend.dispatcher.site_limits.set(
        SiteLimitsRecord(
            site_id=rig.headend.fleet.sites[0].id,
            limits=SiteLimits(export_mw=export_mw, import_mw=import_mw),
            until_ms=None,
            set_ms=now_ms,
            set_by="anna",
        )
    )


class TwoBatteries:
    """Each has an agent of its own, and reports once a second what a test asks."""

    def __init__(self, rig: Rig, agents: list[Reporter]) -> None:
        self.rig = rig
        self.agents = agents

    async def run(self, seconds: int, *mw: float | None) -> None:
        """None: its agent is silent."""
        for _ in range(seconds):
            await trio.sleep(1.0)
            for agent, each_mw in zip(self.agents, mw, strict=True):
                if each_mw is not None:
                    await agent.pulse(mw=each_mw)

    def open_alarms(self) -> list[str]:
        alarms = [one for one in list_alarms(self.rig.headend) if one.kind == "site_limit_exceeded"]
        assert {one[:4] for one in alarms} <= {("site_limit_exceeded", "major", "site North", 0)}
        return [one.source for one in alarms if one.cleared_s is None]

    @property
    def reason(self) -> str:
        return self.rig.headend.alarms.register.newest(
            AlarmFilter(state="open", kind="site_limit_exceeded"), limit=1
        )[0].reason


@asynccontextmanager
async def two_batteries(store: Store | None = None, *, epoch: int = 1) -> AsyncIterator[TwoBatteries]:
    async with open_rig(assets=2, store=store) as rig:
        agents = [
            Reporter(
                rig,
                await rig.registered(key, agent_id=f"agent-{key}", outbox_id=f"box-{key}", epoch=epoch),
                1,
            )
            for key in (0, 1)
        ]
        limit(rig)
        yield TwoBatteries(rig, agents)


@pytest.mark.parametrize(("sign", "verb"), [(1.0, "exports"), (-1.0, "imports")])
async def test_it_is_raised_when_the_excess_lasts_and_cleared_with_hysteresis(
    autojump_clock: object, sign: float, verb: str
) -> None:
    async with two_batteries() as site:
        await site.run(25, sign * 6.0, sign * 6.0)
        await site.run(10, sign * 5.0, sign * 5.0)
        await site.run(25, sign * 6.0, sign * 6.0)
        assert site.open_alarms() == []
        await site.run(10, sign * 6.0, sign * 6.0)
        assert site.open_alarms() == ["site North"]
        assert site.reason == f"the site {verb} more than the 10 MW that it may"
        # Within the tolerance of 0.1 MW, and beyond half of it.
        await site.run(100, sign * 5.04, sign * 5.04)
        assert site.open_alarms() == ["site North"]
        await site.run(25, sign * 5.0, sign * 5.0)
        assert site.open_alarms() == ["site North"]
        await site.run(10, sign * 5.0, sign * 5.0)
        assert site.open_alarms() == []


async def test_within_the_tolerance_there_is_none(autojump_clock: object) -> None:
    async with two_batteries() as site:
        await site.run(100, 5.04, 5.04)
        assert site.open_alarms() == []


async def test_charging_is_set_off_against_discharging(autojump_clock: object) -> None:
    async with two_batteries() as site:
        limit(site.rig, 4.0, 4.0)
        await site.run(60, 8.0, -7.0)
        assert site.open_alarms() == []


@pytest.mark.parametrize("export_mw", [0.0, 3.0])
async def test_a_low_limit_has_a_tolerance_of_its_own(autojump_clock: object, export_mw: float) -> None:
    async with two_batteries() as site:
        limit(site.rig, export_mw)
        await site.run(40, export_mw / 2 + 0.04, export_mw / 2 + 0.04)
        assert site.open_alarms() == []
        await site.run(40, export_mw / 2 + 0.06, export_mw / 2 + 0.06)
        assert site.open_alarms() == ["site North"]


@pytest.mark.parametrize(
    "silence",
    [
        # The last value of a battery whose agent is silent, and the last good one of a battery whose values
        # cannot be.
        None,
        -1e6,
    ],
)
async def test_a_battery_without_a_good_value_counts_with_its_last_one(
    autojump_clock: object, silence: float | None
) -> None:
    async with two_batteries() as site:
        await site.run(5, 6.0, 6.0)
        await site.run(60, 6.0, silence)
        assert site.open_alarms() == ["site North"]
        expected = "the site exports more than the 10 MW that it may, 1 of 2 batteries by estimate"
        assert site.reason == expected


async def test_a_battery_that_has_never_reported_does_not_count(autojump_clock: object) -> None:
    async with two_batteries() as site:
        await site.run(60, 8.0, None)
        assert site.open_alarms() == []


async def test_without_any_good_value_nothing_changes(autojump_clock: object) -> None:
    async with two_batteries() as site:
        await site.run(5, 6.0, 6.0)
        await site.run(10, None, None)
        # Stale by now.
        await site.run(60, None, None)
        assert site.open_alarms() == ["site North"]
        limit(site.rig, 20.0)
        await site.run(60, None, None)
        assert site.open_alarms() == ["site North"]
        await site.run(40, 6.0, None)
        assert site.open_alarms() == []


@pytest.mark.parametrize("is_removed", [True, False])
async def test_it_ends_with_the_limit(autojump_clock: object, is_removed: bool) -> None:
    async with two_batteries() as site:
        await site.run(40, 6.0, 6.0)
        assert site.open_alarms() == ["site North"]
        if is_removed:
            site_id = site.rig.headend.fleet.sites[0].id
            site.rig.headend.dispatcher.site_limits.remove(site_id, reason="a test")
        else:
            limit(site.rig, 15.0)
        await site.run(40, 6.0, 6.0)
        assert site.open_alarms() == []


async def test_it_is_the_same_alarm_after_a_restart(autojump_clock: object) -> None:
    store = AlarmStore()
    async with two_batteries(store) as site:
        await site.run(40, 6.0, 6.0)
    [alarm_id] = store.by_id
    async with two_batteries(store, epoch=2) as site:
        await site.run(100, 6.0, 6.0)
        assert (list(store.by_id), store.by_id[alarm_id].is_open) == ([alarm_id], True)
        await site.run(40, 5.0, 5.0)
        assert not store.by_id[alarm_id].is_open


async def test_those_who_see_the_site_see_it(autojump_clock: object) -> None:
    async with two_batteries() as site:
        await site.run(40, 6.0, 6.0)
        [north] = site.rig.headend.fleet.sites
        register = site.rig.headend.alarms.register

        def seen(tenant: str, *site_ids: str) -> int:
            scope = Scope(tenant=tenant, site_ids=frozenset(site_ids))
            return len(register.newest(AlarmFilter(scope=scope, kind="site_limit_exceeded"), limit=9))

        assert (seen(north.tenant, north.id), seen(north.tenant, "another"), seen("other", north.id)) == (
            1,
            0,
            0,
        )
