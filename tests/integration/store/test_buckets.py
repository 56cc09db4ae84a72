"""History at a resolution: whatever is summarized, late or odd, it is what the samples aggregate to."""

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial

import pytest
import trio

from tests.integration.store.senders import keep, samples
from tests.integration.store.servers import FLEET, SITE, asset, open_store_on, run_sql
from trioder.domain.fleet import Fleet
from trioder.domain.quality import QUALITY_NAMES, Quality
from trioder.domain.telemetry import Samples, TelemetryBucket
from trioder.process.wall_time import WallClock
from trioder.store.postgres import summaries
from trioder.store.postgres.store import PostgresStore
from trioder.store.postgres.summaries import summarize_next

START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
LARGER = Fleet(sites=(SITE,), assets=(asset(1, capacity_mwhr=80.0), *FLEET.assets[1:]))
WORST_FIRST = ["bad", "wrong_time", "suspect", "synthesized", "good"]
QUANTITIES = ["soc_mwhr", "soc_pct", "current_mw", "setpoint_mw"]

# A sample of asset 1: time, source, quality, capacity, and soc_mwhr, current_mw, setpoint_mw.
Row = tuple[int, str, Quality, float, float, float, float]


def wall() -> WallClock:
    return WallClock((START_MS + 2 * DAY_MS) / 1000, trio.current_time())


async def summarize(store: PostgresStore, *, hours: int = 1000) -> int:
    """Summarize up to so many hours; return how many were."""
    job = partial(summarize_next, quiet_s=-1)
    done = 0
    while done < hours and await store._database._summary_pool.run(job, within_s=30):  # type: ignore[attr-defined]
        done += 1
    return done


def expected(rows: Sequence[Row], step_ms: int, start_ms: int, end_ms: int) -> Iterator[dict]:
    """Aggregate without SQL, newest first."""
    by_bucket: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if start_ms <= row[0] < end_ms:
            by_bucket[row[0] // step_ms * step_ms].append(row)
    for bucket_ms, members in sorted(by_bucket.items(), reverse=True):
        used = sorted(
            row
            for row in members
            if row[2] in (Quality.GOOD, Quality.SYNTHESIZED) and all(map(math.isfinite, row[4:]))
        )
        qualities = {QUALITY_NAMES[row[2]] for row in members}
        found: dict = {
            "start_ms": bucket_ms,
            "samples": len(members),
            "good_samples": len(used),
            "worst_quality": next(name for name in WORST_FIRST if name in qualities),
        }
        for name in QUANTITIES:
            values = [
                {"soc_mwhr": soc, "soc_pct": soc / capacity * 100, "current_mw": mw, "setpoint_mw": setpoint}[
                    name
                ]
                for _, _, _, capacity, soc, mw, setpoint in used
            ]
            found[name] = dict.fromkeys(("mean", "min", "max", "last"))
            if values:
                mean = math.fsum(values) / len(values)
                found[name] = {"mean": mean, "min": min(values), "max": max(values), "last": values[-1]}
        yield found


def agree(buckets: Sequence[TelemetryBucket], wanted: Sequence[dict]) -> None:
    assert len(buckets) == len(wanted)
    for bucket, want in zip(map(asdict, buckets), wanted, strict=True):
        for name in QUANTITIES:
            if want["good_samples"] == 0:
                assert bucket.pop(name) == want.pop(name)
                continue
            assert bucket.pop(name) == pytest.approx(want.pop(name), rel=1e-9, abs=1e-9), (name, want)
        assert bucket == want


def draw(rng: random.Random, ts_ms: int, capacity: float) -> Row:
    quality = rng.choice([*Quality, *[Quality.GOOD] * 6])
    source = "synthesized" if quality is Quality.SYNTHESIZED else "agent"
    odd = quality in (Quality.SUSPECT, Quality.BAD)
    values = [
        rng.choice([math.nan, math.inf, -math.inf, 1e300])
        if odd and rng.random() < 0.5
        else rng.uniform(-9, 9)
        for _ in range(3)
    ]
    return (ts_ms, source, quality, capacity, *values)  # type: ignore[return-value]


def batch(row: Row) -> Samples:
    ts_ms, source, quality, _, soc, mw, setpoint = row
    one = samples(ts_ms, source=source)
    return replace(one, soc_mwhr=[soc], current_mw=[mw], setpoint_mw=[setpoint], quality=bytes([quality]))


@pytest.mark.parametrize("seed", range(6))
async def test_it_is_what_the_samples_aggregate_to(database_url: str, seed: int) -> None:
    rng = random.Random(seed)
    rows: list[Row] = []
    for fleet in (FLEET, LARGER, FLEET):
        capacity = fleet.assets[0].capacity_mwhr
        async with open_store_on(database_url, fleet=fleet, wall=wall()) as store:
            for _ in range(3):
                # Bursts, gaps of hours, and late samples between those that are there.
                near_ms = START_MS + rng.randrange(2 * DAY_MS)
                fresh = {
                    near_ms + rng.randrange(rng.choice([60_000, HOUR_MS, 5 * HOUR_MS])) for _ in range(60)
                }
                new = [draw(rng, ts_ms, capacity) for ts_ms in fresh - {row[0] for row in rows}]
                rows += new
                for row in new:
                    assert store.submit(f"box-{row[0]}", 1, batch(row))
                await store.wait_idle()
                await summarize(store, hours=rng.choice([0, 2, 1000]))
                for step_s in (60, 300, 900, 3600, 86_400):
                    step_ms = step_s * 1000
                    start_ms = START_MS + rng.randrange(DAY_MS) // step_ms * step_ms
                    end_ms = start_ms + rng.randrange(1, 3 * DAY_MS // step_ms + 1) * step_ms
                    found = await store.history_buckets(
                        fleet.assets[0], resolution_s=step_s, start_ms=start_ms, end_ms=end_ms, limit=10_000
                    )
                    agree(found, list(expected(rows, step_ms, start_ms, end_ms)))


async def buckets_of(store: PostgresStore, step_s: int = 300) -> list[tuple[int, float | None]]:
    """The number of samples and the mean charge of each period of the first day, oldest first."""
    found = await store.history_buckets(
        FLEET.assets[0], resolution_s=step_s, start_ms=START_MS, end_ms=START_MS + DAY_MS, limit=10_000
    )
    return [(bucket.samples, bucket.soc_mwhr.mean) for bucket in reversed(found)]


async def test_a_late_sample_is_in_the_next_answer_and_in_the_next_summary(database_url: str) -> None:
    async with open_store_on(database_url, wall=wall()) as store:
        await keep(store, samples(START_MS, soc_mwhr=10.0))
        assert await summarize(store) > 0
        assert store.submit("box-0", 2, samples(START_MS + 1, soc_mwhr=20.0))
        await store.wait_idle()
        assert await buckets_of(store) == [(2, 15.0)]
        assert await summarize(store) == 1
        assert await buckets_of(store) == [(2, 15.0)]
        assert await summarize(store) == 0
        assert run_sql(database_url, "SELECT samples, soc_mwhr_sum FROM telemetry_5m") == [(2, 30.0)]


async def test_a_summarized_hour_is_read_from_its_summary_alone(database_url: str) -> None:
    async with open_store_on(database_url, wall=wall()) as store:
        await keep(store, samples(START_MS, soc_mwhr=10.0))
        await summarize(store)
        # As nobody may do: the summary is not of these any more.
        run_sql(database_url, "DELETE FROM samples")
        assert await buckets_of(store, 300) == await buckets_of(store, 86_400) == [(1, 10.0)]
        # Finer than a summary's periods.
        assert await buckets_of(store, 60) == []
        run_sql(database_url, "UPDATE telemetry_hours SET changes = changes + 1")
        assert await buckets_of(store, 300) == []


async def test_a_batch_that_is_sent_twice_changes_nothing(database_url: str) -> None:
    async with open_store_on(database_url, wall=wall()) as store:
        await keep(store, samples(START_MS))
        await summarize(store)
        assert store.submit("box-0", 1, samples(START_MS))
        await store.wait_idle()
        assert await summarize(store) == 0


async def test_an_hour_waits_until_its_samples_have_stopped(database_url: str) -> None:
    async with open_store_on(database_url, wall=wall()) as store:
        await keep(store, samples(START_MS))
        assert not await store._database.summarize()
        run_sql(database_url, "UPDATE telemetry_hours SET changed_at = now() - interval '3 minutes'")
        assert await store._database.summarize()


async def test_no_commit_waits_for_a_summary(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "SELECT pg_sleep(3), %s::timestamptz, %s::timestamptz"
    async with open_store_on(database_url, wall=wall()) as store:
        await keep(store, samples(START_MS))
        monkeypatch.setattr(summaries, "_SUMMARIZE", slow)
        async with trio.open_nursery() as nursery:
            # The first adds hours, too.
            nursery.start_soon(partial(summarize, store, hours=1))
            await trio.sleep(1)
            started_s = trio.current_time()
            for seq, hour in enumerate([0, -1, 5, 30], start=2):
                assert store.submit("box-0", seq, samples(START_MS + hour * HOUR_MS))
            await store.wait_idle()
            assert (store.health, trio.current_time() - started_s < 1.5) == ("ok", True)


async def test_samples_from_before_there_were_summaries_are_summarized(database_url: str) -> None:
    async with open_store_on(database_url, wall=wall()) as store:
        await keep(store, samples(START_MS, soc_mwhr=10.0))
        run_sql(database_url, "DELETE FROM telemetry_hours")
        assert await buckets_of(store) == [(1, 10.0)]
        # Every hour of each past day with a partition.
        assert await summarize(store) % 24 == 0
        assert await buckets_of(store) == [(1, 10.0)]
        assert run_sql(database_url, "SELECT samples FROM telemetry_5m") == [(1,)]


async def test_samples_far_from_the_present_are_not_summarized(database_url: str) -> None:
    async with open_store_on(database_url, wall=wall()) as store:
        await keep(store, samples(1000), samples(START_MS + 400 * DAY_MS))
        await summarize(store)
        assert run_sql(database_url, "SELECT count(*) FROM telemetry_hours WHERE changes > 0") == [(0,)]
        assert run_sql(database_url, "SELECT count(*) FROM telemetry_5m") == [(0,)]
        found = await store.history_buckets(
            FLEET.assets[0], resolution_s=86_400, start_ms=0, end_ms=DAY_MS, limit=10
        )
        assert [bucket.samples for bucket in found] == [1]


async def test_dropped_telemetry_takes_its_summaries_along(database_url: str) -> None:
    async with open_store_on(database_url, wall=wall()) as store:
        await keep(store, samples(START_MS), samples(START_MS + DAY_MS), samples(START_MS + 2 * DAY_MS))
        await summarize(store)
    later = WallClock((START_MS + 3 * DAY_MS) / 1000, trio.current_time())
    async with open_store_on(database_url, wall=later, retention_days=1) as store:
        await keep(store, samples(START_MS + 2 * DAY_MS), samples(START_MS + 3 * DAY_MS))
        await summarize(store)
        await store._database.maintain()
        run_sql(database_url, "UPDATE telemetry_retention SET confirmed_before = newest_day")
        await store._database.maintain()
        days = run_sql(
            database_url,
            "SELECT (SELECT count(*) FROM pg_inherits WHERE inhparent = 'telemetry_5m'::regclass), "
            "(SELECT min(hour) >= min(ts) FROM telemetry_hours, samples)",
        )
        assert days[0][1]
        assert await buckets_of(store) == []


async def test_the_newest_periods_are_kept_where_there_are_too_many(database_url: str) -> None:
    async with open_store_on(database_url, wall=wall()) as store:
        await keep(store, *(samples(START_MS + n * 300_000, soc_mwhr=n) for n in range(9)))
        found = await store.history_buckets(
            FLEET.assets[0], resolution_s=300, start_ms=START_MS, end_ms=START_MS + DAY_MS, limit=3
        )
        assert [bucket.soc_mwhr.mean for bucket in found] == [8.0, 7.0, 6.0]
