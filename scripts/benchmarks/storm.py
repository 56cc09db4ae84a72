"""`scripts/bench storm`: thousands of agents lose their headend at once; how soon all have reconnected.

A real headend with its embedded server, killed and started again, and one process that is all agents.
"""

import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from scripts.benchmarks.command import BenchmarkError, json_option, number, run_benchmark
from scripts.benchmarks.headend import RunningHeadend, invented_fleet, open_headend, temporary_folder
from scripts.benchmarks.http_client import open_http
from scripts.benchmarks.load import open_load
from scripts.benchmarks.programs import peak_rss_mib
from scripts.benchmarks.report import Report, row_faults, table_rows

_FRESH_WITHIN_S = 120.0
# Each response reads every asset; more often would be a load of its own.
_POLL_S = 0.5


@click.command()
@number("--streams", 1, 20_000, 5000, "Agents.")
@number("--shard-size", 1, 10_000, 25, "Assets per agent.")
@number("--pulse-s", 0.1, 60.0, 4.0, "Seconds from one sample of an asset to the next.")
@number("--seconds", 0.1, 600.0, 12.0, "How long all are connected before, and again after.")
@json_option
def storm(json_path: Path | None, **options: Any) -> None:
    """Time until all agents have reconnected after the headend was killed."""
    run_benchmark(partial(_measure, **options), json_path=json_path)


async def _measure(*, streams: int, shard_size: int, pulse_s: float, seconds: float) -> Report:
    fleet = invented_fleet(streams * shard_size)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        first = await stack.enter_async_context(open_headend(folder, fleet))
        agents = open_load(first.grpc, first.fleet_path, shard_size=shard_size, pulse_s=pulse_s)
        load = await stack.enter_async_context(agents)
        before = await load.registered()
        await _until_fresh(first)
        await trio.sleep(seconds)
        first_peak_mib = peak_rss_mib(first.program.pid)
        first.program.process.kill()
        killed_s = time.monotonic()
        again = open_headend(folder, fleet, grpc=first.grpc, http=first.http)
        headend = await stack.enter_async_context(again)
        registered = await load.registered(after_s=headend.ready_s)
        fresh_s = await _until_fresh(headend)
        # Since its start.
        used = headend.usage()
        peak_mib = peak_rss_mib(headend.program.pid)
        await trio.sleep(seconds)
        totals = await load.finish(one_session=False)
        counted = await headend.count_rows(samples=totals["samples"])
    figures = {
        "streams": streams,
        "assets": streams * shard_size,
        "first_registered_s": before["all_at_s"] - first.ready_s,
        "away_s": headend.ready_s - killed_s,
        "start_to_ready_s": headend.ready_s - headend.started_s,
        "half_registered_s": registered["half_at_s"] - headend.ready_s,
        "p99_registered_s": registered["p99_at_s"] - headend.ready_s,
        "all_registered_s": registered["all_at_s"] - headend.ready_s,
        "start_to_all_registered_s": registered["all_at_s"] - headend.started_s,
        "all_fresh_s": fresh_s - headend.ready_s,
        "kill_to_all_fresh_s": fresh_s - killed_s,
        "attempts_failed": registered["attempts_failed"],
        "attempts_failed_since": registered["attempts_failed"] - before["attempts_failed"],
        "headend_cpu_s": used.headend_s,
        "postgres_cpu_s": used.postgres_s,
        "headend_peak_rss_mib": peak_mib,
        "first_headend_peak_rss_mib": first_peak_mib,
        "batches": totals["messages"],
        **counted,
        "generator_late_p99_ms": 1000 * totals["late_p99_s"],
    }
    notes = (
        "peak memory of the headend {headend_peak_rss_mib:.0f} MiB",
        "peak memory of the first one {first_headend_peak_rss_mib:.0f} MiB",
        "connections lost or attempts failed {attempts_failed_since:,}",
        "rows {rows:,} of {batches:,} batches; lost {rows_lost}, doubled {rows_doubled}",
        "the generator's pulses were late by {generator_late_p99_ms:.0f} ms (p99)",
    )
    return Report(
        title=f"storm: {streams:,} streams, {streams * shard_size:,} assets, {pulse_s:g} s a pulse; "
        "the headend is killed and started again",
        postgres=headend.postgres,
        columns=["", "s"],
        rows=table_rows(
            [figures],
            ("the first headend's ready to all registered", "{first_registered_s:.1f}"),
            ("kill to the second headend's ready", "{away_s:.1f}"),
            ("start to ready", "{start_to_ready_s:.1f}"),
            ("ready to half of the streams registered", "{half_registered_s:.1f}"),
            ("ready to 99 % of the streams registered", "{p99_registered_s:.1f}"),
            ("ready to all registered", "{all_registered_s:.1f}"),
            ("start to all registered", "{start_to_all_registered_s:.1f}"),
            ("ready to every asset fresh in /fleet", "{all_fresh_s:.1f}"),
            ("kill to every asset fresh in /fleet", "{kill_to_all_fresh_s:.1f}"),
            ("CPU of the headend until then", "{headend_cpu_s:.1f}"),
            ("CPU of PostgreSQL until then", "{postgres_cpu_s:.1f}"),
        ),
        notes=[note.format(**figures) for note in notes],
        figures={"benchmark": "storm", "pulse_s": pulse_s, **figures},
        faults=row_faults([("storm", figures)]),
    )


async def _until_fresh(headend: RunningHeadend) -> float:
    """Return when the request was sent whose response was that every asset is fresh."""
    with trio.move_on_after(_FRESH_WITHIN_S):
        async with open_http(headend.http) as connection:
            while True:
                asked_s = time.monotonic()
                fleet = await connection.ask("GET", "/fleet")
                if fleet["by_quality"]["good"] == len(headend.fleet.assets):
                    return asked_s
                await trio.sleep(_POLL_S)
    raise BenchmarkError(f"not every asset was fresh within {_FRESH_WITHIN_S:g} s")
