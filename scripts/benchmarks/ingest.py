"""`scripts/bench ingest`: samples per second committed in the database, from the agents' streams on.

The same load goes to a real headend with its embedded server and to a server of grpcio's, or to a headend
over TLS, in turn; beside them, the same rows into the same database by COPY alone.
"""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import click

from scripts.benchmarks.benchmark import Case, Report, benchmark, medians, number, range_row
from scripts.benchmarks.database import copy_rows, in_thread, make_database
from scripts.benchmarks.processes import RunningHeadend, invented_fleet, open_headend, open_program

# As many as are then measured, or somewhat fewer.
_WARM_UP_ROWS_PER_S = 300_000
_OTHER_DATABASE = "bench_other"
_PER_S = "rows/s committed"


@benchmark(
    number("--assets", 1, 100_000, 10_000, "Batteries in every case, of more or fewer agents."),
    number("--shard-size shard_sizes", 1, 10_000, (25, 250, 1000), "Per agent; repeatable, a case each."),
    number("--single-samples", 0, 10_000, 25, "Assets per agent with one message per sample; 0 omits it."),
    number("--seconds", 0.1, 600.0, 15.0, "How long each case sends, to each server, in each round."),
    number("--rounds", 1, 100, 2, "Each is both servers, one after the other."),
    click.Option(["--tls"], is_flag=True, help="Beside a headend over TLS, in place of the grpcio server."),
)
async def ingest(**options: Any) -> Report:
    """Samples per second committed in the database, end to end, beside a grpcio server and raw COPY."""
    plan = SimpleNamespace(**options)
    sizes = [(size, False) for size in plan.shard_sizes]
    sizes += [(plan.single_samples, True)] * (plan.single_samples > 0)
    for size, _ in sizes:
        if plan.assets % size:
            raise click.UsageError(f"--assets {plan.assets} is no multiple of {size}, the assets of an agent")
    cases: dict[str, Case] = {}
    ratio = "TLS / headend" if plan.tls else "headend / grpcio"
    for size, is_single in sizes:
        rounds: list[Case] = []
        for _ in range(plan.rounds):
            async with open_headend(invented_fleet(plan.assets)) as headend:
                rounds.append(await _measure(headend, plan, size, ratio, is_single=is_single))
        cases[f"{size:,} an agent" + ", one a message" * is_single] = case_of(rounds, ratio)
    title = "ingest: {assets:,} batteries, as fast as acknowledged; {rounds} x {seconds:g} s a server"
    return Report(title=title.format(**options), cases=cases)


async def _measure(
    headend: RunningHeadend, plan: SimpleNamespace, size: int, ratio: str, *, is_single: bool
) -> Case:
    """Send the same load to two servers, one after the other; the other is idle then."""

    async def send_to(server: RunningHeadend) -> dict[str, float]:
        singles: dict[str, Any] = {"single_samples": server.database_url} if is_single else {}
        totals, _, rows = await server.run_load(seconds=plan.seconds, shard_size=size, **singles)
        return {_PER_S: rows["rows"] / totals["elapsed_s"], **rows}

    url, assets = headend.database_url, plan.assets
    # The first writer would be at a disadvantage.
    warm_up_rows = math.ceil(plan.seconds * _WARM_UP_ROWS_PER_S)
    warm_up_s = await in_thread(copy_rows, url, warm_up_rows, assets)
    plain = await send_to(headend)
    async with _open_other(headend, plan, size) as server:
        other = await send_to(server)
    copy_s = await in_thread(copy_rows, url, plain["rows"], assets)
    # The better of the two: it is meant to be the limit.
    copy_rows_per_s = max(plain["rows"] / copy_s, warm_up_rows / warm_up_s)
    name = "TLS" if plan.tls else "grpcio"
    both = {f"{of}: {row}": case[row] for row in plain for of, case in (("headend", plain), (name, other))}
    return {
        "agents": assets // size,
        ratio: other[_PER_S] / plain[_PER_S] if plan.tls else plain[_PER_S] / other[_PER_S],
        "headend / COPY": plain[_PER_S] / copy_rows_per_s,
        "rows/s of raw COPY": copy_rows_per_s,
        **both,
    }


@asynccontextmanager
async def _open_other(
    headend: RunningHeadend, plan: SimpleNamespace, size: int
) -> AsyncIterator[RunningHeadend]:
    """Run the other server, on another database of the headend's database server."""
    url = await in_thread(make_database, headend.database_url, _OTHER_DATABASE)
    if plan.tls:
        async with open_headend(headend.fleet, tls_shard_size=size, database_url=url) as other:
            yield other._replace(postgres_pid=headend.program.pid)
    else:
        log = headend.folder / "grpcio.log"
        peer = open_program("scripts.benchmarks.grpcio_peer", headend.fleet_path, url, log=log)
        async with peer as program:
            yield headend._replace(program=program, grpc=await program.address(), database_url=url)


def case_of(rounds: Sequence[Case], ratio: str) -> Case:
    """Return the medians of a case's rounds, and the range of the ratio."""
    return {**medians(rounds), **range_row(ratio, [float(of[ratio] or 0) for of in rounds])}
