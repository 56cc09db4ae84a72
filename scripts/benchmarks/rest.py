"""`scripts/bench rest`: requests per second of the telemetry routes, beside a handler that does nothing.

A real headend whose assets have all reported a sample; the clients, on kept connections, are this process.
"""

import random
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import NamedTuple

import psutil
import trio

from scripts.benchmarks.benchmark import Figures, Report, benchmark, number, table_rows
from scripts.benchmarks.http_client import HttpConnection, open_http
from scripts.benchmarks.processes import cpu_s, invented_fleet, open_headend, open_program
from trioder.domain.fleet import Fleet
from trioder.process.addresses import Address

_EMPTY = "empty handler"
_STREAM_ASSETS = 1_000
_SENDING_S = 1.0
_WARM_UP_S = 0.5
# The system counts no finer.
_CPU_RESOLUTION_S = 0.01


class Target(NamedTuple):
    """What is requested: the paths in turn, of a server with this process id."""

    name: str
    address: Address
    pid: int
    paths: Sequence[str]


@benchmark(
    number("--assets", 1, 100_000, 10_000, "Of the headend."),
    number("--site-assets", 6, 500, 100, "Of each of its sites."),
    number("--clients", 1, 100, 4, "Connections."),
    number("--rounds", 1, 1000, 5, "Each is all targets in turn."),
    number("--seconds", 0.1, 600.0, 4.0, "Of each target in each round."),
)
async def rest(*, assets: int, site_assets: int, clients: int, rounds: int, seconds: float) -> Report:
    """Requests per second of the telemetry routes, beside an empty handler."""
    fleet = _fleet_of_sites(assets, site_assets)
    async with open_headend(fleet) as headend:
        # Every asset gets a sample, and nobody sends any more after that.
        async with headend.open_load(shard_size=_STREAM_ASSETS) as load:
            await load.registered()
            await trio.sleep(_SENDING_S)
            await load.finish()
        log = headend.folder / "empty.log"
        async with open_program("scripts.benchmarks.stub_servers", "empty", log=log) as program:
            empty = await program.address()
            # In another order than the file's, as users would ask.
            shuffled = random.Random(1).sample  # noqa: S311  # no secrets here
            ids = shuffled(fleet.asset_ids, len(fleet.assets))
            site_ids = shuffled([site.id for site in fleet.sites], len(fleet.sites))
            one = [f"/telemetry/{asset_id}" for asset_id in ids]
            site = [f"/telemetry?site_id={site_id}" for site_id in site_ids]
            targets = [
                Target(_EMPTY, empty, program.pid, ["/"]),
                Target("GET /telemetry/{id}", headend.http, headend.program.pid, one),
                Target("GET /telemetry?site_id=", headend.http, headend.program.pid, site),
            ]
            turns: dict[str, list[Figures]] = {target.name: [] for target in targets}
            for target in targets:
                await _run_turn(target, clients=clients, seconds=min(_WARM_UP_S, seconds))
            for _ in range(rounds):
                for target in targets:
                    turns[target.name].append(await _run_turn(target, clients=clients, seconds=seconds))
    figures = [_figures(target, turns[target], turns[_EMPTY]) for target in turns]
    return Report(
        title=f"rest: {assets:,} assets, {clients} kept connections, {rounds} rounds of {seconds:g} s",
        postgres=headend.postgres,
        columns=["", *turns],
        rows=table_rows(
            figures,
            ("requests/s, median of rounds", "{requests_per_s:,.0f}"),
            ("/ empty handler, median of rounds", "{ratio:.2f}"),
            ("/ empty handler, range", "{ratio_min:.2f} to {ratio_max:.2f}"),
            ("requests per CPU second of the server", "{requests_per_cpu_s:,.0f}"),
            ("/ empty handler, by CPU time", "{cpu_ratio:.2f}"),
            ("bytes of a response's body", "{body_bytes:,.0f}"),
            ("CPU of the server, % of a core", "{server_cpu_pct:.0f}"),
            ("CPU of the clients, % of a core", "{client_cpu_pct:.0f}"),
        ),
        figures={
            "benchmark": "rest",
            "assets": assets,
            "site_assets": site_assets,
            "clients": clients,
            "targets": figures,
            "rounds": turns,
        },
    )


def _fleet_of_sites(assets: int, site_assets: int) -> Fleet:
    """Return a fleet whose sites have `site_assets` assets each; the last may have fewer."""
    made = invented_fleet(assets)
    # Its sites have six units at most, so there are enough of them.
    sites = made.sites[: -(-assets // site_assets)]
    homes = [sites[position // site_assets] for position in range(assets)]
    pairs = zip(made.assets, homes, strict=True)
    moved = [replace(asset, site_id=site.id, site_name=site.name) for asset, site in pairs]
    return Fleet(sites=sites, assets=moved)


async def _run_turn(target: Target, *, clients: int, seconds: float) -> Figures:
    """Send requests on kept connections for so long, each as soon as the response before it has come."""
    sizes: list[int] = []

    async def ask(connection: HttpConnection, requests: Sequence[bytes], until_s: float) -> None:
        count = 0
        while trio.current_time() < until_s:
            sizes.append(len(await connection.exchange(requests[count % len(requests)])))
            count += 1

    server = psutil.Process(target.pid)
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(open_http(target.address)) for _ in range(clients)]
        shares = [target.paths[position::clients] or target.paths for position in range(clients)]
        requests = [[connections[0].request_bytes("GET", path) for path in paths] for paths in shares]
        began_s, server_s, client_s = trio.current_time(), cpu_s(server), time.process_time()
        async with trio.open_nursery() as nursery:
            for connection, own in zip(connections, requests, strict=True):
                nursery.start_soon(ask, connection, own, began_s + seconds)
        took_s, used_s = trio.current_time() - began_s, cpu_s(server) - server_s
        client_cpu_s = time.process_time() - client_s
    return {
        "requests_per_s": len(sizes) / took_s,
        # Others on the machine do not take any of this time.
        "requests_per_cpu_s": len(sizes) / max(_CPU_RESOLUTION_S, used_s),
        "body_bytes": sum(sizes) / max(1, len(sizes)),
        "server_cpu_pct": 100 * used_s / took_s,
        "client_cpu_pct": 100 * client_cpu_s / took_s,
    }


def _figures(name: str, turns: Sequence[Figures], empty: Sequence[Figures]) -> Figures:
    """Return the medians of one target, and the range of its ratio to the empty handler in the same round."""

    def ratios(figure: str) -> list[float]:
        return [turn[figure] / beside[figure] for turn, beside in zip(turns, empty, strict=True)]

    by_time = ratios("requests_per_s")
    return {
        "name": name,
        **{figure: statistics.median(turn[figure] for turn in turns) for figure in turns[0]},
        "ratio": statistics.median(by_time),
        "ratio_min": min(by_time),
        "ratio_max": max(by_time),
        "cpu_ratio": statistics.median(ratios("requests_per_cpu_s")),
    }
