"""`scripts/bench dispatch`: from a POST to a setpoint that is applied at its asset, alone and under load.

A real headend and real agents; the dispatches are sent by `dispatch_calls`.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import trio

from scripts.benchmarks.command import BenchmarkError, json_option, number, run_benchmark
from scripts.benchmarks.dispatch_calls import figures_of, measure_groups, send_singles
from scripts.benchmarks.headend import RunningHeadend, invented_fleet, open_bench, open_launcher, write_fleet
from scripts.benchmarks.load import open_load
from scripts.benchmarks.report import Figures, Report
from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet
from trioder.process.wall_time import WallClock

# The dispatches beside the load may take so much longer than their rate says.
_MARGIN_S = 5.0
_TELEMETRY = (
    "telemetry: sent to acknowledged {acknowledged_p50_ms:.0f} ms p50, {acknowledged_p99_ms:.0f} ms p99; "
    "replays {replays}; CPU of its generator {generator_cpu_pct:.0f} % of a core"
)
_CPU = (
    "CPU of the headend {headend_cpu_pct:.0f} %, of PostgreSQL {postgres_cpu_pct:.0f} %, of all else "
    "{others_cpu_pct:.0f} % of a core; a POST was sent {dispatches[sent_late_max_ms]:.1f} ms late at most"
)


@click.command()
@number("--dispatches", 2, 100_000, 1000, "To one asset each, per case; every other one waits for its ack.")
@number("--per-s", 0.1, 1000.0, 20.0, "How many per second.")
@number("--agent-assets", 1, 10_000, 25, "Of the agent that they are sent to.")
@number("--samples-per-s", 1, 1_000_000, 25_000, "Telemetry of other agents meanwhile, in the second case.")
@number("--streams", 1, 1000, 100, "Agents that send it.")
@number("--tick-s", 0.1, 60.0, 4.0, "Seconds from one pulse of every agent to the next.")
@number("--group-assets", 1, 100_000, 10_000, "Of a group.")
@number("--group-agents", 1, 100, 10, "Agents that they belong to.")
@number("--group-repeats", 0, 1000, 10, "Dispatches to the group, without and with waiting; 0 for none.")
@json_option
def dispatch(*, json_path: Path | None, **options: Any) -> None:
    """From a POST to the setpoint applied at its asset, alone and beside telemetry; and of groups."""
    run_benchmark(partial(_measure, SimpleNamespace(**options)), json_path=json_path)


async def _measure(plan: SimpleNamespace) -> Report:
    version, cases = await _measure_singles(plan)
    groups: Figures | None = None
    if plan.group_repeats:
        async with open_bench(invented_fleet(plan.group_assets)) as headend:
            size = -(-plan.group_assets // plan.group_agents)
            async with open_launcher(headend, headend.fleet_path, shard_size=size, tick_s=plan.tick_s):
                groups = await measure_groups(headend.http, headend.fleet.assets, repeats=plan.group_repeats)
    return _report(plan, cases, groups, version=version)


async def _measure_singles(plan: SimpleNamespace) -> tuple[str, list[Figures]]:
    """Measure on one headend, alone and then beside the load; return its database's version as well."""
    # Rounded up, for all streams together to make enough samples.
    stream_assets = -(-round(plan.samples_per_s * plan.tick_s) // plan.streams)
    fleet = invented_fleet(plan.agent_assets + plan.streams * stream_assets)
    async with open_bench(fleet) as headend:
        version = await headend.version()
        own = Fleet(sites=fleet.sites, assets=fleet.assets[: plan.agent_assets])
        others = Fleet(sites=fleet.sites, assets=fleet.assets[plan.agent_assets :])
        own_path = write_fleet(own, headend.folder / "own.json")
        others_path = write_fleet(others, headend.folder / "others.json")
        measure = partial(_measure_case, plan, headend, own.assets, WallClock.starting_now())
        async with open_launcher(headend, own_path, shard_size=plan.agent_assets, tick_s=plan.tick_s):
            alone = await measure()
            agents = open_load(headend.grpc, others_path, shard_size=stream_assets, pulse_s=plan.tick_s)
            async with agents as load:
                await load.registered()
                # Until each stream has begun.
                await trio.sleep(plan.tick_s)
                with trio.move_on_after(plan.dispatches / plan.per_s + _MARGIN_S) as patience:
                    beside = await measure()
                if patience.cancelled_caught:
                    raise BenchmarkError("the dispatches took longer than their rate allows")
                totals = await load.finish()
    beside["load"] = {
        "samples_per_s": totals["samples"] / totals["elapsed_s"],
        "replays": totals["replays"],
        "acknowledged_p50_ms": 1000 * totals["p50_s"],
        "acknowledged_p99_ms": 1000 * totals["p99_s"],
        "generator_cpu_pct": 100 * totals["cpu_s"] / totals["elapsed_s"],
    }
    return version, [alone, beside]


async def _measure_case(
    plan: SimpleNamespace, headend: RunningHeadend, assets: Sequence[Asset], wall: WallClock
) -> dict[str, Any]:
    began = headend.usage()
    sent = await send_singles(headend.http, assets, count=plan.dispatches, per_s=plan.per_s)
    shares = headend.usage().since(began).pcts()
    return {"load": None, "dispatches": await figures_of(sent, headend.program.log, wall=wall), **shares}


def _report(
    plan: SimpleNamespace, cases: Sequence[Figures], groups: Figures | None, *, version: str
) -> Report:
    spreads: dict[str, Figures] = {}
    notes: list[str] = []
    for case in cases:
        load, dispatches = case["load"], case["dispatches"]
        where = "alone" if load is None else f"beside {load['samples_per_s']:,.0f} samples/s"
        spreads[f"POST answered, {where}"] = dispatches["answered"]
        spreads[f"POST to applied (agent's clock), {where}"] = dispatches["applied"]
        spreads[f"POST to acknowledged, {where}"] = dispatches["acknowledged"]
        notes.append(("alone: " if load is None else "beside telemetry: ") + _CPU.format(**case))
        notes += [] if load is None else [_TELEMETRY.format(**load)]
    if groups is not None:
        group = f"group of {plan.group_assets:,}"
        spreads[f"POST answered, {group}"] = groups["answered"]
        spreads[f"POST to acknowledged by all, {group}"] = groups["acknowledged"]
    cells = ("{p50_ms:,.1f}", "{p99_ms:,.1f}", "{max_ms:,.1f}", "{count:,}")
    return Report(
        title=f"dispatch: {plan.per_s:g}/s to {plan.agent_assets:,} assets of one agent; groups in "
        f"{plan.group_agents} agents",
        postgres=version,
        columns=["ms", "p50", "p99", "max", "of"],
        rows=[[name, *(cell.format(**spread) for cell in cells)] for name, spread in spreads.items()],
        notes=notes,
        figures={"benchmark": "dispatch", "plan": vars(plan), "singles": cases, "groups": groups},
    )
