"""`scripts/bench history`: how long a month of one asset takes over REST, at a resolution.

A real headend; the samples are made by the server and loaded by COPY, as if they had been recorded.
"""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from urllib.request import urlopen

import psycopg
from psycopg import sql

from scripts.benchmarks.benchmark import Case, Report, benchmark, number, spread_rows
from scripts.benchmarks.database import COPY_SAMPLES, in_thread
from scripts.benchmarks.processes import RunningHeadend, invented_fleet, open_headend
from trioder.store.postgres.partitions import name_of, start_of
from trioder.store.postgres.pg_connection import open_connection
from trioder.store.postgres.summaries import summarize_next

# Days that are still written to are not summarized at once.
_DAYS_BEFORE_TODAY = 3
# Every asset has a row per pulse.
_DAY = """
    COPY (
        SELECT {start} + n / {assets} * {step_s} * interval '1 s', 20 + n % 977 / 97::float8,
            n % 1009 / 101::float8, n % 1013 / 103::float8, n / 17::float8, n / 19::float8,
            n % {assets} + 1, 0::int2
        FROM generate_series(0, {rows} - 1) AS n
    ) TO STDOUT (FORMAT BINARY)
"""
_PARTITION = sql.SQL("CREATE TABLE {} PARTITION OF samples FOR VALUES FROM ({}) TO ({})")
_REST = "SELECT count(*) FROM telemetry_hours WHERE changes IS DISTINCT FROM summarized"
_SIZE = "SELECT sum(pg_total_relation_size(inhrelid)) / 1e6 FROM pg_inherits WHERE inhparent = '{}'::regclass"


@benchmark(
    number("--assets", 1, 10_000, 15, "Of the headend."),
    number("--days", 1, 100, 30, "Of samples of each asset, all of which are asked for."),
    number("--step-s", 1, 3600, 4, "Seconds from one sample to the next."),
    number("--requests", 1, 10_000, 50, "For one asset after the other."),
)
async def history(*, assets: int, days: int, step_s: int, requests: int) -> Report:
    """Milliseconds of a month of one asset in periods of 15 minutes, before and after summaries are made."""
    async with open_headend(invented_fleet(assets)) as headend:
        loaded = await in_thread(_load, headend.database_url, assets, days, step_s)
        samples = await in_thread(_ask, headend, days, min(requests, 3))
        made = await in_thread(_summarize, headend.database_url)
        summaries = await in_thread(_ask, headend, days, requests)
    cases = {"from samples": {**loaded, **samples}, "from summaries": {**made, **summaries}}
    return Report(title=f"history: {assets:,} assets, {days} days, a sample every {step_s} s", cases=cases)


def _first_day(days: int) -> datetime:
    return start_of(datetime.now(UTC).date()) - timedelta(days=days + _DAYS_BEFORE_TODAY)


def _load(url: str, assets: int, days: int, step_s: int) -> Case:
    rows = assets * (86_400 // step_s)
    took_s = 0.0
    with psycopg.connect(url, autocommit=True) as connection:
        for day in range(days):
            start = _first_day(days) + timedelta(days=day)
            bounds = sql.Literal(start), sql.Literal(start + timedelta(days=1))
            connection.execute(_PARTITION.format(name_of(start.date()), *bounds))
            packing = sql.SQL(_DAY).format(start=bounds[0], assets=assets, step_s=step_s, rows=rows)
            with connection.cursor().copy(packing) as packed:
                chunk = b"".join(packed)
            started_s = time.perf_counter()
            with connection.cursor().copy(COPY_SAMPLES) as copy:
                copy.write(chunk)
            took_s += time.perf_counter() - started_s
        connection.execute("VACUUM ANALYZE samples")
    return {
        "rows in the table": days * rows,
        "rows/s of COPY": days * rows / took_s,
        "MB": _mb(url, "samples"),
    }


def _summarize(url: str) -> Case:
    async def run() -> None:
        async with await open_connection(url) as connection:
            rest: tuple[int] | None = None
            while rest != (0,):
                # The headend itself may have begun.
                if not await summarize_next(connection, quiet_s=-1):
                    rest = await (await connection.execute(_REST)).fetchone()

    began_s = time.perf_counter()
    asyncio.run(run())
    took_s = time.perf_counter() - began_s
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE telemetry_5m")
        found = connection.execute("SELECT count(*), sum(samples) FROM telemetry_5m").fetchone() or (0, 0)
    figures = {"rows in the table": int(found[0]), "samples/s summarized": float(found[1]) / took_s}
    return {**figures, "MB": _mb(url, "telemetry_5m")}


def _mb(url: str, table: str) -> float:
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(_SIZE.format(table).encode()).fetchone()
    return float(found[0]) if found else 0.0


def _ask(headend: RunningHeadend, days: int, requests: int) -> Case:
    start, ids = _first_day(days), headend.fleet.asset_ids
    times = f"start={start:%Y-%m-%dT%H:%M:%SZ}&end={start + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
    took_s = []
    for number_ in range(requests):
        path = f"/telemetry/{ids[number_ % len(ids)]}/history?resolution=15m&{times}"
        started_s = time.perf_counter()
        with urlopen(f"http://{headend.http}{path}", timeout=60) as response:  # http
            body = response.read()
        took_s.append(time.perf_counter() - started_s)
    return {"periods in the response": len(json.loads(body)), **spread_rows("GET history", took_s)}
