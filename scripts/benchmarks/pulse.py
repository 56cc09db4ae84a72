"""`scripts/bench pulse`: how late the pulses of one agent process are, with many assets, in real time.

The agent runs in this process, and a peer that acknowledges its batches in another.
"""

import random
import tempfile
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from uuid import UUID

import trio

from scripts.benchmarks.benchmark import BenchmarkError, Report, benchmark, number, spread_rows
from scripts.benchmarks.processes import invented_fleet, open_program
from trioder.agent.config import AgentConfig
from trioder.agent.persistence.sqlite_store import open_state_store
from trioder.agent.service import RunningAgent, run_agent
from trioder.process.addresses import Endpoint
from trioder.process.logs import configure_logging
from trioder.process.nurseries import open_background_nursery
from trioder.process.runtime_limits import freeze_gc
from trioder.process.wall_time import WallClock
from trioder.rpc import connect


@benchmark(
    number("--assets", 1, None, 100_000, "In the one process."),
    number("--tick-s", 0.1, 60.0, 4.0, "Seconds from one pulse to the next."),
    number("--pulses", 1, 10_000, 15, "How many to measure."),
)
async def pulse(*, assets: int, tick_s: float, pulses: int) -> Report:
    """Lateness of the pulses of one agent process with many assets."""
    configure_logging(level="warning", format="auto")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trioder-bench-")))
        peer = open_program("scripts.benchmarks.stub_servers", "peer", log=folder / "peer.log")
        headend = Endpoint(*await (await stack.enter_async_context(peer)).address())
        own = tuple(invented_fleet(assets).assets)
        config = AgentConfig(agent_id="bench", headend=headend, tick_s=tick_s, phase=0.0, assets=own)
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
            agent: RunningAgent = await nursery.start(run)
            cpu_s, started_s = time.process_time(), time.perf_counter()
            await trio.sleep_until(agent.pool.grid.due_s + (pulses - 0.1) * tick_s)
            cpu_share = (time.process_time() - cpu_s) / (time.perf_counter() - started_s)
            connected = agent.client.connected
    lateness = agent.pool.grid.lateness
    if not connected:
        raise BenchmarkError("the agent was not connected to its peer at the end")
    rows = {
        **spread_rows("pulse due to: the clock wakes the assets", lateness.recent),
        **spread_rows("pulse due to: the last asset's row is in the batch", agent.pool.frame_lateness.recent),
        "pulses skipped": agent.pool.grid.skipped,
        "rows missed": agent.pool.rows_missed,
        "CPU, % of a core": 100 * cpu_share,
    }
    title = f"pulse: {assets:,} assets, {tick_s:g} s a pulse, {lateness.count} pulses, a peer connected"
    return Report(title=title, cases={"one process": rows})
