"""`scripts/bench growth`: what a committed sample costs the headend and its database as the fleet grows.

The load is the same for each size, so many samples per second: a larger fleet has a longer pulse.
"""

from collections.abc import Sequence

from scripts.benchmarks.benchmark import Case, Report, benchmark, number
from scripts.benchmarks.processes import RunningHeadend, invented_fleet, open_headend


@benchmark(
    number(
        "--assets sizes", 1, 1_000_000, (1_000, 10_000, 100_000, 300_000), "Sizes of the fleet; repeatable."
    ),
    number("--shard-size", 1, 10_000, 1000, "Assets per agent."),
    number("--samples-per-s", 1, 1_000_000, 75_000, "Of all agents; 75,000 is 300,000 assets at 4 s."),
    number("--seconds", 0.1, 3600.0, 40.0, "How long each size is measured."),
)
async def growth(*, sizes: Sequence[int], shard_size: int, samples_per_s: int, seconds: float) -> Report:
    """CPU seconds per million committed samples, for fleets of several sizes."""
    cases: dict[str, Case] = {}
    for assets in sizes:
        async with open_headend(invented_fleet(assets)) as headend:
            measured = await _measure(headend, shard_size, pulse_s=assets / samples_per_s, seconds=seconds)
        cases[f"{assets:,} assets"] = measured
    title = f"growth: {samples_per_s:,} samples/s for {seconds:g} s per size"
    return Report(title=title, cases=cases)


async def _measure(headend: RunningHeadend, shard_size: int, *, pulse_s: float, seconds: float) -> Case:
    _, used, figures = await headend.run_load(
        shard_size=shard_size,
        pulse_s=pulse_s,
        # Registration is over then, and what had accumulated until then is committed.
        settle_s=max(2.0, 1.5 * pulse_s),
        seconds=seconds,
        one_session=False,
    )
    millions = max(figures["rows"], 1) / 1e6
    return {
        "CPU s per million samples": (used.server_s + used.postgres_s) / millions,
        "of them the headend": used.server_s / millions,
        "of them PostgreSQL": used.postgres_s / millions,
        "streams": -(-len(headend.fleet.assets) // shard_size),
        "s a pulse": pulse_s,
        "rows/s committed": figures["rows"] / used.at_s,
        **figures,
    }
