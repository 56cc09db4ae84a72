"""`scripts/bench storm`: thousands of agents lose their headend at once; how soon all have reconnected.

A real headend with its embedded server, killed and started again, and one process that is all agents.
Meanwhile dispatches are posted, as an operator would who does not wait.
"""

import random
import time
from contextlib import AsyncExitStack
from itertools import repeat, takewhile

import click
import trio

from scripts.benchmarks.benchmark import Report, benchmark, number, spread_rows
from scripts.benchmarks.dispatch import Sent, post_dispatches
from scripts.benchmarks.http_client import open_http
from scripts.benchmarks.processes import RunningHeadend, invented_fleet, open_headend

# Each response reads every asset; more often would be a load of its own.
_POLL_S = 0.5


@benchmark(
    number("--streams", 1, 20_000, 5000, "Agents."),
    number("--shard-size", 1, 10_000, 25, "Assets per agent."),
    number("--pulse-s", 0.1, 60.0, 4.0, "Seconds from one sample of an asset to the next."),
    number("--seconds", 0.1, 600.0, 12.0, "How long all are connected before, and again after."),
    number("--dispatches-per-s", 0.1, 100.0, 5.0, "POSTs from the second headend's ready to all fresh."),
    click.Option(["--tls"], is_flag=True, help="Agents connect over TLS, each with its own certificate."),
)
async def storm(
    *, streams: int, shard_size: int, pulse_s: float, seconds: float, dispatches_per_s: float, tls: bool
) -> Report:
    """Time until all agents have reconnected after the headend was killed."""
    fleet = invented_fleet(streams * shard_size)
    targets = random.Random(1).sample(fleet.assets, len(fleet.assets))  # noqa: S311  # no secrets here
    sent: list[Sent] = []
    all_fresh = trio.Event()

    async def post(headend: RunningHeadend) -> None:
        # Without waiting for acknowledgements.
        waits = takewhile(lambda _: not all_fresh.is_set(), repeat(False))
        sent.extend(await post_dispatches(headend.http, targets, waits, per_s=dispatches_per_s))

    async with AsyncExitStack() as stack:
        tls_shard_size = shard_size if tls else None
        first = await stack.enter_async_context(open_headend(fleet, tls_shard_size=tls_shard_size))
        load = await stack.enter_async_context(first.open_load(shard_size=shard_size, pulse_s=pulse_s))
        before = await load.registered()
        await _until_fresh(first)
        await trio.sleep(seconds)
        first.program.process.kill()
        killed_s = time.monotonic()
        headend = await stack.enter_async_context(open_headend(fleet, after=first))
        began = headend.usage(load.program)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post, headend)
            registered = await load.registered(after_s=headend.ready_s)
            shares = headend.usage(load.program).since(began).rows("the generator")
            fresh_s = await _until_fresh(headend)
            used = headend.usage(load.program)
            peak_mib = headend.program.peak_rss_mib()
            all_fresh.set()
        await trio.sleep(seconds)
        totals = await load.finish(one_session=False)
        counted = await headend.count_rows(samples=totals["samples"])
    ready_s = headend.ready_s
    rows = {
        "first headend's ready to all registered, s": before["all_at_s"] - first.ready_s,
        "kill to the second headend's ready, s": ready_s - killed_s,
        "start to ready, s": ready_s - headend.started_s,
        "ready to half of the agents registered, s": registered["half_at_s"] - ready_s,
        "ready to 99 % of the agents registered, s": registered["p99_at_s"] - ready_s,
        "ready to all registered, s": registered["all_at_s"] - ready_s,
        "ready to every asset fresh in /fleet, s": fresh_s - ready_s,
        "kill to every asset fresh in /fleet, s": fresh_s - killed_s,
        **spread_rows("POST /dispatch meanwhile", (one.answered_s - one.due_s for one in sent)),
        "CPU of the headend from start to all fresh, s": used.server_s,
        "CPU of the generator from ready to all fresh, s": used.since(began).agents_s,
        **{f"ready to all registered: {name}": share for name, share in shares.items()},
        "peak memory of the headend, MiB": peak_mib,
        "connections lost or attempts failed": registered["attempts_failed"] - before["attempts_failed"],
        **totals["rows"],
        **counted,
    }
    title = (
        f"storm: {streams:,} agents, {len(fleet.assets):,} assets, {pulse_s:g} s a pulse, a killed headend"
    )
    return Report(title=title, cases={"over TLS" if tls else "plain": rows})


async def _until_fresh(headend: RunningHeadend) -> float:
    """Return when the request was sent whose response was that every asset is fresh."""
    assets = len(headend.fleet.assets)
    async with open_http(headend.http) as connection:
        return await connection.ask_until(
            "/fleet", lambda fleet: fleet["by_quality"]["good"] == assets, within_s=120.0, every_s=_POLL_S
        )
