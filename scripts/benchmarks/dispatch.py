"""`scripts/bench dispatch`: from a POST to a setpoint that is applied at its asset, alone and under load.

A real headend and real agents; what is done is in `dispatch_singles` and `dispatch_groups`.
"""

import json
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from scripts.benchmarks.agents import open_agents
from scripts.benchmarks.command import BenchmarkError, json_option, run_benchmark
from scripts.benchmarks.copying import server_version
from scripts.benchmarks.dispatch_groups import GroupFigures, measure_groups
from scripts.benchmarks.dispatch_singles import SingleFigures, figures_of, send_singles
from scripts.benchmarks.headend import RunningHeadend, open_headend
from scripts.benchmarks.programs import Program, open_program
from scripts.benchmarks.report import Report
from scripts.benchmarks.spread import Spread
from scripts.benchmarks.usage import headend_usage
from scripts.make_fleet import make_fleet
from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet
from trioder.fleet import dump_fleet
from trioder.launcher.shards import cut_shards
from trioder.process.wall_time import WallClock

# The load goes on for so much longer than the dispatches should take.
_LOAD_MARGIN_S = 5.0
_LOAD_DONE_WITHIN_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, as the options say."""

    dispatches: int
    per_s: float
    agent_assets: int
    samples_per_s: int
    streams: int
    tick_s: float
    group_assets: int
    group_agents: int
    group_repeats: int

    @property
    def stream_assets(self) -> int:
        """So many a stream, rounded up, for the samples of all to be as many as they should."""
        return -(-round(self.samples_per_s * self.tick_s) // self.streams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The telemetry that came in meanwhile, all of it committed; as its generator tells."""

    samples_per_s: float
    replays: int
    acknowledged_p50_ms: float
    acknowledged_p99_ms: float
    generator_cpu_pct: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SinglesCase:
    """Single dispatches; shares of CPU are of one core, in percent.

    Attributes:
        load: what they were beside; None when they were alone.
    """

    load: Load | None
    dispatches: SingleFigures
    headend_cpu_pct: float
    postgres_cpu_pct: float
    others_cpu_pct: float


@click.command()
@click.option(
    "--dispatches",
    type=click.IntRange(2, 100_000),
    default=1000,
    show_default=True,
    help="Of one asset each, a case; every other one waits for its acknowledgement.",
)
@click.option(
    "--per-s", type=click.FloatRange(0.1, 1000.0), default=20.0, show_default=True, help="How many a second."
)
@click.option(
    "--agent-assets",
    type=click.IntRange(1, 10_000),
    default=25,
    show_default=True,
    help="Of the agent that they go to.",
)
@click.option(
    "--samples-per-s",
    type=click.IntRange(1, 1_000_000),
    default=25_000,
    show_default=True,
    help="Telemetry of others that comes in meanwhile, in the second case.",
)
@click.option(
    "--streams",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="Agents that it comes from.",
)
@click.option(
    "--tick-s",
    type=click.FloatRange(0.1, 60.0),
    default=4.0,
    show_default=True,
    help="Seconds from one pulse of every agent to the next.",
)
@click.option(
    "--group-assets", type=click.IntRange(1, 100_000), default=10_000, show_default=True, help="Of a group."
)
@click.option(
    "--group-agents", type=click.IntRange(1, 100), default=10, show_default=True, help="Agents they are in."
)
@click.option(
    "--group-repeats",
    type=click.IntRange(0, 1000),
    default=10,
    show_default=True,
    help="Dispatches to the group, in either way; 0 for none.",
)
@json_option
def dispatch(*, json_path: Path | None, **options: Any) -> None:
    """From a POST to the setpoint's being applied at its asset, alone and beside telemetry; and of groups."""
    run_benchmark(partial(_measure, Plan(**options)), json_path=json_path)


async def _measure(plan: Plan) -> Report:
    version, cases = await _measure_singles(plan)
    groups = await _measure_groups(plan) if plan.group_repeats else None
    return _report(plan, cases, groups, version=version)


async def _measure_singles(plan: Plan) -> tuple[str, list[SinglesCase]]:
    """Measure on one headend, alone and then beside the load; and tell its database's version."""
    count = plan.agent_assets + plan.streams * plan.stream_assets
    async with _open_bench(count) as (folder, fleet, headend):
        version = await trio.to_thread.run_sync(server_version, headend.database_url)
        own = Fleet(sites=fleet.sites, assets=fleet.assets[: plan.agent_assets])
        measure = partial(_measure_case, plan, headend, own.assets, WallClock.starting_now())
        async with open_agents(cut_shards(own, plan.agent_assets), headend, folder, tick_s=plan.tick_s):
            alone = await measure()
            others = Fleet(sites=fleet.sites, assets=fleet.assets[plan.agent_assets :])
            (folder / "load.json").write_text(dump_fleet(others, form="json"), encoding="utf-8")
            seconds = plan.dispatches / plan.per_s + plan.tick_s + _LOAD_MARGIN_S
            load = open_program(
                "scripts.benchmarks.load",
                *("--headend", str(headend.grpc), "--fleet", str(folder / "load.json")),
                *("--shard-size", str(plan.stream_assets)),
                *("--every-s", str(plan.tick_s), "--seconds", str(seconds)),
                log=folder / "load.log",
            )
            async with load as generator:
                await generator.line()
                until_s = trio.current_time() + seconds
                # Until each stream has begun.
                await trio.sleep(plan.tick_s)
                beside = await measure()
                if trio.current_time() > until_s:
                    raise BenchmarkError(f"the dispatches took longer than the load's {seconds:g} s")
                told = await _told_at_the_end(generator, within_s=seconds + _LOAD_DONE_WITHIN_S)
    return version, [alone, replace(beside, load=_load_of(told, plan.stream_assets))]


async def _measure_case(
    plan: Plan, headend: RunningHeadend, assets: Sequence[Asset], wall: WallClock
) -> SinglesCase:
    pid = headend.program.pid
    began_s, began = trio.current_time(), headend_usage(pid)
    rng = random.Random(1)  # noqa: S311  # no secrets here
    singles = await send_singles(headend.http, assets, count=plan.dispatches, per_s=plan.per_s, rng=rng)
    used = headend_usage(pid).since(began)
    share = 100 / (trio.current_time() - began_s)
    return SinglesCase(
        load=None,
        dispatches=await figures_of(singles, headend.program.log, wall=wall),
        headend_cpu_pct=share * used.server_s,
        postgres_cpu_pct=share * used.postgres_s,
        others_cpu_pct=share * max(0.0, used.machine_s - used.server_s - used.postgres_s),
    )


async def _measure_groups(plan: Plan) -> GroupFigures:
    async with _open_bench(plan.group_assets) as (folder, fleet, headend):
        shards = cut_shards(fleet, -(-plan.group_assets // plan.group_agents))
        async with open_agents(shards, headend, folder, tick_s=plan.tick_s):
            return await measure_groups(headend.http, fleet.assets, repeats=plan.group_repeats)


@asynccontextmanager
async def _open_bench(assets: int) -> AsyncIterator[tuple[Path, Fleet, RunningHeadend]]:
    """Open a headend with so many assets, and the folder in which everything lies."""
    fleet = make_fleet(assets, random.Random(1))  # noqa: S311  # no secrets here
    # A server that had to be killed may still let go of its files.
    with tempfile.TemporaryDirectory(prefix="trioder-bench-", ignore_cleanup_errors=True) as name:
        async with open_headend(Path(name), fleet) as headend:
            yield Path(name), fleet, headend


async def _told_at_the_end(generator: Program, *, within_s: float) -> dict[str, float]:
    with trio.move_on_after(within_s):
        told: dict[str, float] = json.loads(await generator.line())
        return told
    raise generator.failure(f"was not done after {within_s:g} s")


def _load_of(told: dict[str, float], stream_assets: int) -> Load:
    return Load(
        samples_per_s=told["messages"] * stream_assets / told["elapsed_s"],
        replays=int(told["replays"]),
        acknowledged_p50_ms=1000 * told["p50_s"],
        acknowledged_p99_ms=1000 * told["p99_s"],
        generator_cpu_pct=100 * told["cpu_s"] / told["elapsed_s"],
    )


def _report(plan: Plan, cases: Sequence[SinglesCase], groups: GroupFigures | None, *, version: str) -> Report:
    rows: list[list[str]] = []
    for case in cases:
        where = "alone" if case.load is None else f"beside {case.load.samples_per_s:,.0f} samples/s"
        figures = case.dispatches
        rows += [
            _row(f"POST answered, {where}", figures.answered),
            _row(f"POST to applied (agent's clock), {where}", figures.applied),
            _row(f"POST to acknowledged, {where}", figures.acknowledged),
        ]
    if groups is not None:
        what = f"group of {plan.group_assets:,}"
        rows += [
            _row(f"POST answered, {what}", groups.answered),
            _row(f"POST to acknowledged by all, {what}", groups.acknowledged),
        ]
    return Report(
        title=f"dispatch: {plan.per_s:g}/s to {plan.agent_assets:,} assets of one agent; groups in "
        f"{plan.group_agents} agents",
        postgres=version,
        columns=["ms", "p50", "p99", "max", "of"],
        rows=rows,
        notes=[note for case in cases for note in _notes(case)],
        figures={
            "benchmark": "dispatch",
            "plan": asdict(plan),
            "singles": [asdict(case) for case in cases],
            "groups": None if groups is None else asdict(groups),
        },
    )


def _row(name: str, spread: Spread) -> list[str]:
    return [name, *spread.cells(), f"{spread.count:,}"]


def _notes(case: SinglesCase) -> list[str]:
    load = case.load
    where = "alone" if load is None else "beside telemetry"
    cpu = (
        f"{where}: CPU of the headend {case.headend_cpu_pct:.0f} %, of PostgreSQL "
        f"{case.postgres_cpu_pct:.0f} %, of all else {case.others_cpu_pct:.0f} % of a core; "
        f"a POST was sent {case.dispatches.sent_late_max_ms:.1f} ms late at most"
    )
    if load is None:
        return [cpu]
    telemetry = (
        f"telemetry: sent to acknowledged {load.acknowledged_p50_ms:.0f} ms p50, "
        f"{load.acknowledged_p99_ms:.0f} ms p99; replays {load.replays}; CPU of its generator "
        f"{load.generator_cpu_pct:.0f} % of a core"
    )
    return [cpu, telemetry]
