"""`scripts/bench storm`: thousands of agents lose their headend at once; how soon all are back.

A real headend with its embedded server, killed and started again, and one process that is all agents.
"""

import random
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from scripts.benchmarks.command import BenchmarkError, json_option, run_benchmark
from scripts.benchmarks.copying import count_distinct, server_version
from scripts.benchmarks.generator import Generator, open_generator
from scripts.benchmarks.headend import RunningHeadend, open_headend
from scripts.benchmarks.looking import fresh_assets
from scripts.benchmarks.report import Report
from scripts.benchmarks.threads import in_thread
from scripts.benchmarks.usage import headend_usage, peak_rss_bytes
from scripts.make_fleet import make_fleet

_REGISTERED_WITHIN_S = 180.0
_FRESH_WITHIN_S = 120.0
_SETTLED_WITHIN_S = 120.0
_COUNT_WITHIN_S = 120.0
# Each answer looks at every asset; more often would be a load of its own.
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class StormFigures:
    """What it came to; times are of the second headend, from its `ready` unless named otherwise.

    Attributes:
        kill_to_all_fresh_s: what an operator waits for, from the first headend's end to the last battery.
    """

    streams: int
    assets: int
    first_registered_s: float
    away_s: float
    start_to_ready_s: float
    half_registered_s: float
    p99_registered_s: float
    all_registered_s: float
    start_to_all_registered_s: float
    all_fresh_s: float
    kill_to_all_fresh_s: float
    attempts_failed: int
    headend_cpu_s: float
    postgres_cpu_s: float
    headend_peak_rss_mib: float
    first_headend_peak_rss_mib: float
    batches: int
    rows: int
    rows_lost: int
    rows_doubled: int
    generator_late_p99_ms: float


@click.command()
@click.option("--streams", type=click.IntRange(1, 20_000), default=5000, show_default=True, help="Agents.")
@click.option(
    "--shard-size", type=click.IntRange(1, 10_000), default=25, show_default=True, help="Assets an agent."
)
@click.option(
    "--pulse-s",
    type=click.FloatRange(0.1, 60.0),
    default=4.0,
    show_default=True,
    help="Seconds from one sample of an asset to the next.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 600.0),
    default=12.0,
    show_default=True,
    help="How long all are connected before, and again after.",
)
@json_option
def storm(*, streams: int, shard_size: int, pulse_s: float, seconds: float, json_path: Path | None) -> None:
    """Time until all agents are back after the headend was killed."""
    run_benchmark(
        partial(_measure, streams=streams, shard_size=shard_size, pulse_s=pulse_s, seconds=seconds),
        json_path=json_path,
    )


async def _measure(*, streams: int, shard_size: int, pulse_s: float, seconds: float) -> Report:
    fleet = make_fleet(streams * shard_size, random.Random(1))  # noqa: S311  # no secrets here
    async with AsyncExitStack() as stack:
        # A server that had to be killed may still let go of its files.
        name = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="trioder-bench-", ignore_cleanup_errors=True)
        )
        folder = Path(name)
        first = await stack.enter_async_context(open_headend(folder, fleet))
        generator = await stack.enter_async_context(
            open_generator(folder, first, shard_size=shard_size, pulse_s=pulse_s)
        )
        before = await generator.registered(within_s=_REGISTERED_WITHIN_S)
        await _until_fresh(first, streams * shard_size)
        await trio.sleep(seconds)
        first_peak_bytes = peak_rss_bytes(first.program.pid)
        first.program.process.kill()
        killed_s = time.monotonic()
        second = await stack.enter_async_context(
            open_headend(folder, fleet, grpc=first.grpc, http=first.http)
        )
        figures = await _follow(second, generator, streams=streams, shard_size=shard_size, seconds=seconds)
        version = await in_thread(partial(server_version, second.database_url), within_s=_COUNT_WITHIN_S)
    return _report(
        StormFigures(
            **figures,
            first_registered_s=before.all_at_s - first.ready_s,
            away_s=second.ready_s - killed_s,
            kill_to_all_fresh_s=second.ready_s - killed_s + figures["all_fresh_s"],
            first_headend_peak_rss_mib=first_peak_bytes / 2**20,
        ),
        version=version,
        pulse_s=pulse_s,
        attempts_before=before.attempts_failed,
    )


async def _follow(
    headend: RunningHeadend, generator: Generator, *, streams: int, shard_size: int, seconds: float
) -> dict[str, Any]:
    """Return the figures of the headend that all come back to."""
    back = await generator.registered(after_s=headend.ready_s, within_s=_REGISTERED_WITHIN_S)
    fresh_s = await _until_fresh(headend, streams * shard_size)
    # From its start on: all that it has used.
    used = headend_usage(headend.program.pid)
    peak_bytes = peak_rss_bytes(headend.program.pid)
    await trio.sleep(seconds)
    totals = await generator.finish(within_s=_SETTLED_WITHIN_S)
    counts = await in_thread(partial(count_distinct, headend.database_url), within_s=_COUNT_WITHIN_S)
    return {
        "streams": streams,
        "assets": streams * shard_size,
        "start_to_ready_s": headend.ready_s - headend.started_s,
        "half_registered_s": back.half_at_s - headend.ready_s,
        "p99_registered_s": back.p99_at_s - headend.ready_s,
        "all_registered_s": back.all_at_s - headend.ready_s,
        "start_to_all_registered_s": back.all_at_s - headend.started_s,
        "all_fresh_s": fresh_s - headend.ready_s,
        "attempts_failed": back.attempts_failed,
        "headend_cpu_s": used.server_s,
        "postgres_cpu_s": used.postgres_s,
        "headend_peak_rss_mib": peak_bytes / 2**20,
        "batches": totals.batches,
        "rows": counts.rows,
        "rows_lost": totals.samples - counts.distinct,
        "rows_doubled": counts.rows - counts.distinct,
        "generator_late_p99_ms": 1000 * totals.late_p99_s,
    }


async def _until_fresh(headend: RunningHeadend, assets: int) -> float:
    """Return when the question was asked whose answer was that every asset is fresh."""
    with trio.move_on_after(_FRESH_WITHIN_S):
        while True:
            asked_s = time.monotonic()
            if await in_thread(partial(fresh_assets, headend.http), within_s=_FRESH_WITHIN_S) == assets:
                return asked_s
            await trio.sleep(_LOOK_EVERY_S)
    raise BenchmarkError(f"not every asset was fresh within {_FRESH_WITHIN_S:g} s")


def _report(figures: StormFigures, *, version: str, pulse_s: float, attempts_before: int) -> Report:
    lost, doubled = figures.rows_lost, figures.rows_doubled
    return Report(
        title=f"storm: {figures.streams:,} streams, {figures.assets:,} assets, {pulse_s:g} s a pulse; "
        "the headend is killed and started again",
        postgres=version,
        columns=["", "s"],
        rows=[
            ["the first headend's ready to all registered", f"{figures.first_registered_s:.1f}"],
            ["kill to the second headend's ready", f"{figures.away_s:.1f}"],
            ["start to ready", f"{figures.start_to_ready_s:.1f}"],
            ["ready to half of the streams registered", f"{figures.half_registered_s:.1f}"],
            ["ready to 99 % of the streams registered", f"{figures.p99_registered_s:.1f}"],
            ["ready to all registered", f"{figures.all_registered_s:.1f}"],
            ["start to all registered", f"{figures.start_to_all_registered_s:.1f}"],
            ["ready to every asset fresh in /fleet", f"{figures.all_fresh_s:.1f}"],
            ["kill to every asset fresh in /fleet", f"{figures.kill_to_all_fresh_s:.1f}"],
            ["CPU of the headend until then", f"{figures.headend_cpu_s:.1f}"],
            ["CPU of PostgreSQL until then", f"{figures.postgres_cpu_s:.1f}"],
        ],
        notes=[
            f"peak memory of the headend {figures.headend_peak_rss_mib:.0f} MiB",
            f"peak memory of the first one {figures.first_headend_peak_rss_mib:.0f} MiB",
            f"connections lost or in vain {figures.attempts_failed - attempts_before:,}",
            f"rows {figures.rows:,} of {figures.batches:,} batches; lost {lost}, doubled {doubled}",
            f"the generator's pulses were late by {figures.generator_late_p99_ms:.0f} ms (p99)",
        ],
        figures={"benchmark": "storm", "pulse_s": pulse_s, **asdict(figures)},
        faults=[f"{lost} rows lost, {doubled} doubled"] if lost or doubled else [],
    )
