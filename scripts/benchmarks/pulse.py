"""`scripts/bench pulse`: how late the pulses of one agent process are, with many assets, in real time.

The agent runs in this process, with or without a peer in another that takes its batches.
"""

import gc
import random
import resource
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

import click
import trio

from scripts.benchmarks.command import BenchmarkError, json_option, run_benchmark
from scripts.benchmarks.programs import open_program
from scripts.benchmarks.report import Report
from trioder.agent.config import AgentConfig
from trioder.agent.persistence.sqlite_store import open_state_store
from trioder.agent.pulse import Lateness
from trioder.agent.service import RunningAgent, run_agent
from trioder.domain.assets import Asset
from trioder.process.addresses import Address
from trioder.process.logs import configure_logging
from trioder.process.runtime_limits import freeze_gc
from trioder.process.wall_time import WallClock
from trioder.rpc import connect

_PEER_WITHIN_S = 30.0
_NOBODY = 9  # the port of the discard service
_WORST_TOLD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The agent as it ran, and what it took of the machine."""

    config: AgentConfig
    agent: RunningAgent
    connected: bool
    cpu_share: float
    bytes_per_asset: float
    base_bytes: int
    start_s: float
    cancellation_s: float


@click.command()
@click.option(
    "--assets", type=click.IntRange(min=1), default=100_000, show_default=True, help="In the one process."
)
@click.option(
    "--tick-s",
    type=click.FloatRange(0.1, 60.0),
    default=4.0,
    show_default=True,
    help="Seconds from one pulse to the next.",
)
@click.option(
    "--pulses", type=click.IntRange(1, 10_000), default=15, show_default=True, help="How many to measure."
)
@click.option("--peer/--no-peer", default=True, show_default=True, help="With a peer that takes the batches.")
@json_option
def pulse(*, assets: int, tick_s: float, pulses: int, peer: bool, json_path: Path | None) -> None:
    """Lateness of the pulses of one agent process with many assets."""
    configure_logging(level="warning", format="auto")
    run_benchmark(
        partial(_measure, assets=assets, tick_s=tick_s, pulses=pulses, peer=peer), json_path=json_path
    )


async def _measure(*, assets: int, tick_s: float, pulses: int, peer: bool) -> Report:
    gc.collect()
    base_bytes = _rss_bytes()
    with tempfile.TemporaryDirectory(prefix="trioder-bench-") as name:
        folder = Path(name)
        async with _open_peer(folder, wanted=peer) as port:
            config = AgentConfig(
                agent_id="bench",
                headend=Address("127.0.0.1", port),
                tick_s=tick_s,
                phase=0.0,
                assets=_make_assets(assets),
            )
            return _report(await _run(config, folder, pulses=pulses, base_bytes=base_bytes))


def _make_assets(count: int) -> tuple[Asset, ...]:
    """Return synthetic batteries, each with strings of its own as a fleet file would give them."""
    rng = random.Random(1)  # noqa: S311 - no secrets in here
    return tuple(
        Asset(
            id=str(UUID(int=rng.getrandbits(128), version=4)),
            name=f"Battery {number}",
            site_id=str(UUID(int=rng.getrandbits(128), version=4)),
            site_name=f"Site {number // 10}",
            location=f"County {number // 100}",
            capacity_mwhr=rng.uniform(10.0, 400.0),
            max_mw=100.0,
            min_mw=-100.0,
            charge_efficiency=0.93,
            discharge_efficiency=0.93,
            ramp_rate_mw_per_min=1000.0,
        )
        for number in range(count)
    )


@asynccontextmanager
async def _open_peer(folder: Path, *, wanted: bool) -> AsyncIterator[int]:
    """Yield the port of a peer; of nobody, if none is wanted."""
    if not wanted:
        yield _NOBODY
        return
    async with open_program("scripts.benchmarks.peer", log=folder / "peer.log") as program:
        with trio.move_on_after(_PEER_WITHIN_S) as patience:
            port = int(await program.line())
        if patience.cancelled_caught:
            raise BenchmarkError(f"the peer did not start within {_PEER_WITHIN_S:g} s")
        yield port


async def _run(config: AgentConfig, folder: Path, *, pulses: int, base_bytes: int) -> Measured:
    """Run the agent for so many pulses."""
    async with AsyncExitStack() as stack:
        memory = stack.enter_context(
            open_state_store(
                folder / "agent.sqlite",
                agent_id=config.agent_id,
                asset_ids=[asset.id for asset in config.assets],
                outbox_id=str(UUID(int=1, version=4)),
            )
        )
        nursery = await stack.enter_async_context(trio.open_nursery())
        began_s = time.perf_counter()
        run = partial(
            run_agent,
            config,
            dial=partial(connect, config.headend.host, config.headend.port),
            wall=WallClock.starting_now(),
            rng=random.SystemRandom(),
            report=lambda _report: None,
            store=memory,
            on_ready=freeze_gc,
        )
        agent: RunningAgent = await nursery.start(run)
        start_s = time.perf_counter() - began_s
        standing_bytes = _rss_bytes()
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        await trio.sleep_until(agent.pool.grid.due_s + (pulses - 0.1) * config.tick_s)
        cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
        connected = agent.client.connected
        ended_s = time.perf_counter()
        nursery.cancel_scope.cancel()
    return Measured(
        config=config,
        agent=agent,
        connected=connected,
        cpu_share=cpu_share,
        bytes_per_asset=(standing_bytes - base_bytes) / len(config.assets),
        base_bytes=base_bytes,
        start_s=start_s,
        cancellation_s=time.perf_counter() - ended_s,
    )


def _rss_bytes() -> int:
    """Return this process's resident memory (Linux; elsewhere its peak)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _report(measured: Measured) -> Report:
    config, agent = measured.config, measured.agent
    grid, frames = agent.pool.grid, agent.pool.frame_lateness
    peer = "a peer connected" if measured.connected else "no headend"
    outbox = agent.outbox
    return Report(
        title=f"pulse: {len(config.assets):,} assets, {config.tick_s:g} s a pulse, "
        f"{grid.lateness.count} pulses, {peer}",
        columns=["lateness, ms", "p50", "p99", "max"],
        rows=[
            ["pulse: the clock strikes", *_cells(grid.lateness)],
            ["frame: the last asset's row is in the batch", *_cells(frames)],
        ],
        notes=[
            f"latest pulses: {_worst(grid.lateness)}",
            f"pulses skipped {grid.skipped}, rows missed {agent.pool.rows_missed}",
            f"CPU {100 * measured.cpu_share:.0f} % of one core",
            f"memory an asset {measured.bytes_per_asset:.0f} bytes, beyond {measured.base_bytes >> 20} MiB",
            f"start {measured.start_s:.1f} s, cancellation {measured.cancellation_s:.1f} s",
            f"outbox {outbox.batches} batches, {outbox.size_bytes >> 20} MiB",
        ],
        figures={
            "benchmark": "pulse",
            "assets": len(config.assets),
            "tick_s": config.tick_s,
            "pulses": grid.lateness.count,
            "connected": measured.connected,
            "pulse_lateness_ms": _quantiles_ms(grid.lateness),
            "frame_lateness_ms": _quantiles_ms(frames),
            "pulses_skipped": grid.skipped,
            "rows_missed": agent.pool.rows_missed,
            "cpu_pct": 100 * measured.cpu_share,
            "bytes_per_asset": measured.bytes_per_asset,
            "start_s": measured.start_s,
        },
    )


def _quantiles_ms(lateness: Lateness) -> dict[str, float]:
    return {
        "p50": 1000 * lateness.quantile_s(0.5),
        "p99": 1000 * lateness.quantile_s(0.99),
        "max": 1000 * lateness.max_s,
    }


def _cells(lateness: Lateness) -> list[str]:
    return [f"{late_ms:.1f}" for late_ms in _quantiles_ms(lateness).values()]


def _worst(lateness: Lateness) -> str:
    """Return the latest pulses with their numbers, which tell a slow start from a slow run."""
    ranked = sorted(((late_s, number) for number, late_s in enumerate(lateness.recent, 1)), reverse=True)
    return ", ".join(f"no. {number}: {1000 * late_s:.1f} ms" for late_s, number in ranked[:_WORST_TOLD])
