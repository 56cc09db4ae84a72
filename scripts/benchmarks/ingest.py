"""`scripts/bench ingest`: samples per second committed in the database, from the agents' streams on.

The same load goes to a real headend with its embedded server and to a server of grpcio's; beside them, the
same rows into the same database by COPY alone.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from scripts.benchmarks.command import in_thread, json_option, number, run_benchmark
from scripts.benchmarks.database import copy_rows, count_rows, make_database, warm_up
from scripts.benchmarks.headend import RunningHeadend, invented_fleet, open_bench
from scripts.benchmarks.load import open_load
from scripts.benchmarks.programs import open_program, peak_rss_mib, read_usage
from scripts.benchmarks.report import Figures, Report, row_faults, table_rows

_COPY_WITHIN_S = 600.0
# As many as are then measured, or somewhat fewer.
_WARM_UP_ROWS_PER_S = 300_000
_PEER_DATABASE = "bench_grpcio"
_SERVERS = ("headend", "grpcio")


@click.command()
@number("--assets", 1, 100_000, 10_000, "Batteries in every case, of more or fewer agents.")
@number("--shard-size shard_sizes", 1, 10_000, (25, 250, 1000), "Assets per agent; a case each, repeatable.")
@number("--single-samples", 0, 10_000, 25, "Assets per agent that sends one message per sample; 0 omits it.")
@number("--seconds", 0.1, 600.0, 15.0, "How long each case sends, to each server.")
@json_option
def ingest(json_path: Path | None, **options: Any) -> None:
    """Samples per second committed in the database, end to end, beside a grpcio server and raw COPY."""
    run_benchmark(partial(_measure, _cases(**options)), json_path=json_path)


def _cases(*, assets: int, shard_sizes: Sequence[int], single_samples: int, seconds: float) -> list[Figures]:
    sizes = [(size, False) for size in shard_sizes] + [(single_samples, True)] * (single_samples > 0)
    for size, _ in sizes:
        if assets % size:
            raise click.UsageError(f"--assets {assets} is no multiple of {size}, the assets of an agent")
    return [
        {"assets": assets, "assets_per_stream": size, "single_samples": single, "seconds": seconds}
        for size, single in sizes
    ]


async def _measure(cases: Sequence[Figures]) -> Report:
    figures: list[Figures] = []
    for case in cases:
        async with open_bench(invented_fleet(case["assets"])) as headend:
            figures.append(await _measure_case(headend, case))
    return report_of(figures)


async def _measure_case(headend: RunningHeadend, case: Figures) -> Figures:
    url, assets, check = headend.database_url, case["assets"], trio.from_thread.check_cancelled
    warm_up_rows = math.ceil(case["seconds"] * _WARM_UP_ROWS_PER_S)
    warm_up_s = await in_thread(warm_up, url, warm_up_rows, assets, check, within_s=_COPY_WITHIN_S)
    served = await _measure_server(headend, case, str(headend.grpc), headend.program.pid, url)
    # The peer uses the headend's database server while the headend is idle.
    peer_url = await in_thread(make_database, url, _PEER_DATABASE)
    arguments = ("--fleet", str(headend.fleet_path), "--database", peer_url)
    log = headend.folder / "grpcio.log"
    async with open_program("scripts.benchmarks.grpcio_peer", *arguments, log=log) as peer:
        port = int(await peer.line())
        grpcio = await _measure_server(headend, case, f"127.0.0.1:{port}", peer.pid, peer_url)
    rows = served["rows"]
    copy_s = await in_thread(copy_rows, url, rows, assets, check, within_s=_COPY_WITHIN_S)
    # The better of the two: it is meant to be the limit.
    copy_rows_per_s = max(rows / copy_s, warm_up_rows / warm_up_s)
    return {
        "case": case,
        "postgres": headend.postgres,
        "agents": assets // case["assets_per_stream"],
        "headend": served,
        "grpcio": grpcio,
        "copy_rows_per_s": copy_rows_per_s,
        "headend_per_copy": served["rows_per_s"] / copy_rows_per_s,
        "headend_per_grpcio": served["rows_per_s"] / grpcio["rows_per_s"],
    }


async def _measure_server(
    headend: RunningHeadend, case: Figures, address: str, server_pid: int, url: str
) -> Figures:
    """Send the case's load to one server, whose database is empty."""
    read = partial(read_usage, server_pid=server_pid, headend_pid=headend.program.pid)
    singles_url = url if case["single_samples"] else None
    agents = partial(open_load, address, headend.fleet_path, singles_url=singles_url)
    async with agents(shard_size=case["assets_per_stream"]) as load:
        await load.registered()
        began = read()
        await trio.sleep(case["seconds"])
        totals = await load.finish()
        used = read().since(began)
    peak_mib = peak_rss_mib(server_pid)
    counted = await in_thread(count_rows, url, totals["samples"])
    shares = used.pcts()
    return {
        "elapsed_s": totals["elapsed_s"],
        "messages": totals["messages"],
        "rows_per_s": counted["rows"] / totals["elapsed_s"],
        **counted,
        "replays": totals["replays"],
        "acknowledged_p50_ms": _in_ms(totals["p50_s"]),
        "acknowledged_p99_ms": _in_ms(totals["p99_s"]),
        "server_cpu_pct": shares["headend_cpu_pct"],
        "postgres_cpu_pct": shares["postgres_cpu_pct"],
        "generator_cpu_pct": 100 * totals["cpu_s"] / totals["elapsed_s"],
        "others_cpu_pct": max(0.0, shares["others_cpu_pct"] - 100 * totals["cpu_s"] / used.at_s),
        "peak_rss_mib": peak_mib,
    }


def report_of(figures: Sequence[Figures]) -> Report:
    """Return the report on all cases."""
    case = figures[0]["case"]
    form = "{assets_per_stream:,} an agent"
    heads = [(form + ", one a message" * of["case"]["single_samples"]).format(**of["case"]) for of in figures]
    pairs = list(zip(heads, figures, strict=True))
    counted = [(f"{head}, {server}", of[server]) for head, of in pairs for server in _SERVERS]

    def both(name: str, cell: str) -> list[tuple[str, str]]:
        return [(f"{server}: {name}", cell.replace("of[", f"{server}[")) for server in _SERVERS]

    return Report(
        title="ingest: {assets:,} batteries, as fast as acknowledged, {seconds:g} s a server".format(**case),
        postgres=figures[0]["postgres"],
        columns=["", *heads],
        rows=table_rows(
            figures,
            ("agents", "{agents:,}"),
            *both("rows/s committed", "{of[rows_per_s]:,.0f}"),
            ("rows/s of raw COPY", "{copy_rows_per_s:,.0f}"),
            ("headend / COPY", "{headend_per_copy:.2f}"),
            ("headend / grpcio", "{headend_per_grpcio:.2f}"),
            *both("rows lost / doubled", "{of[rows_lost]} / {of[rows_doubled]}"),
            *both("messages committed", "{of[messages]:,}"),
            *both("replays requested", "{of[replays]:,}"),
            *both("sent to acknowledged, p50, ms", "{of[acknowledged_p50_ms]:,.0f}"),
            *both("sent to acknowledged, p99, ms", "{of[acknowledged_p99_ms]:,.0f}"),
            *both("CPU of the server, % of a core", "{of[server_cpu_pct]:.0f}"),
            *both("CPU of PostgreSQL, % of a core", "{of[postgres_cpu_pct]:.0f}"),
            *both("CPU of the generator, % of a core", "{of[generator_cpu_pct]:.0f}"),
            *both("CPU of all else on the machine, %", "{of[others_cpu_pct]:.0f}"),
            *both("peak memory, MiB", "{of[peak_rss_mib]:.0f}"),
        ),
        figures={"benchmark": "ingest", "cases": figures},
        faults=row_faults(counted),
    )


def _in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
