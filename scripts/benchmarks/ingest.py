"""`scripts/bench ingest`: samples per second committed in the database, from the agents' streams on.

The same load goes to a real headend with its embedded server and to a server of grpcio's; beside them, the
same rows into the same database by COPY alone.
"""

import math
from collections.abc import Sequence

import click
import trio

from scripts.benchmarks.benchmark import Figures, Report, benchmark, number, row_faults, table_rows
from scripts.benchmarks.database import copy_rows, count_rows, in_thread, make_database, warm_up
from scripts.benchmarks.processes import Program, RunningHeadend, invented_fleet, open_headend, open_program
from trioder.process.addresses import Address

# As many as are then measured, or somewhat fewer.
_WARM_UP_ROWS_PER_S = 300_000
_PEER_DATABASE = "bench_grpcio"
_SERVERS = ("headend", "grpcio")


@benchmark(
    number("--assets", 1, 100_000, 10_000, "Batteries in every case, of more or fewer agents."),
    number("--shard-size shard_sizes", 1, 10_000, (25, 250, 1000), "Per agent; repeatable, a case each."),
    number("--single-samples", 0, 10_000, 25, "Assets per agent with one message per sample; 0 omits it."),
    number("--seconds", 0.1, 600.0, 15.0, "How long each case sends, to each server."),
)
async def ingest(*, assets: int, shard_sizes: Sequence[int], single_samples: int, seconds: float) -> Report:
    """Samples per second committed in the database, end to end, beside a grpcio server and raw COPY."""
    sizes = [(size, False) for size in shard_sizes] + [(single_samples, True)] * (single_samples > 0)
    for size, _ in sizes:
        if assets % size:
            raise click.UsageError(f"--assets {assets} is no multiple of {size}, the assets of an agent")
    figures: list[Figures] = []
    for size, single in sizes:
        case = {"assets": assets, "assets_per_stream": size, "single_samples": single, "seconds": seconds}
        async with open_headend(invented_fleet(assets)) as headend:
            figures.append(await _measure(headend, case))
    return report_of(figures)


async def _measure(headend: RunningHeadend, case: Figures) -> Figures:
    url, assets = headend.database_url, case["assets"]
    warm_up_rows = math.ceil(case["seconds"] * _WARM_UP_ROWS_PER_S)
    warm_up_s = await in_thread(warm_up, url, warm_up_rows, assets)
    served = await _measure_server(headend, case, headend.program, headend.grpc, url)
    # The peer uses the headend's database server while the headend is idle.
    peer_url = await in_thread(make_database, url, _PEER_DATABASE)
    log = headend.folder / "grpcio.log"
    peer = open_program("scripts.benchmarks.grpcio_peer", headend.fleet_path, peer_url, log=log)
    async with peer as program:
        grpcio = await _measure_server(headend, case, program, await program.address(), peer_url)
    rows = served["rows"]
    copy_s = await in_thread(copy_rows, url, rows, assets)
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
    headend: RunningHeadend, case: Figures, server: Program, address: Address, url: str
) -> Figures:
    """Send the case's load to one server, whose database is empty."""
    singles = {"single_samples": url} if case["single_samples"] else {}
    agents = headend.open_load(shard_size=case["assets_per_stream"], headend=address, **singles)
    async with agents as load:
        await load.registered()
        began = headend.usage(server_pid=server.pid)
        await trio.sleep(case["seconds"])
        totals = await load.finish()
        used = headend.usage(server_pid=server.pid).since(began)
    peak_mib = server.peak_rss_mib()
    counted = await in_thread(count_rows, url, totals["samples"])
    shares = used.pcts()
    return {
        **totals,
        **counted,
        "rows_per_s": counted["rows"] / totals["elapsed_s"],
        "server_cpu_pct": shares["headend_cpu_pct"],
        "postgres_cpu_pct": shares["postgres_cpu_pct"],
        "others_cpu_pct": max(0.0, shares["others_cpu_pct"] - 100 * totals["cpu_s"] / used.at_s),
        "peak_rss_mib": peak_mib,
    }


def report_of(figures: Sequence[Figures]) -> Report:
    """Return the report on all cases."""
    case = figures[0]["case"]
    form = "{assets_per_stream:,} an agent"
    heads = [(form + ", one a message" * of["case"]["single_samples"]).format(**of["case"]) for of in figures]
    counted = [
        (f"{head}, {server}", of[server])
        for head, of in zip(heads, figures, strict=True)
        for server in _SERVERS
    ]

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
