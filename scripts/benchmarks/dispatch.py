"""`scripts/bench dispatch`: from a POST to a setpoint that is applied at its asset, alone and under load.

A real headend and real agents. Applied is by the agent's own clock, which the headend logs.
"""

import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import trio

from scripts.benchmarks.benchmark import BenchmarkError, Figures, Report, benchmark, number, spread_ms
from scripts.benchmarks.http_client import open_http
from scripts.benchmarks.processes import RunningHeadend, invented_fleet, log_entries, open_headend
from trioder.domain.assets import Asset
from trioder.process.rfc3339 import parse_ms
from trioder.process.wall_time import WallClock

_WAIT = "wait=ack&wait_s=30"
_START_DELAY_S = 0.2
_LOGGED_WITHIN_S = 10.0
_HOLDS_WITHIN_S = 60.0
_POLL_S = 0.1
_SINGLE_DURATION_S = 60
_GROUP_DURATION_S = 300
_CONNECTIONS = 4
# The agent reports whole ms, and its clock and ours were set within so much of each other.
_CLOCK_SLACK_S = 0.003
# What remains to be done of a group dispatch (records, the agents' files) must not overlap the next.
_PAUSE_S = 1.0
# Of the fleet's rating, in turn: small enough to be held by all, and each differs from the one before.
_SHARES = (0.1, -0.1)
# The dispatches beside the load may take so much longer than their rate says.
_MARGIN_S = 5.0
_SPREADS = {
    "answered": "POST answered",
    "applied": "POST to applied (agent's clock)",
    "acknowledged": "POST to acknowledged",
}
_TELEMETRY = (
    "telemetry: sent to acknowledged {acknowledged_p50_ms:.0f} ms p50, {acknowledged_p99_ms:.0f} ms p99; "
    "replays {replays}; CPU of its generator {generator_cpu_pct:.0f} % of a core"
)
_CPU = (
    "CPU of the headend {headend_cpu_pct:.0f} %, of PostgreSQL {postgres_cpu_pct:.0f} %, of all else "
    "{others_cpu_pct:.0f} % of a core; a POST was sent {dispatches[sent_late_max_ms]:.1f} ms late at most"
)


@benchmark(
    number("--dispatches", 2, 100_000, 1000, "To one asset each, per case; every other waits for its ack."),
    number("--per-s", 0.1, 1000.0, 20.0, "How many per second."),
    number("--agent-assets", 1, 10_000, 25, "Of the agent that they are sent to."),
    number("--samples-per-s", 1, 1_000_000, 25_000, "Telemetry of other agents, in the second case."),
    number("--streams", 1, 1000, 100, "Agents that send it."),
    number("--tick-s", 0.1, 60.0, 4.0, "Seconds from one pulse of every agent to the next."),
    number("--group-assets", 1, 100_000, 10_000, "Of a group."),
    number("--group-agents", 1, 100, 10, "Agents that they belong to."),
    number("--group-repeats", 0, 1000, 10, "Dispatches to the group, without and with waiting; 0 for none."),
)
async def dispatch(**options: Any) -> Report:
    """From a POST to the setpoint applied at its asset, alone and beside telemetry; and of groups."""
    plan = SimpleNamespace(**options)
    version, cases = await _measure_singles(plan)
    groups: Figures | None = None
    if plan.group_repeats:
        size = -(-plan.group_assets // plan.group_agents)
        async with (
            open_headend(invented_fleet(plan.group_assets)) as headend,
            headend.open_launcher(shard_size=size, tick_s=plan.tick_s),
        ):
            groups = await _measure_groups(headend, repeats=plan.group_repeats)
    return _report(plan, version, cases, groups)


async def _measure_singles(plan: SimpleNamespace) -> tuple[str, list[Figures]]:
    """Measure on one headend, alone and then beside the load; return its database's version as well."""
    # Rounded up, for all streams together to make enough samples.
    stream_assets = -(-round(plan.samples_per_s * plan.tick_s) // plan.streams)
    fleet = invented_fleet(plan.agent_assets + plan.streams * stream_assets)
    async with open_headend(fleet) as headend:
        own = fleet.assets[: plan.agent_assets]
        own_path = headend.write_part("own.json", own)
        others_path = headend.write_part("others.json", fleet.assets[plan.agent_assets :])
        wall = WallClock.starting_now()
        agents = headend.open_launcher(shard_size=len(own), tick_s=plan.tick_s, fleet_path=own_path)
        load = headend.open_load(shard_size=stream_assets, pulse_s=plan.tick_s, fleet=others_path)
        async with agents:
            alone = await _measure_case(plan, headend, own, wall)
            async with load as generator:
                await generator.registered()
                # Until each stream has begun.
                await trio.sleep(plan.tick_s)
                with trio.move_on_after(plan.dispatches / plan.per_s + _MARGIN_S) as patience:
                    beside = await _measure_case(plan, headend, own, wall)
                if patience.cancelled_caught:
                    raise BenchmarkError("the dispatches took longer than their rate allows")
                totals = await generator.finish()
    telemetry = {"samples_per_s": totals["samples"] / totals["elapsed_s"], **totals}
    return headend.postgres, [{"load": None, **alone}, {"load": telemetry, **beside}]


class Sent(NamedTuple):
    """One dispatch, on Trio's clock; with `waited` the response was to follow its acknowledgement."""

    dispatch_id: str
    due_s: float
    sent_s: float
    answered_s: float
    waited: bool


async def _measure_case(
    plan: SimpleNamespace, headend: RunningHeadend, assets: Sequence[Asset], wall: WallClock
) -> Figures:
    """Dispatch to the assets in turn, one each 1 / `per_s` seconds, whatever the state of those before.

    Every other one requests its response only once its agent has acknowledged it.
    """
    sent: list[Sent] = []
    rng = random.Random(1)  # noqa: S311  # no secrets here
    began = headend.usage()
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        connect = partial(open_http, headend.http)
        # As many connections as there are requests at once: none waits for the response to another.
        idle = [await stack.enter_async_context(connect()) for _ in range(_CONNECTIONS)]

        async def send(body: Figures, due_s: float, waited: bool) -> None:
            path = f"/dispatch?{_WAIT}" if waited else "/dispatch"
            connection = idle.pop() if idle else await stack.enter_async_context(connect())
            sent_s = trio.current_time()
            dispatch_id = (await connection.ask("POST", path, body))["dispatch_id"]
            sent.append(Sent(dispatch_id, due_s, sent_s, trio.current_time(), waited))
            idle.append(connection)

        start_s = trio.current_time() + _START_DELAY_S
        for position in range(plan.dispatches):
            due_s = start_s + position / plan.per_s
            await trio.sleep_until(due_s)
            asset = assets[position % len(assets)]
            mw = round(rng.uniform(asset.min_mw, asset.max_mw), 3)
            body = {"asset_id": asset.id, "mw": mw, "duration_s": _SINGLE_DURATION_S}
            nursery.start_soon(send, body, due_s, position % 2 == 1)
    shares = headend.usage().since(began).pcts()
    return {"dispatches": await figures_of(sent, headend.program.log, wall=wall), **shares}


async def figures_of(sent: Sequence[Sent], log: Path, *, wall: WallClock) -> dict[str, Any]:
    """Return the spreads from the first byte of a POST on, once the headend has logged all acknowledgements.

    `wall` was set when the agent was started, so that it runs with the agent's. It is an error if a dispatch
    was never acknowledged by its agent, or was applied before it was sent, or after it was acknowledged, by
    more than the clocks may differ.
    """
    applied_ms = await _until_logged(log, {one.dispatch_id for one in sent})
    applied_s: list[float] = []
    answered_s: dict[bool, list[float]] = {False: [], True: []}
    for one in sent:
        answered_s[one.waited].append(one.answered_s - one.sent_s)
        took_s = applied_ms[one.dispatch_id] / 1000 - wall.unix_s(one.sent_s)
        latest_s = one.answered_s - one.sent_s if one.waited else float("inf")
        if not -_CLOCK_SLACK_S <= took_s <= latest_s + _CLOCK_SLACK_S:
            raise BenchmarkError(
                f"dispatch {one.dispatch_id} was applied {1000 * took_s:.1f} ms after it was sent, and "
                f"acknowledged after {1000 * latest_s:.1f} ms: the clocks do not agree"
            )
        applied_s.append(took_s)
    return {
        "answered": spread_ms(answered_s[False]),
        "applied": spread_ms(applied_s),
        "acknowledged": spread_ms(answered_s[True]),
        "sent_late_max_ms": 1000 * max(one.sent_s - one.due_s for one in sent),
    }


async def _until_logged(log: Path, dispatch_ids: set[str]) -> dict[str, int]:
    """Return when each dispatch was applied, Unix time in ms by the agent's clock."""
    missing = dispatch_ids
    with trio.move_on_after(_LOGGED_WITHIN_S):
        while True:
            entries = log_entries(log, '"dispatch answered"')
            applied_ms = {entry["dispatch_id"]: parse_ms(entry["agent_time"]) for entry in entries}
            missing = dispatch_ids - applied_ms.keys()
            if not missing:
                return applied_ms
            await trio.sleep(_POLL_S)
    raise BenchmarkError(
        f"{len(missing)} of {len(dispatch_ids)} dispatches were not acknowledged by their agent within "
        f"{_LOGGED_WITHIN_S:g} s, or were superseded before: one is {min(missing)}"
    )


async def _measure_groups(headend: RunningHeadend, *, repeats: int) -> dict[str, Any]:
    """Dispatch to the whole fleet, `repeats` times without waiting and as often with waiting for all agents.

    One after the other, and none before all agents have acknowledged the one before. It is an error if a
    response does not cover the whole fleet, or something takes too long.
    """
    assets = headend.fleet.assets
    rating_mw = sum(min(asset.max_mw, -asset.min_mw) for asset in assets)
    took_s: dict[bool, list[float]] = {False: [], True: []}
    async with open_http(headend.http) as connection:
        wait_until = partial(connection.ask_until, within_s=_HOLDS_WITHIN_S, every_s=_POLL_S)
        await wait_until("/fleet", lambda fleet: fleet["live_assets"] == len(assets))
        for position in range(2 * repeats):
            waits = position % 2 == 1
            mw = rating_mw * _SHARES[position // 2 % 2]
            body = {"fleet": True, "mw": mw, "duration_s": _GROUP_DURATION_S}
            path = "/dispatch?allocations=false" + f"&{_WAIT}" * waits
            began_s = trio.current_time()
            response = await connection.ask("POST", path, body)
            took_s[waits].append(trio.current_time() - began_s)
            if response["members"] != len(assets):
                raise BenchmarkError(f"{response['members']} of {len(assets)} assets have a share")
            path = f"/dispatch/{response['dispatch_id']}?allocations=false"
            await wait_until(path, lambda one: not one["by_state"].keys() & {"queued", "sent"})
            await trio.sleep(_PAUSE_S)
    return {"answered": spread_ms(took_s[False]), "acknowledged": spread_ms(took_s[True])}


def _report(plan: SimpleNamespace, version: str, cases: Sequence[Figures], groups: Figures | None) -> Report:
    spreads: dict[str, Figures] = {}
    notes: list[str] = []
    for case in cases:
        load = case["load"]
        where = "alone" if load is None else f"beside {load['samples_per_s']:,.0f} samples/s"
        spreads |= {f"{name}, {where}": case["dispatches"][key] for key, name in _SPREADS.items()}
        notes.append(("alone: " if load is None else "beside telemetry: ") + _CPU.format(**case))
        notes += [] if load is None else [_TELEMETRY.format(**load)]
    if groups is not None:
        group = f"group of {plan.group_assets:,}"
        spreads[f"POST answered, {group}"] = groups["answered"]
        spreads[f"POST to acknowledged by all, {group}"] = groups["acknowledged"]
    cells = ("{p50_ms:,.1f}", "{p99_ms:,.1f}", "{max_ms:,.1f}", "{count:,}")
    title = "dispatch: {per_s:g}/s to {agent_assets:,} assets of one agent; groups in {group_agents} agents"
    return Report(
        title=title.format(**vars(plan)),
        postgres=version,
        columns=["ms", "p50", "p99", "max", "of"],
        rows=[[name, *(cell.format(**spread) for cell in cells)] for name, spread in spreads.items()],
        notes=notes,
        figures={"benchmark": "dispatch", "plan": vars(plan), "singles": cases, "groups": groups},
    )
