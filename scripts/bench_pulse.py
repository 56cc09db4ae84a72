#!/usr/bin/env python
"""How late the pulses of one agent process are, with many assets: the real agent code, in real time.

The agent runs in this process, with or without a headend-like peer in another that takes its batches.
"""

import gc
import multiprocessing
import os
import platform
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from uuid import UUID

import click
import trio

from trioder.agent.config import AgentConfig
from trioder.agent.disk import open_memory
from trioder.agent.pulse import Lateness
from trioder.agent.service import RunningAgent, run_agent
from trioder.process.addresses import Address
from trioder.process.logs import configure_logging
from trioder.process.wall_time import WallClock
from trioder.rpc import ConnectionOptions, ServerCall, Services, connect, serve_rpc
from trioder.sim.model import Asset
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import write_grant, write_kept
from trioder.wire.records import SessionGrant
from trioder.wire.service import AGENT_LINK_STREAM

MEBIBYTE = 1024 * 1024


def make_assets(count: int) -> tuple[Asset, ...]:
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


async def serve_peer(call: ServerCall[pb.AgentToHeadend, pb.HeadendToAgent]) -> None:
    """Take an agent's batches and acknowledge each."""
    await call.receive()
    await call.send(write_grant(SessionGrant(session_id="bench", committed_batch_seq=0, protocol=1)))
    async for message in call:
        batch = message.telemetry_batch
        if batch.batch_seq and not batch.live_only:
            await call.send(write_kept(batch.batch_seq))


def run_peer(port: "multiprocessing.Queue[int]") -> None:
    """The peer's process."""

    async def _serve() -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port.put(listeners[0].socket.getsockname()[1])
        options = ConnectionOptions(max_message_bytes=32 * MEBIBYTE)
        await serve_rpc(
            listeners, Services({AGENT_LINK_STREAM: serve_peer}), options=options, drain=trio.Event()
        )

    with suppress(KeyboardInterrupt):
        trio.run(_serve)


@contextmanager
def open_peer(*, wanted: bool) -> Iterator[int]:
    """Yield the port of a peer; of nobody, if none is wanted."""
    if not wanted:
        yield 9
        return
    context = multiprocessing.get_context("spawn")
    ports: multiprocessing.Queue[int] = context.Queue()
    process = context.Process(target=run_peer, args=(ports,), daemon=True)
    process.start()
    try:
        yield ports.get(timeout=30)
    finally:
        process.terminate()
        process.join()


def rss_bytes() -> int:
    """Return this process's resident memory (Linux; elsewhere its peak)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def freeze() -> None:
    """What an agent does before its first pulse."""
    gc.collect()
    gc.freeze()


def row(name: str, lateness: Lateness) -> None:
    """Print one line of the table."""
    quantiles = [lateness.quantile_s(share) for share in (0.5, 0.99)]
    print(f"| {name:<42} |" + "".join(f" {1000 * late:>9.1f} |" for late in (*quantiles, lateness.max_s)))


def worst(lateness: Lateness, count: int) -> str:
    """Return the latest pulses with their numbers, which tell a slow start from a slow run."""
    ranked = sorted(((late_s, number) for number, late_s in enumerate(lateness.recent, 1)), reverse=True)
    return ", ".join(f"no. {number}: {1000 * late_s:.1f} ms" for late_s, number in ranked[:count])


async def measure(config: AgentConfig, *, pulses: int, base_bytes: int) -> None:
    """Run the agent for so many pulses and print the table."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trioder-bench-")))
        memory = stack.enter_context(
            open_memory(
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
            memory=memory,
            settle=freeze,
        )
        agent: RunningAgent = await nursery.start(run)
        started_in_s = time.perf_counter() - began_s
        standing_bytes = rss_bytes()
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        await trio.sleep_until(agent.plant.grid.due_s + (pulses - 0.1) * config.tick_s)
        cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
        connected = agent.link.connected
        ended_s = time.perf_counter()
        nursery.cancel_scope.cancel()
    assets = len(config.assets)
    print(f"{assets} assets, {config.tick_s:g} s a pulse, {agent.plant.grid.lateness.count} pulses, ", end="")
    print("headend-like peer connected" if connected else "no headend")
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
    print(f"| {'lateness, ms':<42} | {'p50':>9} | {'p99':>9} | {'max':>9} |")
    print(f"| {'-' * 42} | {'-' * 9} | {'-' * 9} | {'-' * 9} |")
    row("pulse: the clock strikes", agent.plant.grid.lateness)
    row("frame: the last asset's row is in the batch", agent.plant.frame_lateness)
    print(f"\nlatest pulses: {worst(agent.plant.grid.lateness, 5)}")
    print(f"pulses skipped {agent.plant.grid.skipped}, rows missed {agent.plant.rows_missed}")
    print(f"CPU {100 * cpu_share:.0f} % of one core")
    print(
        f"memory an asset {(standing_bytes - base_bytes) / assets:.0f} bytes, beyond {base_bytes >> 20} MiB"
    )
    print(f"start {started_in_s:.1f} s, cancellation {time.perf_counter() - ended_s:.1f} s")
    print(f"outbox {agent.outbox.batches} batches, {agent.outbox.size_bytes >> 20} MiB")


@click.command()
@click.option("--assets", default=100_000, show_default=True, help="How many, in the one process.")
@click.option("--tick-s", default=4.0, show_default=True, help="Seconds from one pulse to the next.")
@click.option("--pulses", default=15, show_default=True, help="How many to measure.")
@click.option("--peer/--no-peer", default=True, show_default=True, help="With a peer that takes the batches.")
def main(*, assets: int, tick_s: float, pulses: int, peer: bool) -> None:
    """Measure one agent process."""
    configure_logging(level="warning", format="auto")
    gc.collect()
    base_bytes = rss_bytes()
    with open_peer(wanted=peer) as port:
        config = AgentConfig(
            agent_id="bench",
            headend=Address("127.0.0.1", port),
            tick_s=tick_s,
            phase=0.0,
            assets=make_assets(assets),
        )
        trio.run(partial(measure, config, pulses=pulses, base_bytes=base_bytes))


if __name__ == "__main__":
    main()
