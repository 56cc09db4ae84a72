"""`scripts/bench pulse`: how late the pulses of one agent process are, with many assets, in real time.

The agent runs in this process, with or without a peer in another that acknowledges its batches.
"""

import gc
import os
import random
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import trio

from scripts.benchmarks.command import json_option, number, run_benchmark
from scripts.benchmarks.headend import temporary_folder
from scripts.benchmarks.programs import open_program, rss_bytes
from scripts.benchmarks.report import Report
from trioder.agent.config import AgentConfig
from trioder.agent.persistence.sqlite_store import open_state_store
from trioder.agent.pulse import Lateness
from trioder.agent.service import RunningAgent, run_agent
from trioder.domain.assets import Asset
from trioder.process.addresses import Endpoint
from trioder.process.logs import configure_logging
from trioder.process.runtime_limits import freeze_gc
from trioder.process.wall_time import WallClock
from trioder.rpc import connect

_NOBODY = 9  # the port of the discard service
_WORST_SHOWN = 5


@click.command()
@number("--assets", 1, None, 100_000, "In the one process.")
@number("--tick-s", 0.1, 60.0, 4.0, "Seconds from one pulse to the next.")
@number("--pulses", 1, 10_000, 15, "How many to measure.")
@click.option("--peer/--no-peer", default=True, show_default=True, help="With a peer that takes the batches.")
@json_option
def pulse(json_path: Path | None, **options: Any) -> None:
    """Lateness of the pulses of one agent process with many assets."""
    configure_logging(level="warning", format="auto")
    run_benchmark(partial(_measure, **options), json_path=json_path)


async def _measure(*, assets: int, tick_s: float, pulses: int, peer: bool) -> Report:
    gc.collect()
    base_bytes = rss_bytes(os.getpid())
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        port = _NOBODY
        if peer:
            stub = open_program("scripts.benchmarks.stub_servers", "peer", log=folder / "peer.log")
            port = int(await (await stack.enter_async_context(stub)).line())
        config = AgentConfig(
            agent_id="bench",
            headend=Endpoint("127.0.0.1", port),
            tick_s=tick_s,
            phase=0.0,
            assets=_make_assets(assets),
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
            dial=partial(connect, config.headend.host, config.headend.port),
            wall=WallClock.starting_now(),
            rng=random.SystemRandom(),
            report=lambda _report: None,
            store=stack.enter_context(store),
            on_ready=freeze_gc,
        )
        async with trio.open_nursery() as nursery:
            began_s = time.perf_counter()
            agent: RunningAgent = await nursery.start(run)
            cpu_s, started_s = time.process_time(), time.perf_counter()
            bytes_per_asset = (rss_bytes(os.getpid()) - base_bytes) / assets
            await trio.sleep_until(agent.pool.grid.due_s + (pulses - 0.1) * tick_s)
            cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - started_s)
            connected = agent.client.connected
            ended_s = time.perf_counter()
            nursery.cancel_scope.cancel()
        cancellation_s = time.perf_counter() - ended_s
    figures = {
        "benchmark": "pulse",
        "assets": assets,
        "tick_s": tick_s,
        "pulses": agent.pool.grid.lateness.count,
        "connected": connected,
        "pulse_lateness_ms": _quantiles_ms(agent.pool.grid.lateness),
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
    return _report(figures, agent.pool.grid.lateness, base_mib=base_bytes >> 20)


def _make_assets(count: int) -> tuple[Asset, ...]:
    """Return synthetic batteries, each with strings of its own as in an agent that has read its shard."""
    rng = random.Random(1)  # noqa: S311 - no secrets in here
    return tuple(
        Asset(
            id=str(UUID(int=rng.getrandbits(128), version=4)),
            name=f"Battery {position}",
            site_id=str(UUID(int=rng.getrandbits(128), version=4)),
            site_name=f"Site {position // 10}",
            location=f"County {position // 100}",
            capacity_mwhr=rng.uniform(10.0, 400.0),
            max_mw=100.0,
            min_mw=-100.0,
            charge_efficiency=0.93,
            discharge_efficiency=0.93,
            ramp_rate_mw_per_min=1000.0,
        )
        for position in range(count)
    )


def _report(figures: dict[str, Any], lateness: Lateness, *, base_mib: int) -> Report:
    # The numbers of the latest distinguish a slow start from a slow run.
    latest = sorted(((late_s, no) for no, late_s in enumerate(lateness.recent, 1)), reverse=True)[
        :_WORST_SHOWN
    ]
    peer = "a peer connected" if figures["connected"] else "no headend"
    rows = {
        "pulse: the clock wakes the assets": "pulse_lateness_ms",
        "frame: the last asset's row is in the batch": "frame_lateness_ms",
    }
    notes = (
        "pulses skipped {pulses_skipped}, rows missed {rows_missed}",
        "CPU {cpu_pct:.0f} % of one core",
        f"memory per asset {{bytes_per_asset:.0f}} bytes, beyond {base_mib} MiB",
        "start {start_s:.1f} s, cancellation {cancellation_s:.1f} s",
        "outbox {outbox_batches} batches, {outbox_mib} MiB",
    )
    return Report(
        title="pulse: {assets:,} assets, {tick_s:g} s a pulse, {pulses} pulses, ".format(**figures) + peer,
        columns=["lateness, ms", "p50", "p99", "max"],
        rows=[[name, *(f"{late_ms:.1f}" for late_ms in figures[key].values())] for name, key in rows.items()],
        notes=[
            "latest pulses: " + ", ".join(f"no. {no}: {1000 * late_s:.1f} ms" for late_s, no in latest),
            *(note.format(**figures) for note in notes),
        ],
        figures=figures,
    )


def _quantiles_ms(lateness: Lateness) -> dict[str, float]:
    late_s = {"p50": lateness.quantile_s(0.5), "p99": lateness.quantile_s(0.99), "max": lateness.max_s}
    return {name: 1000 * value_s for name, value_s in late_s.items()}
