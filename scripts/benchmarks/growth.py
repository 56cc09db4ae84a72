"""`scripts/bench growth`: what a committed sample costs the headend and its database as the fleet grows.

The load is the same for each size, so many samples per second: a larger fleet has a longer pulse.
"""

from collections.abc import Sequence
from pathlib import Path

import trio

from scripts.benchmarks.benchmark import Figures, Report, benchmark, number, output, row_faults, table_rows
from scripts.benchmarks.http_client import open_http
from scripts.benchmarks.processes import RunningHeadend, invented_fleet, open_headend

_SIZES = (1_000, 10_000, 100_000, 300_000)
_COMMITTED = "trioder_store_rows_committed_total "


@benchmark(
    number("--assets sizes", 1, 1_000_000, _SIZES, "Sizes of the fleet; repeatable."),
    number("--shard-size", 1, 10_000, 1000, "Assets per agent."),
    number("--samples-per-s", 1, 1_000_000, 75_000, "Of all agents; 75,000 is 300,000 assets at 4 s."),
    number("--seconds", 0.1, 3600.0, 40.0, "How long each size is measured."),
    output("--plot plot_path", "Draw the costs into this PNG."),
)
async def growth(
    *, sizes: Sequence[int], shard_size: int, samples_per_s: int, seconds: float, plot_path: Path | None
) -> Report:
    """CPU seconds per million committed samples, for fleets of several sizes."""
    measured: list[Figures] = []
    for assets in sizes:
        async with open_headend(invented_fleet(assets)) as headend:
            figures = await _measure(headend, shard_size, pulse_s=assets / samples_per_s, seconds=seconds)
        measured.append({"assets": assets, "streams": -(-assets // shard_size), **figures})
    report = Report(
        title=f"growth: {samples_per_s:,} samples/s for {seconds:g} s per size",
        postgres=headend.postgres,
        columns=["", *(f"{size['assets']:,} assets" for size in measured)],
        rows=table_rows(
            measured,
            ("CPU s per million samples", "{cost_s:.2f}"),
            ("of them the headend", "{headend_cost_s:.2f}"),
            ("of them PostgreSQL", "{postgres_cost_s:.2f}"),
            ("streams", "{streams:,}"),
            ("s a pulse", "{pulse_s:.3g}"),
            ("rows/s committed", "{rows_per_s:,.0f}"),
            ("rows lost / doubled", "{rows_lost} / {rows_doubled}"),
            ("headend's peak memory, MiB", "{headend_peak_rss_mib:.0f}"),
            ("CPU of generator and all else, %", "{others_and_generator_cpu_pct:.0f}"),
            ("generator's lateness, p99, ms", "{generator_late_p99_ms:.0f}"),
        ),
        figures={"benchmark": "growth", "samples_per_s": samples_per_s, "sizes": measured},
        faults=row_faults((f"{size['assets']} assets", size) for size in measured),
    )
    if plot_path is not None:
        _draw_costs(measured, plot_path, title=report.title)
    return report


async def _measure(headend: RunningHeadend, shard_size: int, *, pulse_s: float, seconds: float) -> Figures:
    async with headend.open_load(shard_size=shard_size, pulse_s=pulse_s) as load:
        await load.registered()
        # Registration is over, and what had accumulated until then is committed.
        await trio.sleep(max(2.0, 1.5 * pulse_s))
        began, rows_before = headend.usage(), await _rows_committed(headend)
        await trio.sleep(seconds)
        rows = await _rows_committed(headend) - rows_before
        used = headend.usage().since(began)
        peak_mib = headend.program.peak_rss_mib()
        totals = await load.finish(one_session=False)
    counted = await headend.count_rows(samples=totals["samples"])
    millions = max(rows, 1) / 1e6
    return {
        "postgres": headend.postgres,
        "pulse_s": pulse_s,
        "elapsed_s": used.at_s,
        **counted,
        "rows": rows,
        "rows_per_s": rows / used.at_s,
        "cost_s": (used.headend_s + used.postgres_s) / millions,
        "headend_cost_s": used.headend_s / millions,
        "postgres_cost_s": used.postgres_s / millions,
        "headend_peak_rss_mib": peak_mib,
        "others_and_generator_cpu_pct": used.pcts()["others_cpu_pct"],
        "generator_late_p99_ms": totals["generator_late_p99_ms"],
    }


async def _rows_committed(headend: RunningHeadend) -> int:
    """Return how many rows the headend has committed since its start."""
    async with open_http(headend.http) as connection:
        text = (await connection.exchange(connection.request_bytes("GET", "/metrics"))).decode()
    return int(float(text.partition(f"\n{_COMMITTED}")[2].partition("\n")[0]))


def _draw_costs(sizes: Sequence[Figures], path: Path, *, title: str) -> None:
    """Write a PNG: one bar per size, the database's part on top of the headend's."""
    # Nothing else needs matplotlib.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8.0, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    names = [f"{size['assets']:,}" for size in sizes]
    headend_s, postgres_s = ([size[f"{of}_cost_s"] for size in sizes] for of in ("headend", "postgres"))
    axes.bar(names, headend_s, width=0.6, color="#0b6e99", label="headend")
    axes.bar(names, postgres_s, width=0.6, bottom=headend_s, color="#9aa5b1", label="PostgreSQL")
    axes.set(xlabel="assets", ylabel="CPU seconds per million samples")
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(axis="y", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    # Room for the legend above the bars.
    axes.margins(y=0.2)
    axes.legend(loc="upper right", ncols=2, frameon=False)
    figure.savefig(path)
