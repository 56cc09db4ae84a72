"""`scripts/bench rest`: requests and rows per second of what is polled, beside handlers that do nothing.

A real headend whose assets have all reported a sample; the clients are a process of their own.
"""

import json
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import httpx2
import psutil
import trio

from scripts.benchmarks.benchmark import BenchmarkError, Case, Report, benchmark, medians, number, range_row
from scripts.benchmarks.processes import cpu_s, invented_fleet, open_headend, open_program
from trioder.domain.fleet import Fleet
from trioder.process.addresses import Address

_EMPTY, _BARE = "empty handler", "bare connection"
_PER_S, _PER_CPU_S = "requests/s", "requests per CPU second of the server"
_STREAM_ASSETS = 1_000
_SENDING_S = 1.0
_WARM_UP_S = 0.5
# So many different requests of each kind: the clients' process reads them when it starts.
_REQUESTS = 2_000


class _Target(NamedTuple):
    """What is asked for, at the server with this process id; `rows` in each response."""

    pid: int
    address: Address
    paths: Sequence[str]
    rows: int = 0
    header: str = ""


@benchmark(
    number("--assets", 1, 100_000, 10_000, "Of the headend."),
    number("--site-assets", 6, 500, 152, "Of each of its sites."),
    number("--clients", 1, 100, 4, "Connections."),
    number("--rounds", 1, 1000, 5, "Each is all targets in turn."),
    number("--seconds", 0.1, 600.0, 4.0, "Of each target in each round."),
)
async def rest(*, assets: int, site_assets: int, clients: int, rounds: int, seconds: float) -> Report:
    """Requests and rows per second of what is polled, beside an empty handler and a bare connection."""
    fleet = fleet_of_sites(assets, site_assets)
    async with open_headend(fleet) as headend:
        # Every asset gets a sample, and nobody sends any more after that.
        async with headend.open_load(shard_size=_STREAM_ASSETS) as load:
            await load.registered()
            await trio.sleep(_SENDING_S)
            await load.finish()
        stubs, log = "scripts.benchmarks.stub_servers", headend.folder
        async with (
            open_program(stubs, "empty", log=log / "empty.log") as empty,
            open_program(stubs, "bare", log=log / "bare.log") as bare,
        ):
            # In another order than the file's, as users would ask.
            shuffled = random.Random(1).sample  # noqa: S311  # no secrets here
            ids = shuffled(fleet.asset_ids, len(fleet.assets))
            # The last site may have fewer assets.
            whole = fleet.sites[: max(1, len(fleet.assets) // site_assets)]
            sites = [f"site_id={site.id}" for site in shuffled(whole, len(whole))]
            of_site = min(site_assets, assets)
            ask = partial(_Target, headend.program.pid, headend.http)
            async with httpx2.AsyncClient() as client:
                etag = (await client.get(f"http://{headend.http}/assets")).headers["etag"]
            targets = {
                _EMPTY: _Target(empty.pid, await empty.address(), ["/"]),
                _BARE: _Target(bare.pid, await bare.address(), ["/"]),
                "/telemetry/{id}": ask([f"/telemetry/{asset_id}" for asset_id in ids]),
                "/assets, 304": ask(["/assets"], header=f"if-none-match: {etag}\r\n"),
                "/assets?site_id=": ask([f"/assets?{site}" for site in sites], of_site),
                "/telemetry?site_id=": ask([f"/telemetry?{site}" for site in sites], of_site),
                "/assets": ask(["/assets"], assets),
                "/telemetry": ask(["/telemetry"], assets),
            }
            turns: dict[str, list[dict[str, float]]] = {name: [] for name in targets}
            for target in targets.values():
                await _run_turn(target, clients=clients, seconds=min(_WARM_UP_S, seconds))
            for _ in range(rounds):
                for name, target in targets.items():
                    turns[name].append(await _run_turn(target, clients=clients, seconds=seconds))
    cases = {name: _case_of(turns[name], turns) for name in turns}
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


async def _run_turn(target: _Target, *, clients: int, seconds: float) -> dict[str, float]:
    """Request the paths in turn, each on a kept connection once the response before it is complete."""
    head = f"HTTP/1.1\r\nhost: {target.address}\r\n{target.header}\r\n"
    requests = [f"GET {path} {head}" for path in target.paths[:_REQUESTS]]
    shares = [requests[position::clients] or requests for position in range(clients)]
    task = {"host": target.address.host, "port": target.address.port, "seconds": seconds, "requests": shares}
    process = psutil.Process(target.pid)
    server_s = cpu_s(process)
    ended = await trio.run_process(
        [sys.executable, "-m", "scripts.benchmarks.http_load"],
        stdin=json.dumps(task).encode(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    used_s = cpu_s(process) - server_s
    if ended.returncode:
        raise BenchmarkError(f"the clients failed: {(ended.stderr or b'').decode(errors='replace')[-500:]}")
    counted = json.loads(ended.stdout)
    responses, took_s = counted["responses"], counted["took_s"]
    return {
        _PER_S: responses / took_s,
        # Others on the machine do not take any of this time. The system counts no finer than 0.01 s.
        _PER_CPU_S: responses / max(0.01, used_s),
        "rows/s": target.rows * responses / took_s,
        "bytes of a response": counted["bytes"] / max(1, responses),
        "CPU of the server, % of a core": 100 * used_s / took_s,
        "CPU of the clients, % of a core": 100 * counted["cpu_s"] / took_s,
    }


def _case_of(turns: Sequence[dict[str, float]], all_turns: dict[str, list[dict[str, float]]]) -> Case:
    """Return the medians of one target, and of its ratios to the stub servers in the same round."""
    case: dict[str, float | str | None] = dict(medians(turns))
    for stub in (_EMPTY, _BARE):
        for row, name in ((_PER_S, f"/ {stub}"), (_PER_CPU_S, f"/ {stub}, by CPU time")):
            ratios = [turn[row] / beside[row] for turn, beside in zip(turns, all_turns[stub], strict=True)]
            case |= {name: statistics.median(ratios), **range_row(name, ratios)}
    return case
