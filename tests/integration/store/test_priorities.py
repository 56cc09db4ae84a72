"""Priorities of dispatches, cancelled dispatches, and limits of sites over a restart, on PostgreSQL."""

from dataclasses import replace

import pytest

from tests.integration.store.servers import open_store_on, run_sql
from tests.unit.store.model_database import dispatch_record
from tests.unit.store.model_dispatches import hand_over
from trioder.domain.dispatch import PRIORITIES
from trioder.domain.site_limits import SiteLimits, SiteLimitsRecord

SITE_ID = "77558995-c1ce-598e-8292-221ed23b6a1d"
LIMITS = SiteLimitsRecord(
    site_id=SITE_ID,
    limits=SiteLimits(export_mw=12.5),
    until_ms=1_900_000_000_000,
    set_ms=1_800_000_000_000,
    set_by="anna",
)


@pytest.mark.parametrize("priority", PRIORITIES)
async def test_an_open_dispatch_has_its_priority_after_a_restart(priority: str, database_url: str) -> None:
    record = replace(
        dispatch_record("3f1d2c4b-0000-4000-8000-0000000000aa", "deferred"),
        is_open=True,
        priority=priority,  # type: ignore[arg-type]  # of the list
    )
    async with open_store_on(database_url) as store:
        hand_over(store.record_dispatch, record)
        await store.wait_idle()
    async with open_store_on(database_url) as store:
        [found] = await store.open_dispatches()
    assert (found.priority, found.state, found.members[0].state) == (priority, "deferred", "deferred")


async def test_a_stop_is_read_for_recovery_however_many_dispatches_are_newer(database_url: str) -> None:
    stop = replace(
        dispatch_record("3f1d2c4b-0000-4000-8000-0000000000aa"), is_open=True, priority="emergency"
    )
    async with open_store_on(database_url) as store:
        hand_over(store.record_dispatch, stop)
        for number in range(3):
            newer = dispatch_record(f"3f1d2c4b-0000-4000-8000-00000000000{number}")
            newer = replace(newer, is_open=True, dispatched_ms=stop.dispatched_ms + 1 + number)
            hand_over(store.record_dispatch, newer)
        await store.wait_idle()
        found = await store._database.open_dispatches(limit=2)
    assert [record.dispatch_id[-2:] for record in found] == ["aa", "02"]


async def test_the_last_cancelled_dispatches_are_read_for_recovery(database_url: str) -> None:
    record = replace(dispatch_record("3f1d2c4b-0000-4000-8000-0000000000aa", "cancelled"), is_open=False)
    async with open_store_on(database_url) as store:
        hand_over(store.record_dispatch, record)
        await store.wait_idle()
        assert not await store.open_dispatches()
        run_sql(database_url, "UPDATE dispatches SET dispatched_at = now() - interval '6 days'")
        [found] = await store.open_dispatches()
        run_sql(database_url, "UPDATE dispatches SET dispatched_at = now() - interval '8 days'")
        assert not await store.open_dispatches()
    assert found.members[0].state == "cancelled"


async def test_limits_of_a_site_are_kept_changed_and_removed(database_url: str) -> None:
    async with open_store_on(database_url) as store:
        store.record_site_limits(SITE_ID, LIMITS)
        await store.wait_idle()
        assert list(await store.site_limits()) == [LIMITS]
        changed = replace(LIMITS, limits=SiteLimits(import_mw=3.0), until_ms=None)
        store.record_site_limits(SITE_ID, changed)
        await store.wait_idle()
        assert list(await store.site_limits()) == [changed]
        store.record_site_limits(SITE_ID, None)
        await store.wait_idle()
        assert list(await store.site_limits()) == []
