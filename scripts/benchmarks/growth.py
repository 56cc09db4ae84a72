"""`scripts/bench growth`: what a committed sample costs the headend and its database as the fleet grows.

The load is the same for each size, so many samples a second: a larger fleet has a longer pulse.
"""

import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click
import trio

from scripts.benchmarks.command import json_option, run_benchmark
from scripts.benchmarks.copying import Counts, count_distinct, server_version
from scripts.benchmarks.generator import Generator, Totals, open_generator
from scripts.benchmarks.headend import RunningHeadend, open_headend
from scripts.benchmarks.looking import rows_committed
from scripts.benchmarks.report import Report
from scripts.benchmarks.threads import in_thread
from scripts.benchmarks.usage import Usage, headend_usage, peak_rss_bytes
from scripts.make_fleet import make_fleet

_REGISTERED_WITHIN_S = 180.0
_SETTLED_WITHIN_S = 120.0
_ANSWER_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeFigures:
    """What one size of the fleet came to; costs are CPU seconds a million committed samples."""

    assets: int
    streams: int
    pulse_s: float
    elapsed_s: float
    rows: int
    rows_per_s: float
    rows_lost: int
    rows_doubled: int
    cost_s: float
    headend_cost_s: float
    postgres_cost_s: float
    headend_peak_rss_mib: float
    others_and_generator_cpu_pct: float
    generator_late_p99_ms: float


@click.command()
@click.option(
    "--assets",
    "sizes",
    type=click.IntRange(1, 1_000_000),
    multiple=True,
    default=(1_000, 10_000, 100_000, 300_000),
    show_default=True,
    help="Sizes of the fleet; may be given more than once.",
)
@click.option(
    "--shard-size", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="Assets an agent."
)
@click.option(
    "--samples-per-s",
    type=click.IntRange(1, 1_000_000),
    default=75_000,
    show_default=True,
    help="Of all agents together; 75,000 are 300,000 assets at 4 s a pulse.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3600.0),
    default=40.0,
    show_default=True,
    help="How long each size is measured.",
)
@click.option(
    "--plot",
    "plot_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Draw the costs into this PNG.",
)
@json_option
def growth(
    *,
    sizes: Sequence[int],
    shard_size: int,
    samples_per_s: int,
    seconds: float,
    plot_path: Path | None,
    json_path: Path | None,
) -> None:
    """CPU seconds a million committed samples, for fleets of several sizes."""
    run_benchmark(
        partial(
            _measure,
            sizes=sizes,
            shard_size=shard_size,
            samples_per_s=samples_per_s,
            seconds=seconds,
            plot_path=plot_path,
        ),
        json_path=json_path,
    )


async def _measure(
    *, sizes: Sequence[int], shard_size: int, samples_per_s: int, seconds: float, plot_path: Path | None
) -> Report:
    measured: list[SizeFigures] = []
    version = ""
    for assets in sizes:
        # A server that had to be killed may still let go of its files.
        with tempfile.TemporaryDirectory(prefix="trioder-bench-", ignore_cleanup_errors=True) as name:
            fleet = make_fleet(assets, random.Random(1))  # noqa: S311  # no secrets here
            pulse_s = assets / samples_per_s
            async with open_headend(Path(name), fleet) as headend:
                version = await in_thread(
                    partial(server_version, headend.database_url), within_s=_ANSWER_WITHIN_S
                )
                load = open_generator(Path(name), headend, shard_size=shard_size, pulse_s=pulse_s)
                async with load as generator:
                    measured.append(
                        await _measure_size(
                            headend,
                            generator,
                            assets=assets,
                            shard_size=shard_size,
                            pulse_s=pulse_s,
                            seconds=seconds,
                        )
                    )
    report = _report(measured, version=version, samples_per_s=samples_per_s, seconds=seconds)
    if plot_path is not None:
        # Only here: nothing else needs matplotlib.
        from scripts.benchmarks.growth_plot import draw_costs  # noqa: PLC0415

        draw_costs(measured, plot_path, title=report.title)
    return report


async def _measure_size(
    headend: RunningHeadend,
    generator: Generator,
    *,
    assets: int,
    shard_size: int,
    pulse_s: float,
    seconds: float,
) -> SizeFigures:
    await generator.registered(within_s=_REGISTERED_WITHIN_S)
    # Registration is over, and what had gathered until then is committed.
    await trio.sleep(max(2.0, 1.5 * pulse_s))
    began_s, began = trio.current_time(), headend_usage(headend.program.pid)
    rows_before = await in_thread(partial(rows_committed, headend.http), within_s=_ANSWER_WITHIN_S)
    await trio.sleep(seconds)
    rows = await in_thread(partial(rows_committed, headend.http), within_s=_ANSWER_WITHIN_S) - rows_before
    used, elapsed_s = headend_usage(headend.program.pid).since(began), trio.current_time() - began_s
    peak_bytes = peak_rss_bytes(headend.program.pid)
    totals = await generator.finish(within_s=_SETTLED_WITHIN_S)
    counts = await in_thread(partial(count_distinct, headend.database_url), within_s=_ANSWER_WITHIN_S)
    return _figures(
        used,
        totals,
        counts,
        assets=assets,
        streams=-(-assets // shard_size),
        pulse_s=pulse_s,
        elapsed_s=elapsed_s,
        rows=rows,
        peak_bytes=peak_bytes,
    )


def _figures(
    used: Usage,
    totals: Totals,
    counts: Counts,
    *,
    assets: int,
    streams: int,
    pulse_s: float,
    elapsed_s: float,
    rows: int,
    peak_bytes: int,
) -> SizeFigures:
    millions = max(rows, 1) / 1e6
    others_s = used.machine_s - used.server_s - used.postgres_s
    return SizeFigures(
        assets=assets,
        streams=streams,
        pulse_s=pulse_s,
        elapsed_s=elapsed_s,
        rows=rows,
        rows_per_s=rows / elapsed_s,
        rows_lost=totals.samples - counts.distinct,
        rows_doubled=counts.rows - counts.distinct,
        cost_s=(used.server_s + used.postgres_s) / millions,
        headend_cost_s=used.server_s / millions,
        postgres_cost_s=used.postgres_s / millions,
        headend_peak_rss_mib=peak_bytes / 2**20,
        others_and_generator_cpu_pct=100 * others_s / elapsed_s,
        generator_late_p99_ms=1000 * totals.late_p99_s,
    )


def _report(sizes: Sequence[SizeFigures], *, version: str, samples_per_s: int, seconds: float) -> Report:
    faults = [
        f"{size.assets} assets: {size.rows_lost} rows lost, {size.rows_doubled} doubled"
        for size in sizes
        if size.rows_lost or size.rows_doubled
    ]
    return Report(
        title=f"growth: {samples_per_s:,} samples/s for {seconds:g} s a size",
        postgres=version,
        columns=["", *(f"{size.assets:,} assets" for size in sizes)],
        rows=[
            ["CPU s a million samples", *(f"{size.cost_s:.2f}" for size in sizes)],
            ["of them the headend", *(f"{size.headend_cost_s:.2f}" for size in sizes)],
            ["of them PostgreSQL", *(f"{size.postgres_cost_s:.2f}" for size in sizes)],
            ["streams", *(f"{size.streams:,}" for size in sizes)],
            ["s a pulse", *(f"{size.pulse_s:.3g}" for size in sizes)],
            ["rows/s committed", *(f"{size.rows_per_s:,.0f}" for size in sizes)],
            ["rows lost / doubled", *(f"{size.rows_lost} / {size.rows_doubled}" for size in sizes)],
            ["headend's peak memory, MiB", *(f"{size.headend_peak_rss_mib:.0f}" for size in sizes)],
            [
                "CPU of generator and all else, %",
                *(f"{size.others_and_generator_cpu_pct:.0f}" for size in sizes),
            ],
            ["generator's lateness, p99, ms", *(f"{size.generator_late_p99_ms:.0f}" for size in sizes)],
        ],
        figures={
            "benchmark": "growth",
            "samples_per_s": samples_per_s,
            "sizes": [asdict(size) for size in sizes],
        },
        faults=faults,
    )
