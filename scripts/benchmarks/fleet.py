"""`scripts/bench fleet`: the real launcher and agents, headend and embedded server, with many assets.

Memory per asset is what exceeds that of the same processes with a single asset.
"""

from collections.abc import Sequence
from typing import Any

import psutil
import trio

from scripts.benchmarks.benchmark import Report, benchmark, number, quantile, row_faults, table_rows
from scripts.benchmarks.processes import invented_fleet, log_entries, open_headend

# With a single asset; its processes have settled by then.
_BASE_S = 10.0


@benchmark(
    number("--assets sizes", 1, 1_000_000, (10_000, 100_000), "Sizes of the fleet; repeatable."),
    number("--shard-size", 1, 100_000, None, "Per agent.  [default: 1,000; from 50,000 assets on 5,000]"),
    number("--tick-s", 0.1, 60.0, 4.0, "Seconds from one sample of an asset to the next."),
    number("--seconds", 1.0, 3600.0, 60.0, "How long each fleet is measured, once all assets are connected."),
)
async def fleet(*, sizes: Sequence[int], shard_size: int | None, tick_s: float, seconds: float) -> Report:
    """Launcher, agents, headend and database together."""
    base = await _run(1, shard_size=1, tick_s=tick_s, seconds=min(seconds, _BASE_S))
    agent_bytes, headend_bytes = base["agents_rss_bytes"], base["headend_rss_bytes"]
    cases: list[dict[str, Any]] = []
    for assets in sizes:
        size = shard_size or (5_000 if assets >= 50_000 else 1_000)
        case = await _run(assets, shard_size=size, tick_s=tick_s, seconds=seconds)
        agents_bytes = case["agents_rss_bytes"] - case["agents"] * agent_bytes
        case["agents_bytes_an_asset"] = agents_bytes / assets
        case["headend_bytes_an_asset"] = (case["headend_rss_bytes"] - headend_bytes) / assets
        cases.append(case)
    return Report(
        title=f"fleet: launcher and agents, {tick_s:g} s a pulse, {seconds:g} s measured",
        postgres=base["postgres"],
        columns=["", *(f"{case['assets']:,} assets" for case in cases)],
        rows=table_rows(
            cases,
            ("agents", "{agents:,}"),
            ("launcher's start to all connected, s", "{connected_s:.1f}"),
            ("lateness of the pulses, p50, ms", "{late_p50_ms:.1f}"),
            ("lateness of the pulses, p99, ms", "{late_p99_ms:.1f}"),
            ("lateness of the pulses, max, ms", "{late_max_ms:.1f}"),
            ("the same since the start, max, ms", "{late_max_since_start_ms:.1f}"),
            ("pulses skipped", "{pulses_skipped:,}"),
            ("CPU of the agents, % of a core", "{agents_cpu_pct:.0f}"),
            ("CPU of the headend, % of a core", "{headend_cpu_pct:.0f}"),
            ("CPU of PostgreSQL, % of a core", "{postgres_cpu_pct:.0f}"),
            ("CPU of all else on the machine, %", "{others_cpu_pct:.0f}"),
            ("agents' CPU per sample, us", "{agents_cpu_us_a_sample:.1f}"),
            ("headend's CPU per sample, us", "{headend_cpu_us_a_sample:.1f}"),
            ("PostgreSQL's CPU per sample, us", "{postgres_cpu_us_a_sample:.1f}"),
            ("agents' memory per asset, bytes", "{agents_bytes_an_asset:,.0f}"),
            ("headend's memory per asset, bytes", "{headend_bytes_an_asset:,.0f}"),
            ("rows", "{rows:,}"),
            ("rows lost / doubled", "{rows_lost} / {rows_doubled}"),
        ),
        notes=[
            f"an agent with one asset {agent_bytes / 2**20:.0f} MiB",
            f"a headend with one asset {headend_bytes / 2**20:.0f} MiB",
        ],
        figures={
            "benchmark": "fleet",
            "tick_s": tick_s,
            "base_agent_rss_bytes": agent_bytes,
            "base_headend_rss_bytes": headend_bytes,
            "cases": cases,
        },
        faults=row_faults((f"{case['assets']} assets", case) for case in cases),
    )


async def _run(assets: int, *, shard_size: int, tick_s: float, seconds: float) -> dict[str, Any]:
    async with open_headend(invented_fleet(assets)) as headend:
        agents = headend.open_launcher(shard_size=shard_size, tick_s=tick_s)
        async with agents as (launcher, connected_s):
            began = headend.usage(agents_pid=launcher.pid)
            await trio.sleep(seconds)
            used = headend.usage(agents_pid=launcher.pid).since(began)
            agents_rss_bytes = [agent.memory_info().rss for agent in psutil.Process(launcher.pid).children()]
            headend_rss_bytes = psutil.Process(headend.program.pid).memory_info().rss
        ends = log_entries(launcher.log, '"agent stops"')
        late = [entry["late_ms"] for entry in log_entries(launcher.log, '"lateness of the last pulses"')]
        counted = await headend.count_rows(samples=sum(end["samples"] for end in ends))
    # The last ones are those of the time that was measured.
    recent = max(1, int(used.at_s / tick_s))
    late_ms = sorted(value for values in late for value in values[-recent:])
    us_a_sample = 1e6 / (assets * used.at_s / tick_s)
    return {
        "assets": assets,
        "agents": len(agents_rss_bytes),
        "connected_s": connected_s,
        "elapsed_s": used.at_s,
        "pulses": len(late_ms),
        "late_p50_ms": quantile(late_ms, 0.5),
        "late_p99_ms": quantile(late_ms, 0.99),
        "late_max_ms": late_ms[-1],
        "late_max_since_start_ms": max(end["late_max_ms"] for end in ends),
        "pulses_skipped": sum(end["pulses_skipped"] for end in ends),
        **used.pcts(),
        "agents_cpu_us_a_sample": us_a_sample * used.agents_s,
        "headend_cpu_us_a_sample": us_a_sample * used.headend_s,
        "postgres_cpu_us_a_sample": us_a_sample * used.postgres_s,
        "agents_rss_bytes": sum(agents_rss_bytes),
        "headend_rss_bytes": headend_rss_bytes,
        **counted,
        "batches_unacknowledged": sum(end["batches_unacknowledged"] for end in ends),
        "postgres": headend.postgres,
    }
