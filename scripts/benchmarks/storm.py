"""`scripts/bench storm`: thousands of agents lose their headend at once; how soon all have reconnected.

A real headend with its embedded server, killed and started again, and one process that is all agents.
"""

import time
from contextlib import AsyncExitStack

import trio

from scripts.benchmarks.benchmark import Report, benchmark, number, row_faults
from scripts.benchmarks.http_client import open_http
from scripts.benchmarks.processes import RunningHeadend, invented_fleet, open_headend

# Each response reads every asset; more often would be a load of its own.
_POLL_S = 0.5
_NOTES = (
    "peak memory of the headend {headend_peak_rss_mib:.0f} MiB",
    "peak memory of the first one {first_headend_peak_rss_mib:.0f} MiB",
    "connections lost or attempts failed {attempts_failed_since:,}",
    "rows {rows:,} of {batches:,} batches; lost {rows_lost}, doubled {rows_doubled}",
    "the generator's pulses were late by {generator_late_p99_ms:.0f} ms (p99)",
)


@benchmark(
    number("--streams", 1, 20_000, 5000, "Agents."),
    number("--shard-size", 1, 10_000, 25, "Assets per agent."),
    number("--pulse-s", 0.1, 60.0, 4.0, "Seconds from one sample of an asset to the next."),
    number("--seconds", 0.1, 600.0, 12.0, "How long all are connected before, and again after."),
)
async def storm(*, streams: int, shard_size: int, pulse_s: float, seconds: float) -> Report:
    """Time until all agents have reconnected after the headend was killed."""
    fleet = invented_fleet(streams * shard_size)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_headend(fleet))
        agents = first.open_load(shard_size=shard_size, pulse_s=pulse_s)
        load = await stack.enter_async_context(agents)
        before = await load.registered()
        first_all_s = before["all_at_s"]
        await _until_fresh(first)
        await trio.sleep(seconds)
        first_peak_mib = first.program.peak_rss_mib()
        first.program.process.kill()
        killed_s = time.monotonic()
        headend = await stack.enter_async_context(open_headend(fleet, after=first))
        ready_s = headend.ready_s
        registered = await load.registered(after_s=ready_s)
        all_at_s = registered["all_at_s"]
        fresh_s = await _until_fresh(headend)
        # Since its start.
        used = headend.usage()
        peak_mib = headend.program.peak_rss_mib()
        await trio.sleep(seconds)
        totals = await load.finish(one_session=False)
        counted = await headend.count_rows(samples=totals["samples"])
    times_s = {
        ("first_registered_s", "the first headend's ready to all registered"): first_all_s - first.ready_s,
        ("away_s", "kill to the second headend's ready"): ready_s - killed_s,
        ("start_to_ready_s", "start to ready"): ready_s - headend.started_s,
        ("half_registered_s", "ready to half of the streams registered"): registered["half_at_s"] - ready_s,
        ("p99_registered_s", "ready to 99 % of the streams registered"): registered["p99_at_s"] - ready_s,
        ("all_registered_s", "ready to all registered"): all_at_s - ready_s,
        ("start_to_all_registered_s", "start to all registered"): all_at_s - headend.started_s,
        ("all_fresh_s", "ready to every asset fresh in /fleet"): fresh_s - ready_s,
        ("kill_to_all_fresh_s", "kill to every asset fresh in /fleet"): fresh_s - killed_s,
        ("headend_cpu_s", "CPU of the headend until then"): used.headend_s,
        ("postgres_cpu_s", "CPU of PostgreSQL until then"): used.postgres_s,
    }
    figures = {
        "streams": streams,
        "assets": streams * shard_size,
        **{key: value_s for (key, _), value_s in times_s.items()},
        "attempts_failed": registered["attempts_failed"],
        "attempts_failed_since": registered["attempts_failed"] - before["attempts_failed"],
        "headend_peak_rss_mib": peak_mib,
        "first_headend_peak_rss_mib": first_peak_mib,
        "batches": totals["messages"],
        **counted,
        "generator_late_p99_ms": totals["generator_late_p99_ms"],
    }
    return Report(
        title=f"storm: {streams:,} streams, {streams * shard_size:,} assets, {pulse_s:g} s a pulse; "
        "the headend is killed and started again",
        postgres=headend.postgres,
        columns=["", "s"],
        rows=[[name, f"{value_s:.1f}"] for (_, name), value_s in times_s.items()],
        notes=[note.format(**figures) for note in _NOTES],
        figures={"benchmark": "storm", "pulse_s": pulse_s, **figures},
        faults=row_faults([("storm", figures)]),
    )


async def _until_fresh(headend: RunningHeadend) -> float:
    """Return when the request was sent whose response was that every asset is fresh."""
    assets = len(headend.fleet.assets)
    async with open_http(headend.http) as connection:
        return await connection.ask_until(
            "/fleet", lambda fleet: fleet["by_quality"]["good"] == assets, within_s=120.0, every_s=_POLL_S
        )
