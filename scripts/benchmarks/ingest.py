"""`scripts/bench ingest`: samples a second that are committed in the database, from the agents' streams on.

A real headend with its embedded server, and one process that is all agents; beside it, the same at a server
of grpcio's, and what the same database makes of the same rows by COPY alone. One case is measured in `cases`.
"""

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from scripts.benchmarks.cases import Case, CaseFigures, Served, measure_case
from scripts.benchmarks.command import json_option, run_benchmark
from scripts.benchmarks.copying import server_version
from scripts.benchmarks.headend import open_headend
from scripts.benchmarks.report import Report
from scripts.benchmarks.threads import in_thread
from scripts.make_fleet import make_fleet


@click.command()
@click.option(
    "--assets",
    type=click.IntRange(1, 100_000),
    default=10_000,
    show_default=True,
    help="Batteries, in every case; how many agents they make depends on the shard size.",
)
@click.option(
    "--shard-size",
    "shard_sizes",
    type=click.IntRange(1, 10_000),
    multiple=True,
    default=(25, 250, 1000),
    show_default=True,
    help="Assets an agent; a case each, may be given more than once.",
)
@click.option(
    "--single-samples",
    type=click.IntRange(0, 10_000),
    default=25,
    show_default=True,
    help="Assets an agent in the case of one message a sample; 0 leaves that case out.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 600.0),
    default=15.0,
    show_default=True,
    help="How long each case sends, to each server.",
)
@json_option
def ingest(
    *, assets: int, shard_sizes: Sequence[int], single_samples: int, seconds: float, json_path: Path | None
) -> None:
    """Samples a second committed in the database, end to end, beside a grpcio server and raw COPY."""
    for size in (*shard_sizes, *([single_samples] if single_samples else [])):
        if assets % size:
            raise click.UsageError(f"--assets {assets} is no multiple of {size}, the assets of an agent")
    wanted = [(size, False) for size in shard_sizes] + ([(single_samples, True)] if single_samples else [])
    cases = [
        Case(assets=assets, assets_per_stream=size, single_samples=single, seconds=seconds)
        for size, single in wanted
    ]
    run_benchmark(partial(_measure, cases), json_path=json_path)


async def _measure(cases: Sequence[Case]) -> Report:
    figures: list[CaseFigures] = []
    version = ""
    for case in cases:
        # A server that had to be killed may still let go of its files.
        with tempfile.TemporaryDirectory(prefix="trioder-bench-", ignore_cleanup_errors=True) as name:
            fleet = make_fleet(case.assets, random.Random(1))  # noqa: S311  # no secrets
            async with open_headend(Path(name), fleet) as headend:
                version = await in_thread(partial(server_version, headend.database_url))
                figures.append(await measure_case(headend, Path(name), case))
    return _report(figures, version=version)


def _report(figures: Sequence[CaseFigures], *, version: str) -> Report:
    def row(name: str, cell: Callable[[CaseFigures], str]) -> list[str]:
        return [name, *map(cell, figures)]

    def both(name: str, cell: Callable[[Served], str]) -> list[list[str]]:
        return [
            row(f"headend: {name}", lambda of: cell(of.headend)),
            row(f"grpcio: {name}", lambda of: cell(of.grpcio)),
        ]

    case = figures[0].case
    return Report(
        title=f"ingest: {case.assets:,} batteries, as fast as they are kept, {case.seconds:g} s a server",
        postgres=version,
        columns=["", *map(_head, figures)],
        rows=[
            row("agents", lambda of: f"{of.case.streams:,}"),
            *both("rows/s committed", lambda of: f"{of.rows_per_s:,.0f}"),
            row("rows/s of raw COPY", lambda of: f"{of.copy_rows_per_s:,.0f}"),
            row("headend / COPY", lambda of: f"{of.headend_per_copy:.2f}"),
            row("headend / grpcio", lambda of: f"{of.headend_per_grpcio:.2f}"),
            *both("rows lost / doubled", lambda of: f"{of.rows_lost} / {of.rows_doubled}"),
            *both("messages kept", lambda of: f"{of.messages:,}"),
            *both("replays asked for", lambda of: f"{of.replays:,}"),
            *both("send to acknowledgement, p50, ms", lambda of: _told_ms(of.acknowledged_p50_ms)),
            *both("send to acknowledgement, p99, ms", lambda of: _told_ms(of.acknowledged_p99_ms)),
            *both("CPU of the server, % of a core", lambda of: f"{of.server_cpu_pct:.0f}"),
            *both("CPU of PostgreSQL, % of a core", lambda of: f"{of.postgres_cpu_pct:.0f}"),
            *both("CPU of the generator, % of a core", lambda of: f"{of.generator_cpu_pct:.0f}"),
            *both("CPU of all else on the machine, %", lambda of: f"{of.others_cpu_pct:.0f}"),
            *both("peak memory, MiB", lambda of: f"{of.peak_rss_mib:.0f}"),
        ],
        figures={"benchmark": "ingest", "cases": [asdict(of) for of in figures]},
        faults=[fault for of in figures for fault in _faults(of)],
    )


def _head(figures: CaseFigures) -> str:
    case = figures.case
    return f"{case.assets_per_stream:,} an agent" + (", one a message" if case.single_samples else "")


def _told_ms(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:,.0f}"


def _faults(figures: CaseFigures) -> list[str]:
    return [
        f"{_head(figures)}, {name}: {served.rows_lost} rows lost, {served.rows_doubled} doubled"
        for name, served in (("headend", figures.headend), ("grpcio", figures.grpcio))
        if served.rows_lost or served.rows_doubled
    ]
