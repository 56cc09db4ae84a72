"""What people find of telemetry: in the view, as history, and in which partition."""

from dataclasses import replace
from math import inf, isnan, nan

import pytest
import trio

from tests.integration.store.senders import keep, samples
from tests.integration.store.servers import (
    FLEET,
    SITE,
    asset,
    open_store_on,
    run_sql,
)
from trioder.domain.fleet import Fleet
from trioder.process.wall_time import WallClock

DAY_MS = 86_400_000


async def test_the_view_has_what_was_stored(database_url: str) -> None:
    async with open_store_on(database_url) as store:
        await keep(store, samples(1_800_000_000_123))
        [row] = run_sql(database_url, "SELECT * FROM telemetry")
        columns = [
            name
            for (name,) in run_sql(
                database_url,
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'telemetry' "
                "ORDER BY ordinal_position",
            )
        ]
        found = dict(zip(columns, row, strict=True))
        [past] = await store.history(FLEET.assets[0], limit=10)
    sample = past.telemetry
    assert found["ts"].timestamp() == pytest.approx(1_800_000_000.123)
    assert (sample.ts_unix_ms, sample.current_mw, sample.setpoint_mw) == (1_800_000_000_123, 1.0 / 3.0, -2.5)
    assert (str(found["asset_id"]), str(found["site_id"])) == (sample.asset_id, sample.site_id)
    assert found["source"] == past.source == "agent"
    for name in (
        "soc_mwhr",
        "soc_pct",
        "capacity_mwhr",
        "current_mw",
        "setpoint_mw",
        "max_mw",
        "min_mw",
        "status",
    ):
        assert found[name] == getattr(sample, name), name


async def test_history_is_bounded_newest_first_and_within_its_times(database_url: str) -> None:
    start = 1_800_000_000_000
    async with open_store_on(database_url) as store:
        await keep(store, *(samples(start + second * 1000) for second in range(10)))

        async def times(**selection: int) -> list[int]:
            past = await store.history(FLEET.assets[0], **selection)
            return [(sample.telemetry.ts_unix_ms - start) // 1000 for sample in past]

        assert await times(limit=3) == [9, 8, 7]
        assert await times(limit=100, start_ms=start + 2000, end_ms=start + 5000) == [4, 3, 2]
        assert await store.history(FLEET.assets[1], limit=3) == []


async def test_history_keeps_the_nameplate_of_its_time(database_url: str) -> None:
    async with open_store_on(database_url) as store:
        await keep(store, samples(1_800_000_000_000))
    larger = Fleet(sites=(SITE,), assets=(asset(1, capacity_mwhr=80.0), *FLEET.assets[1:-1]))
    async with open_store_on(database_url, fleet=larger) as store:
        store.store_unsequenced(samples(1_800_000_001_000, source="synthesized"))
        await store.wait_idle()
        past = await store.history(larger.assets[0], limit=10)
    assert [(each.telemetry.soc_pct, each.source) for each in past] == [
        (25.0, "synthesized"),
        (50.0, "agent"),
    ]
    assert run_sql(database_url, "SELECT count(*) FROM assets WHERE in_fleet") == [(39,)]


async def test_samples_go_to_the_partition_of_their_day_and_wild_ones_to_the_default(
    database_url: str,
) -> None:
    now_ms = 1_800_000_000_000
    wall = WallClock(now_ms / 1000, trio.current_time())
    async with open_store_on(database_url, wall=wall) as store:
        names = run_sql(database_url, "SELECT relid::text FROM pg_partition_tree('samples') WHERE isleaf")
        assert {name for (name,) in names} == {
            "samples_default",
            "samples_20270115",
            "samples_20270116",
            "samples_20270117",
        }
        await keep(store, *(samples(ts) for ts in (now_ms, now_ms - 3 * DAY_MS, 1, now_ms + 5 * DAY_MS)))
    counts = run_sql(
        database_url, "SELECT tableoid::regclass::text, count(*) FROM samples GROUP BY 1 ORDER BY 1"
    )
    assert counts == [("samples_20270112", 1), ("samples_20270115", 1), ("samples_default", 2)]
    # At that day, what lay in the default partition moves.
    later = WallClock(now_ms / 1000 + 5 * 86_400, trio.current_time())
    async with open_store_on(database_url, wall=later) as store:
        assert len(await store.history(FLEET.assets[0], limit=10)) == 4
    counts = run_sql(
        database_url, "SELECT tableoid::regclass::text, count(*) FROM samples GROUP BY 1 ORDER BY 1"
    )
    assert ("samples_20270120", 1) in counts


async def test_what_is_older_than_the_retention_is_dropped(database_url: str) -> None:
    now_ms = 1_800_000_000_000
    async with open_store_on(database_url, wall=WallClock(now_ms / 1000, trio.current_time())) as store:
        await keep(store, *(samples(now_ms - days * DAY_MS) for days in range(5)))
    later = WallClock(now_ms / 1000, trio.current_time())
    async with open_store_on(database_url, wall=later, retention_days=2):
        pass
    assert run_sql(database_url, "SELECT count(*) FROM samples") == [(3,)]


async def test_each_sample_has_its_quality_by_name(database_url: str) -> None:
    start = 1_800_000_000_000
    given = [
        replace(samples(start), quality=b"\0"),
        replace(samples(start + 1), quality=b"\1"),
        replace(samples(start + 2), quality=b"\2"),
        replace(samples(start + 3, source="synthesized"), quality=b"\3"),
        replace(samples(start + 4), quality=b"\4"),
        samples(start + 5),
        samples(start + 6, source="synthesized"),
    ]
    async with open_store_on(database_url) as store:
        await keep(store, *given)
        past = await store.history(FLEET.assets[0], limit=10)
    names = ["good", "suspect", "bad", "synthesized", "wrong_time", "good", "synthesized"]
    assert [sample.quality for sample in reversed(past)] == names
    assert run_sql(database_url, "SELECT quality FROM telemetry ORDER BY ts") == [(name,) for name in names]


async def test_in_one_batch_each_row_has_its_own_quality(database_url: str) -> None:
    start, all_keys = 1_800_000_000_000, range(40)
    mixed = replace(samples(start, keys=all_keys), quality=bytes([0, 1, 2, 4] * 10))
    async with open_store_on(database_url) as store:
        # In one transaction, and in one batch of unsequenced samples.
        await keep(store, samples(start + 1, keys=all_keys), mixed)
        store.store_unsequenced(replace(mixed, ts_unix_ms=start + 2))
        store.store_unsequenced(samples(start + 3, keys=all_keys, source="synthesized"))
        await store.wait_idle()
    rows = run_sql(
        database_url,
        "SELECT array_agg(quality ORDER BY asset_id) FROM telemetry GROUP BY ts ORDER BY ts",
    )
    names = ["good", "suspect", "bad", "wrong_time"] * 10
    assert [quality for (quality,) in rows] == [names, ["good"] * 40, names, ["synthesized"] * 40]


async def test_values_that_are_no_numbers_are_stored_with_their_quality(database_url: str) -> None:
    wild = replace(
        samples(1_800_000_000_000), soc_mwhr=[nan], current_mw=[nan], setpoint_mw=[inf], quality=b"\1"
    )
    async with open_store_on(database_url) as store:
        await keep(store, wild)
        [past] = await store.history(FLEET.assets[0], limit=10)
    assert isnan(past.telemetry.soc_pct)
    assert isnan(past.telemetry.current_mw)
    assert (past.telemetry.setpoint_mw, past.quality) == (inf, "suspect")
    assert run_sql(database_url, "SELECT status, quality FROM telemetry") == [
        (past.telemetry.status, "suspect")
    ]


async def test_the_times_that_agents_reported_are_those_of_each_assets_newest_samples(
    database_url: str,
) -> None:
    start = 1_800_000_000_000
    async with open_store_on(database_url) as store:
        await keep(store, *(samples(start + at, keys=[0, 1]) for at in (0, 1, DAY_MS)))
        store.store_unsequenced(samples(start + 2, keys=[0], source="synthesized"))
        await store.wait_idle()
        assets = FLEET.assets[:3]
        found = await store.reported_times(assets, limit=2)
        assert found == {assets[0].id: [start + DAY_MS], assets[1].id: [start + 1, start + DAY_MS]}
        assert await store.reported_times(assets[2:3], limit=2) == {}
