"""`scripts/bench pulse`: how late the pulses of one agent process are, with many assets, in real time.

The agent runs in this process, with or without a peer in another that acknowledges its batches.
"""

import gc
import random
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import psutil
import trio

from scripts.benchmarks.benchmark import Report, benchmark, number
from scripts.benchmarks.processes import invented_fleet, open_program, temporary_folder
from trioder.agent.config import AgentConfig
from trioder.agent.persistence.sqlite_store import open_state_store
from trioder.agent.pulse import Lateness
from trioder.agent.service import RunningAgent, run_agent
from trioder.process.addresses import Endpoint
from trioder.process.logs import configure_logging
from trioder.process.nurseries import open_background_nursery
from trioder.process.runtime_limits import freeze_gc
from trioder.process.wall_time import WallClock
from trioder.rpc import connect

_NOBODY = Endpoint("127.0.0.1", 9)  # the port of the discard service
_WORST_SHOWN = 5
_NOTES = (
    "pulses skipped {pulses_skipped}, rows missed {rows_missed}",
    "CPU {cpu_pct:.0f} % of one core",
    "memory per asset {bytes_per_asset:.0f} bytes, beyond {base_mib} MiB",
    "start {start_s:.1f} s, cancellation {cancellation_s:.1f} s",
    "outbox {outbox_batches} batches, {outbox_mib} MiB",
)


@benchmark(
    number("--assets", 1, None, 100_000, "In the one process."),
    number("--tick-s", 0.1, 60.0, 4.0, "Seconds from one pulse to the next."),
    number("--pulses", 1, 10_000, 15, "How many to measure."),
    click.Option(["--peer/--no-peer"], default=True, show_default=True, help="A peer takes the batches."),
)
async def pulse(*, assets: int, tick_s: float, pulses: int, peer: bool) -> Report:
    """Lateness of the pulses of one agent process with many assets."""
    configure_logging(level="warning", format="auto")
    own = psutil.Process()
    gc.collect()
    base_bytes = own.memory_info().rss
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(temporary_folder()))
        headend = _NOBODY
        if peer:
            stub = open_program("scripts.benchmarks.stub_servers", "peer", log=folder / "peer.log")
            program = await stack.enter_async_context(stub)
            headend = Endpoint(*await program.address())
        config = AgentConfig(
            agent_id="bench",
            headend=headend,
            tick_s=tick_s,
            phase=0.0,
            assets=tuple(invented_fleet(assets).assets),
        )
        store = open_state_store(
            folder / "agent.sqlite",
            agent_id=config.agent_id,
            asset_ids=[asset.id for asset in config.assets],
            outbox_id=str(UUID(int=1, version=4)),
        )
        run = partial(
            run_agent,
            config,
            dial=partial(connect, headend.host, headend.port),
            wall=WallClock.starting_now(),
            rng=random.SystemRandom(),
            report=lambda _report: None,
            store=stack.enter_context(store),
            on_ready=freeze_gc,
        )
        async with open_background_nursery() as nursery:
            began_s = time.perf_counter()
            agent: RunningAgent = await nursery.start(run)
            cpu_s, started_s = time.process_time(), time.perf_counter()
            bytes_per_asset = (own.memory_info().rss - base_bytes) / assets
            await trio.sleep_until(agent.pool.grid.due_s + (pulses - 0.1) * tick_s)
            cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - started_s)
            connected = agent.client.connected
            ended_s = time.perf_counter()
        cancellation_s = time.perf_counter() - ended_s
    lateness = agent.pool.grid.lateness
    figures: dict[str, Any] = {
        "benchmark": "pulse",
        "assets": assets,
        "tick_s": tick_s,
        "pulses": lateness.count,
        "connected": connected,
        "pulse_lateness_ms": _quantiles_ms(lateness),
        "frame_lateness_ms": _quantiles_ms(agent.pool.frame_lateness),
        "pulses_skipped": agent.pool.grid.skipped,
        "rows_missed": agent.pool.rows_missed,
        "cpu_pct": 100 * cpu_share,
        "bytes_per_asset": bytes_per_asset,
        "start_s": started_s - began_s,
        "cancellation_s": cancellation_s,
        "outbox_batches": agent.outbox.batches,
        "outbox_mib": agent.outbox.size_bytes >> 20,
    }
    # The numbers of the latest distinguish a slow start from a slow run.
    numbered = [(1000 * late_s, no) for no, late_s in enumerate(lateness.recent, 1)]
    latest = [f"no. {no}: {late_ms:.1f} ms" for late_ms, no in sorted(numbered, reverse=True)[:_WORST_SHOWN]]
    rows = {
        "pulse: the clock wakes the assets": figures["pulse_lateness_ms"],
        "frame: the last asset's row is in the batch": figures["frame_lateness_ms"],
    }
    title = "pulse: {assets:,} assets, {tick_s:g} s a pulse, {pulses} pulses, ".format(**figures)
    notes = [note.format(**figures, base_mib=base_bytes >> 20) for note in _NOTES]
    return Report(
        title=title + ("a peer connected" if connected else "no headend"),
        columns=["lateness, ms", "p50", "p99", "max"],
        rows=[[name, *(f"{late_ms:.1f}" for late_ms in late.values())] for name, late in rows.items()],
        notes=["latest pulses: " + ", ".join(latest), *notes],
        figures=figures,
    )


def _quantiles_ms(lateness: Lateness) -> dict[str, float]:
    late_s = {"p50": lateness.quantile_s(0.5), "p99": lateness.quantile_s(0.99), "max": lateness.max_s}
    return {name: 1000 * value_s for name, value_s in late_s.items()}
