"""`scripts/bench rest`: requests a second of the telemetry routes, beside a handler that does nothing.

A real headend whose assets have all told a sample; the clients, on kept connections, are this process.
"""

import random
import statistics
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import click
import trio

from scripts.benchmarks.command import BenchmarkError, json_option, run_benchmark
from scripts.benchmarks.copying import server_version
from scripts.benchmarks.headend import RunningHeadend, open_headend
from scripts.benchmarks.programs import open_program
from scripts.benchmarks.report import Report
from scripts.benchmarks.rest_clients import Target, Turn, run_turn
from scripts.make_fleet import make_fleet
from trioder.domain.fleet import Fleet
from trioder.process.addresses import Address

_EMPTY = "empty handler"
_ONE = "GET /telemetry/{id}"
_SITE = "GET /telemetry?site_id="
_READY_WITHIN_S = 30.0
_TOLD_WITHIN_S = 60.0
_STREAM_ASSETS = 1_000
_WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFigures:
    """One target in all rounds: medians, and the range of the ratio to the empty handler's same round.

    Attributes:
        requests_per_cpu_s: a second of the server's CPU time, which others on the machine do not take.
    """

    name: str
    requests_per_s: float
    ratio: float
    ratio_min: float
    ratio_max: float
    requests_per_cpu_s: float
    cpu_ratio: float
    body_bytes: float
    server_cpu_pct: float
    client_cpu_pct: float


@click.command()
@click.option(
    "--assets", type=click.IntRange(1, 100_000), default=10_000, show_default=True, help="Of the headend."
)
@click.option(
    "--site-assets", type=click.IntRange(6, 500), default=100, show_default=True, help="Of each of its sites."
)
@click.option("--clients", type=click.IntRange(1, 100), default=4, show_default=True, help="Connections.")
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Each is all targets in turn.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 600.0),
    default=4.0,
    show_default=True,
    help="Of each target in each round.",
)
@json_option
def rest(
    *, assets: int, site_assets: int, clients: int, rounds: int, seconds: float, json_path: Path | None
) -> None:
    """Requests a second of the telemetry routes, beside an empty handler."""
    run_benchmark(
        partial(
            _measure, assets=assets, site_assets=site_assets, clients=clients, rounds=rounds, seconds=seconds
        ),
        json_path=json_path,
    )


async def _measure(*, assets: int, site_assets: int, clients: int, rounds: int, seconds: float) -> Report:
    fleet = _fleet_of_sites(assets, site_assets)
    # A server that had to be killed may still let go of its files.
    with tempfile.TemporaryDirectory(prefix="trioder-bench-", ignore_cleanup_errors=True) as name:
        async with open_headend(Path(name), fleet) as headend, _open_empty(Path(name)) as empty:
            version = await trio.to_thread.run_sync(server_version, headend.database_url)
            await _tell_samples(headend, Path(name))
            targets = [empty, *_targets(headend, fleet)]
            turns: dict[str, list[Turn]] = {target.name: [] for target in targets}
            for target in targets:
                await run_turn(target, clients=clients, seconds=min(_WARM_UP_S, seconds))
            for _ in range(rounds):
                for target in targets:
                    turns[target.name].append(await run_turn(target, clients=clients, seconds=seconds))
    figures = [_figures(target, turns[target], turns[_EMPTY]) for target in turns]
    return Report(
        title=f"rest: {assets:,} assets, {clients} kept connections, {rounds} rounds of {seconds:g} s",
        postgres=version,
        columns=["", *(one.name for one in figures)],
        rows=[
            ["requests/s, median of rounds", *(f"{one.requests_per_s:,.0f}" for one in figures)],
            ["/ empty handler, median of rounds", *(f"{one.ratio:.2f}" for one in figures)],
            ["/ empty handler, range", *(f"{one.ratio_min:.2f} to {one.ratio_max:.2f}" for one in figures)],
            ["requests a CPU second of the server", *(f"{one.requests_per_cpu_s:,.0f}" for one in figures)],
            ["/ empty handler, by CPU time", *(f"{one.cpu_ratio:.2f}" for one in figures)],
            ["bytes of an answer's body", *(f"{one.body_bytes:,.0f}" for one in figures)],
            ["CPU of the server, % of a core", *(f"{one.server_cpu_pct:.0f}" for one in figures)],
            ["CPU of the clients, % of a core", *(f"{one.client_cpu_pct:.0f}" for one in figures)],
        ],
        figures={
            "benchmark": "rest",
            "assets": assets,
            "site_assets": site_assets,
            "clients": clients,
            "targets": [asdict(one) for one in figures],
            "rounds": {name: [asdict(turn) for turn in of_target] for name, of_target in turns.items()},
        },
    )


def _fleet_of_sites(assets: int, site_assets: int) -> Fleet:
    """Return a fleet whose sites have `site_assets` assets each; the last may have fewer."""
    made = make_fleet(assets, random.Random(1))  # noqa: S311  # no secrets here
    # They have six units at most there, so there are enough of them.
    sites = made.sites[: -(-assets // site_assets)]
    homes = (sites[number // site_assets] for number in range(assets))
    moved = [
        replace(asset, site_id=site.id, site_name=site.name)
        for asset, site in zip(made.assets, homes, strict=True)
    ]
    return Fleet(sites=sites, assets=tuple(moved))


def _targets(headend: RunningHeadend, fleet: Fleet) -> list[Target]:
    # In another order than the file's, as users would ask.
    order = random.Random(1)  # noqa: S311  # no secrets here
    ids = order.sample([asset.id for asset in fleet.assets], len(fleet.assets))
    site_ids = order.sample([site.id for site in fleet.sites], len(fleet.sites))
    of_headend = partial(Target, address=headend.http, pid=headend.program.pid)
    return [
        of_headend(name=_ONE, paths=[f"/telemetry/{asset_id}" for asset_id in ids]),
        of_headend(name=_SITE, paths=[f"/telemetry?site_id={site_id}" for site_id in site_ids]),
    ]


@asynccontextmanager
async def _open_empty(folder: Path) -> AsyncIterator[Target]:
    async with open_program("scripts.benchmarks.empty_handler", log=folder / "empty.log") as program:
        with trio.move_on_after(_READY_WITHIN_S) as patience:
            port = int(await program.line())
        if patience.cancelled_caught:
            raise BenchmarkError(f"the empty handler did not start within {_READY_WITHIN_S:g} s")
        yield Target(name=_EMPTY, address=Address("127.0.0.1", port), pid=program.pid, paths=["/"])


async def _tell_samples(headend: RunningHeadend, folder: Path) -> None:
    """Let every asset have a sample, and nobody send any more when this returns."""
    load = open_program(
        "scripts.benchmarks.load",
        *("--headend", str(headend.grpc), "--fleet", str(headend.fleet_path)),
        *("--shard-size", str(_STREAM_ASSETS), "--seconds", "0.1"),
        log=folder / "load.log",
    )
    async with load as generator:
        with trio.move_on_after(_TOLD_WITHIN_S):
            await generator.line()
            await generator.line()
            return
        raise generator.failure(f"was not done after {_TOLD_WITHIN_S:g} s")


def _figures(name: str, turns: Sequence[Turn], empty: Sequence[Turn]) -> TargetFigures:
    ratios = [turn.requests_per_s / beside.requests_per_s for turn, beside in zip(turns, empty, strict=True)]
    return TargetFigures(
        name=name,
        requests_per_s=statistics.median(turn.requests_per_s for turn in turns),
        ratio=statistics.median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        requests_per_cpu_s=statistics.median(turn.requests_per_cpu_s for turn in turns),
        cpu_ratio=statistics.median(
            turn.requests_per_cpu_s / beside.requests_per_cpu_s
            for turn, beside in zip(turns, empty, strict=True)
        ),
        body_bytes=statistics.median(turn.body_bytes for turn in turns),
        server_cpu_pct=statistics.median(turn.server_cpu_pct for turn in turns),
        client_cpu_pct=statistics.median(turn.client_cpu_pct for turn in turns),
    )
