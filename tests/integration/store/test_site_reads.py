"""Sums over the assets of sites, and lists of dispatches, sessions and events by site, in a real database."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from math import fsum

import pytest

from tests.integration.store import tenants
from tests.integration.store.senders import keep, samples
from tests.integration.store.servers import open_store_on
from tests.integration.store.tenants import (
    ASSETS,
    EVERY_ASSET,
    FLEET,
    NORTH,
    NORTH_AT_A,
    SITES,
    SOUTH,
    dispatch_named,
    name_of,
    record_id,
    session_id,
)
from tests.integration.store.test_buckets import START_MS, summarize, wall
from trioder.domain.access import EVERYTHING, Scope
from trioder.domain.alarms import EventFilter, EventRecord
from trioder.domain.dispatch import LEFT_OUT, ExcludedAssetRecord
from trioder.domain.fleet import Fleet
from trioder.domain.quality import Quality
from trioder.domain.telemetry import Samples, SiteBucket
from trioder.store.postgres.store import PostgresStore

PULSE_MS = 60_000
A, B, C = (SITES[name].id for name in "abc")
LARGER = Fleet(
    sites=EVERY_ASSET.sites, assets=[replace(EVERY_ASSET.assets[0], capacity_mwhr=80.0), *ASSETS[1:]]
)

# Of a sample: the asset's key, time, quality, capacity, and soc_mwhr, current_mw, setpoint_mw.
Row = tuple[int, int, Quality, float, float, float, float]


def pulse(rng: random.Random, ts_ms: int, fleet: Fleet) -> tuple[Samples, list[Row]]:
    """One sample of each of some assets."""
    keys = [key for key in range(len(ASSETS)) if rng.random() < 0.9] or [0]
    rows: list[Row] = [
        (
            key,
            ts_ms,
            rng.choice([Quality.GOOD] * 8 + [Quality.SUSPECT]),
            fleet.assets[key].capacity_mwhr,
            *(rng.uniform(-9, 9) for _ in range(3)),
        )
        for key in keys
    ]
    columns = list(zip(*(row[4:] for row in rows), strict=True))
    batch = replace(
        samples(ts_ms, keys=range(len(keys))),
        asset_keys=keys,
        soc_mwhr=columns[0],
        current_mw=columns[1],
        setpoint_mw=columns[2],
        quality=bytes(row[2] for row in rows),
    )
    return batch, rows


def expected(rows: Sequence[Row], keys: Sequence[int], step_ms: int, start_ms: int) -> list[SiteBucket]:
    """Aggregate without SQL, newest first."""
    by_start: dict[int, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row[0] in keys and row[1] >= start_ms:
            by_start[row[1] // step_ms * step_ms][row[0]].append(row)
    buckets = []
    for bucket_ms, by_key in sorted(by_start.items(), reverse=True):
        good = [[row for row in each if row[2] is Quality.GOOD] for each in by_key.values()]
        live = [each for each in good if each]
        count = sum(map(len, by_key.values()))

        def total(column: int, live: Sequence[Sequence[Row]] = live) -> float | None:
            means = [fsum(float(row[column]) for row in each) / len(each) for each in live]
            return fsum(means) if means else None

        buckets.append(
            SiteBucket(
                bucket_ms,
                len(live),
                count,
                sum(map(len, good)),
                "good" if sum(map(len, good)) == count else "suspect",
                current_mw=total(5),
                setpoint_mw=total(6),
                soc_mwhr=total(4),
                capacity_mwhr=total(3),
            )
        )
    return buckets


def agree(found: Sequence[SiteBucket], wanted: Sequence[SiteBucket]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        for name in ("current_mw", "setpoint_mw", "soc_mwhr", "capacity_mwhr"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9, abs=1e-9)
        assert (one.start_ms, one.assets, one.samples, one.good_samples, one.worst_quality) == (
            *(other.start_ms, other.assets, other.samples, other.good_samples, other.worst_quality),
        )


async def test_the_history_of_a_site_is_what_its_assets_samples_add_up_to(database_url: str) -> None:
    rng, rows = random.Random(1), list[Row]()
    pulses = iter(range(START_MS, START_MS + 200 * PULSE_MS, PULSE_MS))
    # A nameplate changes in the middle of an hour, and back.
    for fleet in (EVERY_ASSET, LARGER, EVERY_ASSET):
        async with open_store_on(database_url, fleet=fleet, wall=wall()) as store:
            for _ in range(60):
                batch, new = pulse(rng, next(pulses), fleet)
                rows += new
                assert store.submit(f"box-{batch.ts_unix_ms}", 1, batch)
            await store.wait_idle()
            await summarize(store, hours=1)
            for step_s in (300, 7200):
                for site_ids, keys in (([A], [0, 3]), ([B], [1]), (None, range(5))):
                    start_ms = START_MS + 600_000 // (step_s * 1000) * (step_s * 1000)
                    found = await store.site_history(
                        site_ids,
                        resolution_s=step_s,
                        start_ms=start_ms,
                        end_ms=START_MS + 24 * 3_600_000,
                        limit=10_000,
                    )
                    agree(found, expected(rows, list(keys), step_s * 1000, start_ms))
    assert await newest(store_url=database_url, limit=3) == 3


async def newest(*, store_url: str, limit: int) -> int:
    async with open_store_on(store_url, fleet=EVERY_ASSET, wall=wall()) as store:
        found = await store.site_history(
            [A], resolution_s=300, start_ms=START_MS, end_ms=START_MS + 24 * 3_600_000, limit=limit
        )
        return len(found)


@pytest.mark.parametrize(
    ("scope", "site_ids", "assets"),
    [
        (EVERYTHING, None, 5),
        (EVERYTHING, [C], 2),
        (NORTH, None, 3),
        (NORTH, [C], 0),
        (NORTH_AT_A, None, 2),
        (NORTH_AT_A, [B], 0),
        (SOUTH, None, 2),
    ],
)
async def test_sums_are_over_what_lies_in_the_scope(
    database_url: str, scope: Scope, site_ids: list[str] | None, assets: int
) -> None:
    async with open_store_on(database_url, fleet=EVERY_ASSET, wall=wall()) as store:
        await keep(store, samples(START_MS, keys=range(len(ASSETS))))
        for summarized in (False, True):
            if summarized:
                assert await summarize(store) > 0
            found = await store.site_history(
                site_ids,
                resolution_s=3600,
                start_ms=START_MS,
                end_ms=START_MS + 3_600_000,
                limit=9,
                scope=scope,
            )
            assert [bucket.assets for bucket in found] == ([assets] if assets else [])


async def test_the_power_of_the_last_minutes_is_that_of_each_site(database_url: str) -> None:
    async with open_store_on(database_url, fleet=EVERY_ASSET, wall=wall()) as store:
        for number, second in enumerate((0, 4, 14, 15, 40), start=1):
            assert store.submit("box", number, samples(START_MS + second * 1000, keys=range(5)))
        suspect = replace(samples(START_MS + 41_000), quality=bytes([Quality.SUSPECT]))
        assert store.submit("box", 6, suspect)
        await store.wait_idle()
    # The last two assets have left the fleet.
    async with open_store_on(database_url, fleet=FLEET, wall=wall()) as store:
        await store.find_retired_asset(ASSETS[0].id)
        found = await store.site_power(start_ms=START_MS, end_ms=START_MS + 40_000, step_s=15)
        assert sorted((each.site_id, each.start_ms - START_MS, each.live) for each in found) == [
            (site_id, start_ms, 1) for site_id in (A, B, C) for start_ms in (0, 15_000)
        ]
        assert {(each.current_mw, each.setpoint_mw) for each in found} == {(1.0 / 3.0, -2.5)}


async def test_dispatches_and_sessions_are_listed_by_site_page_by_page(database_url: str) -> None:
    await tenants.fill(database_url)
    async with open_store_on(database_url, fleet=FLEET) as store:
        await until_read(store)

        async def dispatches(**wanted: object) -> list[str]:
            found = await store.dispatches(limit=10, **wanted)  # type: ignore[arg-type]  # a test's shorthand
            return [name_of(record.dispatch_id) for record in found]

        async def sessions(**wanted: object) -> list[str]:
            found = await store.sessions(limit=10, **wanted)  # type: ignore[arg-type]  # a test's shorthand
            return [name_of(session.session_id) for session in found]

        for listed, id_of in ((dispatches, record_id), (sessions, session_id)):
            # By their times, which are those of their names as numbers.
            assert await listed() == ["ac", "ab", "c", "a"]
            assert await listed(site_id=A) == ["ac", "ab", "a"]
            assert await listed(site_id=B) == ["ab"]
            assert await listed(site_id=A, scope=NORTH_AT_A) == ["a"]
            before = (1_800_000_000_000 + 0xAB, id_of("ab"))
            assert await listed(before=before) == ["c", "a"]
            assert await listed(before=before, site_id=A) == ["a"]
            assert await listed(before=(before[0] + 1, before[1])) == ["ab", "c", "a"]
        assert await dispatches(asset=ASSETS[0], before=(1_800_000_000_000 + 0xAB, record_id("ab"))) == ["a"]
        found = await store.find_session(session_id("ab"), scope=NORTH)
        assert (found is not None, found and found.agent_id) == (True, "agent-ab")
        assert await store.find_session(session_id("ab"), scope=SOUTH) is None


async def until_read(store: PostgresStore) -> None:
    # Connected, and nothing waits.
    await store.wait_idle()


async def test_allocations_are_read_page_by_page(database_url: str) -> None:
    whole = replace(
        dispatch_named("ab"),
        left_out=(ExcludedAssetRecord(asset_id=ASSETS[2].id, code="stale", allocation="none: stale"),),
    )
    shares = dict(enumerate((*whole.members, *whole.left_out)))
    async with open_store_on(database_url, fleet=FLEET) as store:
        store.record_dispatch(
            replace(whole, members=(), left_out=()), changed=list(shares), share_of=shares.__getitem__
        )

        async def page(**wanted: object) -> list[str] | None:
            found = await store.allocations(whole.dispatch_id, **{"limit": 10, **wanted})  # type: ignore[arg-type]  # a test's shorthand
            return None if found is None else [each.asset_id for each in found]

        first, second, third = (each.id for each in ASSETS[:3])
        for written in (False, True):
            if written:
                await store.wait_idle()
            assert await page() == [first, second, third]
            assert await page(limit=2) == [first, second]
            assert await page(after=second) == [third]
            assert await page(after=third) == []
            assert await page(state="sent", limit=1, after=first) == [second]
            assert await page(state=LEFT_OUT) == [third]
            assert await page(state="tracking") == []
            assert await page(after=ASSETS[4].id) is None
        assert await page(scope=NORTH) == [first, second, third]
        assert await page(scope=SOUTH) == []
        slim = await store.find_dispatch(dispatch_id=whole.dispatch_id, whole=False)
        assert slim is not None
        assert (slim.by_state, slim.members, slim.left_out) == ({"sent": 2}, (), ())


async def test_events_are_listed_by_site(database_url: str) -> None:
    event = EventRecord(
        at_ms=1_800_000_000_000,
        origin="agent",
        agent_id="agent",
        asset_id=ASSETS[0].id,
        tenant="north",
        site_ids=(A,),
        event_type="DOOR",
        severity="info",
        message="open",
    )
    async with open_store_on(database_url, fleet=FLEET) as store:
        for site_ids in ((A,), (A, B), None, ()):
            store.record_event(replace(event, site_ids=site_ids))
        await store.wait_idle()
        for site_id, count in ((A, 2), (B, 1), (C, 0)):
            assert len(await store.events(EventFilter(site_id=site_id), limit=10)) == count
