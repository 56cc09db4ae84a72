"""`scripts/bench rest`: requests per second of the telemetry routes, beside a handler that does nothing.

A real headend whose assets have all reported a sample; the clients, on kept connections, are this process.
"""

import random
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import cycle

import psutil
import trio

from scripts.benchmarks.benchmark import Case, Report, benchmark, medians, number, range_row
from scripts.benchmarks.http_client import HttpConnection, open_http
from scripts.benchmarks.processes import RunningHeadend, cpu_s, invented_fleet, open_headend, open_program
from trioder.domain.fleet import Fleet

_EMPTY = "empty handler"
_PER_S, _PER_CPU_S = "requests/s", "requests per CPU second of the server"
_STREAM_ASSETS = 1_000
_SENDING_S = 1.0
_WARM_UP_S = 0.5


@benchmark(
    number("--assets", 1, 100_000, 10_000, "Of the headend."),
    number("--site-assets", 6, 500, 100, "Of each of its sites."),
    number("--clients", 1, 100, 4, "Connections."),
    number("--rounds", 1, 1000, 5, "Each is all targets in turn."),
    number("--seconds", 0.1, 600.0, 4.0, "Of each target in each round."),
)
async def rest(*, assets: int, site_assets: int, clients: int, rounds: int, seconds: float) -> Report:
    """Requests per second of the telemetry routes, beside an empty handler."""
    fleet = fleet_of_sites(assets, site_assets)
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
            targets = {
                _EMPTY: (headend._replace(program=program, http=empty), ["/"]),
                "GET /telemetry/{id}": (headend, one),
                "GET /telemetry?site_id=": (headend, site),
            }
            turns: dict[str, list[dict[str, float]]] = {target: [] for target in targets}
            for server, paths in targets.values():
                await _run_turn(server, paths, clients=clients, seconds=min(_WARM_UP_S, seconds))
            for _ in range(rounds):
                for target, (server, paths) in targets.items():
                    turn = await _run_turn(server, paths, clients=clients, seconds=seconds)
                    turns[target].append(turn)
    cases = {target: _case_of(turns[target], turns[_EMPTY]) for target in turns}
    title = f"rest: {assets:,} assets, {clients} kept connections, {rounds} rounds of {seconds:g} s"
    return Report(title=title, cases=cases)


def fleet_of_sites(assets: int, site_assets: int) -> Fleet:
    """Return a fleet whose sites have `site_assets` assets each; the last may have fewer."""
    made = invented_fleet(assets)
    # Its sites have six units at most, so there are enough of them.
    sites = made.sites[: -(-assets // site_assets)]
    pairs = [(sites[position // site_assets], asset) for position, asset in enumerate(made.assets)]
    moved = [replace(asset, site_id=site.id, site_name=site.name) for site, asset in pairs]
    return Fleet(sites=sites, assets=moved)


async def _run_turn(
    server: RunningHeadend, paths: Sequence[str], *, clients: int, seconds: float
) -> dict[str, float]:
    """Request the paths in turn, each on a kept connection once the response before it is complete."""
    sizes: list[int] = []

    async def ask(connection: HttpConnection, requests: Sequence[bytes], until_s: float) -> None:
        for request in cycle(requests):
            if trio.current_time() >= until_s:
                return
            sizes.append(len(await connection.exchange(request)))

    process = psutil.Process(server.program.pid)
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(open_http(server.http)) for _ in range(clients)]
        shares = [paths[position::clients] or paths for position in range(clients)]
        requests = [[connections[0].request_bytes("GET", path) for path in paths] for paths in shares]
        began_s, server_s, client_s = trio.current_time(), cpu_s(process), time.process_time()
        async with trio.open_nursery() as nursery:
            for connection, own in zip(connections, requests, strict=True):
                nursery.start_soon(ask, connection, own, began_s + seconds)
        took_s, used_s = trio.current_time() - began_s, cpu_s(process) - server_s
        client_cpu_s = time.process_time() - client_s
    return {
        _PER_S: len(sizes) / took_s,
        # Others on the machine do not take any of this time. The system counts no finer than 0.01 s.
        _PER_CPU_S: len(sizes) / max(0.01, used_s),
        "bytes of a response's body": sum(sizes) / max(1, len(sizes)),
        "CPU of the server, % of a core": 100 * used_s / took_s,
        "CPU of the clients, % of a core": 100 * client_cpu_s / took_s,
    }


def _case_of(turns: Sequence[dict[str, float]], empty: Sequence[dict[str, float]]) -> Case:
    """Return the medians of one target, and of its ratios to the empty handler in the same round."""

    def ratios(row: str) -> list[float]:
        return [turn[row] / beside[row] for turn, beside in zip(turns, empty, strict=True)]

    by_time = ratios(_PER_S)
    return {
        **medians(turns),
        "/ empty handler": statistics.median(by_time),
        **range_row("/ empty handler", by_time),
        "/ empty handler, by CPU time": statistics.median(ratios(_PER_CPU_S)),
    }
