"""`scripts/bench fleet`: the real launcher and agents, headend and embedded server, with many assets.

What an asset takes is told beyond what the same processes take with a single one.
"""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click
import psutil
import trio

from scripts.benchmarks.command import json_option, run_benchmark
from scripts.benchmarks.copying import Counts, count_distinct, server_version
from scripts.benchmarks.headend import open_headend
from scripts.benchmarks.launched import AgentEnd, AgentsUsage, open_agents, quantile
from scripts.benchmarks.report import Report
from scripts.benchmarks.threads import in_thread
from scripts.benchmarks.usage import Usage, headend_usage
from scripts.make_fleet import make_fleet

_CONNECTED_WITHIN_S = 300.0
_ANSWER_WITHIN_S = 180.0
# Of the single asset; its processes have settled by then.
_BASE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One fleet's run: what all processes used meanwhile, and what is known at its end."""

    assets: int
    elapsed_s: float
    connected_s: float
    agents: AgentsUsage
    headend: Usage
    headend_rss_bytes: int
    ends: Sequence[AgentEnd]
    counts: Counts
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFigures:
    """What one fleet came to; CPU in percent of one core, memory beyond that of one asset's processes."""

    assets: int
    agents: int
    connected_s: float
    elapsed_s: float
    pulses: int
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float
    late_max_since_start_ms: float
    pulses_skipped: int
    agents_cpu_pct: float
    headend_cpu_pct: float
    postgres_cpu_pct: float
    others_cpu_pct: float
    agents_cpu_us_a_sample: float
    headend_cpu_us_a_sample: float
    postgres_cpu_us_a_sample: float
    agents_bytes_an_asset: float
    headend_bytes_an_asset: float
    rows: int
    rows_lost: int
    rows_doubled: int
    batches_unacknowledged: int


@click.command()
@click.option(
    "--assets",
    "sizes",
    type=click.IntRange(1, 1_000_000),
    multiple=True,
    default=(10_000, 100_000),
    show_default=True,
    help="Sizes of the fleet; may be given more than once.",
)
@click.option(
    "--shard-size",
    type=click.IntRange(1, 100_000),
    help="Assets an agent.  [default: 1,000, and 5,000 from 50,000 assets on]",
)
@click.option(
    "--tick-s",
    type=click.FloatRange(0.1, 60.0),
    default=4.0,
    show_default=True,
    help="Seconds from one sample of an asset to the next.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1.0, 3600.0),
    default=60.0,
    show_default=True,
    help="How long each fleet is measured, once all are connected.",
)
@json_option
def fleet(
    *, sizes: Sequence[int], shard_size: int | None, tick_s: float, seconds: float, json_path: Path | None
) -> None:
    """Launcher, agents, headend and database together."""
    run_benchmark(
        partial(_measure, sizes=sizes, shard_size=shard_size, tick_s=tick_s, seconds=seconds),
        json_path=json_path,
    )


async def _measure(*, sizes: Sequence[int], shard_size: int | None, tick_s: float, seconds: float) -> Report:
    base = await _run(1, shard_size=1, tick_s=tick_s, seconds=min(seconds, _BASE_S))
    cases: list[FleetFigures] = []
    for assets in sizes:
        size = shard_size or (5_000 if assets >= 50_000 else 1_000)
        run = await _run(assets, shard_size=size, tick_s=tick_s, seconds=seconds)
        cases.append(_figures(run, base, tick_s=tick_s))
    return _report(cases, base, tick_s=tick_s, seconds=seconds)


async def _run(assets: int, *, shard_size: int, tick_s: float, seconds: float) -> Run:
    # A server that had to be killed may still let go of its files.
    with tempfile.TemporaryDirectory(prefix="trioder-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        async with open_headend(folder, make_fleet(assets, random.Random(1))) as headend:  # noqa: S311  # no secrets
            pid = headend.program.pid
            async with open_agents(folder, headend, shard_size=shard_size, tick_s=tick_s) as agents:
                connected_s = await agents.connected(within_s=_CONNECTED_WITHIN_S)
                began_s, began, agents_began = trio.current_time(), headend_usage(pid), agents.usage()
                await trio.sleep(seconds)
                elapsed_s, ended, agents_ended = (
                    trio.current_time() - began_s,
                    headend_usage(pid),
                    agents.usage(),
                )
                headend_rss_bytes = psutil.Process(pid).memory_info().rss
            counts = await in_thread(partial(count_distinct, headend.database_url), within_s=_ANSWER_WITHIN_S)
            version = await in_thread(
                partial(server_version, headend.database_url), within_s=_ANSWER_WITHIN_S
            )
        return Run(
            assets=assets,
            elapsed_s=elapsed_s,
            connected_s=connected_s,
            agents=AgentsUsage(
                processes=agents_ended.processes,
                cpu_s=agents_ended.cpu_s - agents_began.cpu_s,
                rss_bytes=agents_ended.rss_bytes,
            ),
            headend=ended.since(began),
            headend_rss_bytes=headend_rss_bytes,
            ends=agents.ends(),
            counts=counts,
            version=version,
        )


def _figures(run: Run, base: Run, *, tick_s: float) -> FleetFigures:
    # Those of the time that was measured: the last ones.
    recent = max(1, int(run.elapsed_s / tick_s))
    late_ms = sorted(late for end in run.ends for late in end.late_ms[-recent:])
    samples = sum(end.samples for end in run.ends)
    made_meanwhile = run.assets * run.elapsed_s / tick_s
    others_s = run.headend.machine_s - run.headend.server_s - run.headend.postgres_s - run.agents.cpu_s
    base_rss_bytes = run.agents.processes * base.agents.rss_bytes / base.agents.processes
    return FleetFigures(
        assets=run.assets,
        agents=run.agents.processes,
        connected_s=run.connected_s,
        elapsed_s=run.elapsed_s,
        pulses=len(late_ms),
        late_p50_ms=quantile(late_ms, 0.5),
        late_p99_ms=quantile(late_ms, 0.99),
        late_max_ms=late_ms[-1],
        late_max_since_start_ms=max(end.late_max_ms for end in run.ends),
        pulses_skipped=sum(end.pulses_skipped for end in run.ends),
        agents_cpu_pct=100 * run.agents.cpu_s / run.elapsed_s,
        headend_cpu_pct=100 * run.headend.server_s / run.elapsed_s,
        postgres_cpu_pct=100 * run.headend.postgres_s / run.elapsed_s,
        others_cpu_pct=100 * max(0.0, others_s) / run.elapsed_s,
        agents_cpu_us_a_sample=1e6 * run.agents.cpu_s / made_meanwhile,
        headend_cpu_us_a_sample=1e6 * run.headend.server_s / made_meanwhile,
        postgres_cpu_us_a_sample=1e6 * run.headend.postgres_s / made_meanwhile,
        agents_bytes_an_asset=(run.agents.rss_bytes - base_rss_bytes) / run.assets,
        headend_bytes_an_asset=(run.headend_rss_bytes - base.headend_rss_bytes) / run.assets,
        rows=run.counts.rows,
        rows_lost=samples - run.counts.distinct,
        rows_doubled=run.counts.rows - run.counts.distinct,
        batches_unacknowledged=sum(end.unacknowledged for end in run.ends),
    )


def _report(cases: Sequence[FleetFigures], base: Run, *, tick_s: float, seconds: float) -> Report:
    faults = [
        f"{case.assets} assets: {case.rows_lost} rows lost, {case.rows_doubled} doubled"
        for case in cases
        if case.rows_lost or case.rows_doubled
    ]
    return Report(
        title=f"fleet: launcher and agents, {tick_s:g} s a pulse, {seconds:g} s measured",
        postgres=base.version,
        columns=["", *(f"{case.assets:,} assets" for case in cases)],
        rows=[
            ["agents", *(f"{case.agents:,}" for case in cases)],
            ["launcher's start to all connected, s", *(f"{case.connected_s:.1f}" for case in cases)],
            ["lateness of the pulses, p50, ms", *(f"{case.late_p50_ms:.1f}" for case in cases)],
            ["lateness of the pulses, p99, ms", *(f"{case.late_p99_ms:.1f}" for case in cases)],
            ["lateness of the pulses, max, ms", *(f"{case.late_max_ms:.1f}" for case in cases)],
            ["the same since the start, max, ms", *(f"{case.late_max_since_start_ms:.1f}" for case in cases)],
            ["pulses skipped", *(f"{case.pulses_skipped:,}" for case in cases)],
            ["CPU of the agents, % of a core", *(f"{case.agents_cpu_pct:.0f}" for case in cases)],
            ["CPU of the headend, % of a core", *(f"{case.headend_cpu_pct:.0f}" for case in cases)],
            ["CPU of PostgreSQL, % of a core", *(f"{case.postgres_cpu_pct:.0f}" for case in cases)],
            ["CPU of all else on the machine, %", *(f"{case.others_cpu_pct:.0f}" for case in cases)],
            ["agents' CPU a sample, us", *(f"{case.agents_cpu_us_a_sample:.1f}" for case in cases)],
            ["headend's CPU a sample, us", *(f"{case.headend_cpu_us_a_sample:.1f}" for case in cases)],
            ["PostgreSQL's CPU a sample, us", *(f"{case.postgres_cpu_us_a_sample:.1f}" for case in cases)],
            ["agents' memory an asset, kB", *(f"{case.agents_bytes_an_asset / 1000:.2f}" for case in cases)],
            [
                "headend's memory an asset, kB",
                *(f"{case.headend_bytes_an_asset / 1000:.2f}" for case in cases),
            ],
            ["rows", *(f"{case.rows:,}" for case in cases)],
            ["rows lost / doubled", *(f"{case.rows_lost} / {case.rows_doubled}" for case in cases)],
        ],
        notes=[
            f"an agent with one asset {base.agents.rss_bytes / 2**20:.0f} MiB",
            f"a headend with one asset {base.headend_rss_bytes / 2**20:.0f} MiB",
        ],
        figures={
            "benchmark": "fleet",
            "tick_s": tick_s,
            "base_agent_rss_bytes": base.agents.rss_bytes,
            "base_headend_rss_bytes": base.headend_rss_bytes,
            "cases": [asdict(case) for case in cases],
        },
        faults=faults,
    )
