"""`scripts/bench ingest`: samples a second that are committed in the database, from the agents' streams on.

A real headend with its embedded server, and one process that is all agents; beside it, what the same server
makes of the same rows by COPY alone.
"""

import json
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import trio

from scripts.benchmarks.command import BenchmarkError, json_option, run_benchmark
from scripts.benchmarks.copying import copy_rows, count_distinct, count_rows, server_version
from scripts.benchmarks.headend import RunningHeadend, open_headend
from scripts.benchmarks.programs import Program, open_program
from scripts.benchmarks.report import Report
from scripts.benchmarks.usage import HeadendUsage, headend_usage, peak_rss_bytes
from scripts.make_fleet import make_fleet

# Beyond the seconds of sending: registration, and what is under way at the end.
_LOAD_SLACK_S = 150.0
_COUNT_WITHIN_S = 120.0
_COPY_WITHIN_S = 600.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFigures:
    """What one case came to; shares of CPU are of one core, in percent."""

    streams: int
    assets_per_stream: int
    elapsed_s: float
    batches_acknowledged: int
    rows: int
    rows_per_s: float
    rows_lost: int
    rows_doubled: int
    replays: int
    acknowledged_p50_ms: float
    acknowledged_p99_ms: float
    headend_cpu_pct: float
    postgres_cpu_pct: float
    generator_cpu_pct: float
    others_cpu_pct: float
    headend_peak_rss_mib: float
    copy_rows_per_s: float
    share_of_copy: float


@click.command()
@click.option("--streams", type=click.IntRange(1, 1000), default=40, show_default=True, help="Agents.")
@click.option(
    "--shard-size",
    "shard_sizes",
    type=click.IntRange(1, 10_000),
    multiple=True,
    default=(25, 1000),
    show_default=True,
    help="Assets an agent; a case each, may be given more than once.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 600.0),
    default=15.0,
    show_default=True,
    help="How long each case sends.",
)
@json_option
def ingest(*, streams: int, shard_sizes: Sequence[int], seconds: float, json_path: Path | None) -> None:
    """Samples a second committed in the database, end to end, beside raw COPY."""
    run_benchmark(
        partial(_measure, streams=streams, shard_sizes=shard_sizes, seconds=seconds), json_path=json_path
    )


async def _measure(*, streams: int, shard_sizes: Sequence[int], seconds: float) -> Report:
    cases: list[CaseFigures] = []
    version = ""
    for shard_size in shard_sizes:
        # A server that had to be killed may still let go of its files.
        with tempfile.TemporaryDirectory(prefix="trioder-bench-", ignore_cleanup_errors=True) as name:
            fleet = make_fleet(streams * shard_size, random.Random(1))  # noqa: S311  # no secrets here
            async with open_headend(Path(name), fleet) as headend:
                version = await _in_thread(
                    partial(server_version, headend.database_url), within_s=_COUNT_WITHIN_S
                )
                cases.append(
                    await _measure_case(
                        headend, Path(name), streams=streams, shard_size=shard_size, seconds=seconds
                    )
                )
    return _report(cases, version=version, streams=streams, seconds=seconds)


async def _measure_case(
    headend: RunningHeadend, folder: Path, *, streams: int, shard_size: int, seconds: float
) -> CaseFigures:
    url = headend.database_url
    before = await _in_thread(partial(count_rows, url), within_s=_COUNT_WITHIN_S)
    load = open_program(
        "scripts.benchmarks.load",
        *("--headend", str(headend.grpc), "--fleet", str(headend.fleet_path)),
        *("--shard-size", str(shard_size), "--seconds", str(seconds)),
        log=folder / "load.log",
    )
    async with load as generator:
        with trio.move_on_after(seconds + _LOAD_SLACK_S) as patience:
            told, used, wall_s = await _watch(generator, headend.program.pid)
        if patience.cancelled_caught:
            raise generator.failure(f"was not done after {seconds + _LOAD_SLACK_S:g} s")
    peak_bytes = peak_rss_bytes(headend.program.pid)
    counts = await _in_thread(partial(count_distinct, url), within_s=_COUNT_WITHIN_S)
    batches = int(told["batches"])
    copy_s = await _in_thread(
        partial(
            copy_rows,
            url,
            rows=batches * shard_size,
            assets=streams * shard_size,
            check=trio.from_thread.check_cancelled,
        ),
        within_s=_COPY_WITHIN_S,
    )
    rows_per_s = (counts.rows - before) / told["elapsed_s"]
    copy_rows_per_s = batches * shard_size / copy_s
    others_s = used.machine_s - used.headend_s - used.postgres_s - told["cpu_s"]
    return CaseFigures(
        streams=streams,
        assets_per_stream=shard_size,
        elapsed_s=told["elapsed_s"],
        batches_acknowledged=batches,
        rows=counts.rows - before,
        rows_per_s=rows_per_s,
        rows_lost=before + batches * shard_size - counts.distinct,
        rows_doubled=counts.rows - counts.distinct,
        replays=int(told["replays"]),
        acknowledged_p50_ms=1000 * told["p50_s"],
        acknowledged_p99_ms=1000 * told["p99_s"],
        headend_cpu_pct=100 * used.headend_s / wall_s,
        postgres_cpu_pct=100 * used.postgres_s / wall_s,
        generator_cpu_pct=100 * told["cpu_s"] / told["elapsed_s"],
        others_cpu_pct=100 * max(0.0, others_s) / wall_s,
        headend_peak_rss_mib=peak_bytes / 2**20,
        copy_rows_per_s=copy_rows_per_s,
        share_of_copy=rows_per_s / copy_rows_per_s,
    )


async def _in_thread(job: Callable[[], T], *, within_s: float) -> T:
    """Run what waits for the database in a thread, which a signal leaves behind: the server ends it."""
    with trio.move_on_after(within_s):
        return await trio.to_thread.run_sync(job, abandon_on_cancel=True)
    raise BenchmarkError(f"the database did not answer within {within_s:g} s")


async def _watch(generator: Program, headend_pid: int) -> tuple[dict[str, float], HeadendUsage, float]:
    """Return what the generator tells, and what the headend and its server used, in how many seconds."""
    await generator.line()
    began_s, began = trio.current_time(), headend_usage(headend_pid)
    told: dict[str, float] = json.loads(await generator.line())
    ended_s, ended = trio.current_time(), headend_usage(headend_pid)
    await generator.process.wait()
    if generator.process.returncode != 0:
        raise generator.failure(f"ended with exit code {generator.process.returncode}")
    return told, ended.since(began), ended_s - began_s


def _report(cases: Sequence[CaseFigures], *, version: str, streams: int, seconds: float) -> Report:
    faults = [
        f"{case.assets_per_stream} assets a stream: {case.rows_lost} rows lost, {case.rows_doubled} doubled"
        for case in cases
        if case.rows_lost or case.rows_doubled
    ]
    return Report(
        title=f"ingest: {streams} streams, as fast as acknowledged, for {seconds:g} s a case",
        postgres=version,
        columns=["", *(f"{case.assets_per_stream:,} assets a stream" for case in cases)],
        rows=[
            ["rows/s committed", *(f"{case.rows_per_s:,.0f}" for case in cases)],
            ["rows/s of raw COPY, same rows", *(f"{case.copy_rows_per_s:,.0f}" for case in cases)],
            ["headend / COPY", *(f"{case.share_of_copy:.2f}" for case in cases)],
            ["rows committed", *(f"{case.rows:,}" for case in cases)],
            ["rows lost / doubled", *(f"{case.rows_lost} / {case.rows_doubled}" for case in cases)],
            ["batches acknowledged", *(f"{case.batches_acknowledged:,}" for case in cases)],
            ["replays asked for", *(f"{case.replays:,}" for case in cases)],
            ["send to acknowledgement, p50, ms", *(f"{case.acknowledged_p50_ms:,.0f}" for case in cases)],
            ["send to acknowledgement, p99, ms", *(f"{case.acknowledged_p99_ms:,.0f}" for case in cases)],
            ["CPU of the headend, % of a core", *(f"{case.headend_cpu_pct:.0f}" for case in cases)],
            ["CPU of PostgreSQL, % of a core", *(f"{case.postgres_cpu_pct:.0f}" for case in cases)],
            ["CPU of the generator, % of a core", *(f"{case.generator_cpu_pct:.0f}" for case in cases)],
            ["CPU of all else on the machine, %", *(f"{case.others_cpu_pct:.0f}" for case in cases)],
            ["headend's peak memory, MiB", *(f"{case.headend_peak_rss_mib:.0f}" for case in cases)],
        ],
        figures={"benchmark": "ingest", "cases": [asdict(case) for case in cases]},
        faults=faults,
    )
