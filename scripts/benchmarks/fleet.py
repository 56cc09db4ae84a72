"""`scripts/bench fleet`: the real launcher and agents, headend and embedded server, with many assets.

Memory per asset is what exceeds that of the same processes with a single asset.
"""

from collections.abc import Sequence
from functools import partial

import psutil
import trio

from scripts.benchmarks.benchmark import Report, benchmark, number, spread_rows
from scripts.benchmarks.processes import invented_fleet, log_entries, open_headend

# With a single asset; its processes have settled by then.
_BASE_S = 10.0
_AGENTS_MIB, _HEADEND_MIB = "memory of all agents, MiB", "memory of the headend, MiB"


@benchmark(
    number("--assets sizes", 1, 1_000_000, (10_000, 100_000), "Sizes of the fleet; repeatable."),
    number("--shard-size", 1, 100_000, None, "Per agent.  [default: 1,000; from 50,000 assets on 5,000]"),
    number("--tick-s", 0.1, 60.0, 4.0, "Seconds from one sample of an asset to the next."),
    number("--seconds", 1.0, 3600.0, 60.0, "How long each fleet is measured, once all assets are connected."),
)
async def fleet(*, sizes: Sequence[int], shard_size: int | None, tick_s: float, seconds: float) -> Report:
    """Launcher, agents, headend and database together."""
    run = partial(_run, tick_s=tick_s)
    base = await run(1, shard_size=1, seconds=min(seconds, _BASE_S))
    cases = {"1 asset": base}
    for assets in sizes:
        size = shard_size or (5_000 if assets >= 50_000 else 1_000)
        case = await run(assets, shard_size=size, seconds=seconds)
        for row, processes in ((_AGENTS_MIB, case["agents"]), (_HEADEND_MIB, 1)):
            beyond_mib = case[row] - processes * base[row]
            case[f"{row}: bytes per asset, beyond 1 asset"] = 2**20 * beyond_mib / assets
        cases[f"{assets:,} assets"] = case
    return Report(
        title=f"fleet: launcher and agents, {tick_s:g} s a pulse, {seconds:g} s measured",
        cases=cases,
    )


async def _run(assets: int, *, shard_size: int, tick_s: float, seconds: float) -> dict[str, float]:
    """Return the figures of one fleet."""
    async with open_headend(invented_fleet(assets)) as headend:
        agents = headend.open_launcher(shard_size=shard_size, tick_s=tick_s)
        async with agents as (launcher, connected_s):
            began = headend.usage(launcher)
            await trio.sleep(seconds)
            used = headend.usage(launcher).since(began)
            agents_mib = list(map(_rss_mib, psutil.Process(launcher.pid).children()))
            headend_mib = _rss_mib(psutil.Process(headend.program.pid))
        ends = log_entries(launcher.log, '"agent stops"')
        late = [entry["late_ms"] for entry in log_entries(launcher.log, '"lateness of the last pulses"')]
        counted = await headend.count_rows(samples=sum(end["samples"] for end in ends))
    # The last ones are those of the time that was measured.
    recent = max(1, int(used.at_s / tick_s))
    late_s = [value_ms / 1000 for values in late for value_ms in values[-recent:]]
    us_a_sample = 1e6 / (assets * used.at_s / tick_s)
    return {
        "agents": len(agents_mib),
        "launcher's start to all connected, s": connected_s,
        **spread_rows("lateness of the pulses", late_s),
        "the same since the start, max, ms": max(end["late_max_ms"] for end in ends),
        "pulses skipped": sum(end["pulses_skipped"] for end in ends),
        **used.rows("the agents"),
        "agents' CPU per sample, us": us_a_sample * used.agents_s,
        "headend's CPU per sample, us": us_a_sample * used.server_s,
        "PostgreSQL's CPU per sample, us": us_a_sample * used.postgres_s,
        **counted,
        _AGENTS_MIB: sum(agents_mib),
        _HEADEND_MIB: headend_mib,
    }


def _rss_mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 2**20)
