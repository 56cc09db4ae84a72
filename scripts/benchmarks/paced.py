"""`python -m scripts.benchmarks.paced`: one process that is many agents, each with its own pulse.

Link, outbox and back-off are the agents' own; there are no batteries, and each pulse is the same message with
another number and time. What happens is told on standard output, one JSON object a line; once standard input
ends, what is left is sent, and the totals are told.
"""

import gc
import json
import os
import random
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from uuid import uuid4

import click
import trio

from scripts.benchmarks.load import batch_of
from trioder.agent.headend_client import HeadendClient, Identity, LinkReport
from trioder.agent.persistence.outbox import Outbox
from trioder.agent.persistence.state_store import InMemoryStateStore
from trioder.agent.pulse import PulseGrid
from trioder.agent.send_queue import SendQueue
from trioder.domain.assets import Asset
from trioder.domain.fleet import shard_fleet
from trioder.fleet import load_fleet
from trioder.process.addresses import Address, AddressType
from trioder.process.logs import configure_logging
from trioder.process.runtime_limits import raise_descriptor_limit
from trioder.process.wall_time import WallClock
from trioder.rpc import connect
from trioder.wire.service import PROTOCOL
from trioder.wire.uplink import write_batch, write_registration

_OUTBOX_BYTES = 256 * 1024 * 1024
_SETTLED_WITHIN_S = 90.0
_CLOSED_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.05
_COLLECT_SELDOM = (200_000, 20, 20)


class Census:
    """Which streams are registered; says so when all are.

    Attributes:
        attempts_failed: connections that were lost or never came about, so far.
    """

    def __init__(self, streams: int) -> None:
        self.attempts_failed = 0
        self._streams = streams
        self._registered_s: dict[int, float] = {}

    def note(self, number: int, report: LinkReport) -> None:
        """Take a link's report."""
        if report.state != "connected":
            self.attempts_failed += 1
            self._registered_s.pop(number, None)
            return
        self._registered_s[number] = time.monotonic()
        if len(self._registered_s) == self._streams:
            in_order = sorted(self._registered_s.values())
            say(
                state="registered",
                half_at_s=in_order[len(in_order) // 2],
                p99_at_s=in_order[len(in_order) * 99 // 100],
                all_at_s=in_order[-1],
                attempts_failed=self.attempts_failed,
            )


class PacedAgent:
    """One agent's outbox and link.

    Args:
        number: counts the agents from 1.
        assets: its shard.
        headend: where it connects.
        census: told of its link.
        wall: shown to the headend.
    """

    def __init__(
        self, number: int, assets: Sequence[Asset], headend: Address, census: Census, wall: WallClock
    ) -> None:
        self.assets = len(assets)
        store = InMemoryStateStore(str(uuid4()), [asset.id for asset in assets])
        self.outbox = Outbox(store.batches, max_bytes=_OUTBOX_BYTES)
        self._queue = SendQueue(self.outbox)
        self._message = write_batch(batch_of(assets))
        self._newest_ms = 0
        agent_id = f"bench-{number}"
        registration = write_registration(
            agent_id=agent_id, epoch=1, protocol=PROTOCOL, outbox_id=store.outbox_id, assets=assets
        )
        self.link = HeadendClient(
            Identity(agent_id=agent_id, assets=len(assets), headend=str(headend), registration=registration),
            dial=partial(connect, headend.host, headend.port),
            outbox=self.outbox,
            queue=self._queue,
            deliver=_pass_over,
            report=partial(census.note, number),
            store=store,
            wall=wall,
            rng=random.Random(number),  # noqa: S311 - jitter, not secrets
        )

    @property
    def batches_made(self) -> int:
        """How many pulses there were."""
        return self.outbox.next_append_seq - 1

    async def pulse(self, grid: PulseGrid) -> None:
        """Put a batch into the outbox at each instant of the grid, until cancelled."""
        batch = self._message.telemetry_batch
        while True:
            await trio.sleep_until(grid.due_s)
            grid.strike(trio.current_time())
            # No two samples of an asset have the same time.
            self._newest_ms = max(self._newest_ms + 1, time.time_ns() // 1_000_000)
            batch.batch_seq, batch.ts_unix_ms = self.outbox.next_append_seq, self._newest_ms
            self.outbox.append(self._message.SerializeToString())
            self._queue.wakeup.wake()


@click.command()
@click.option("--headend", type=AddressType(), required=True)
@click.option("--fleet", "fleet_path", type=click.Path(path_type=Path), required=True)
@click.option("--shard-size", type=int, required=True)
@click.option("--pulse-s", type=float, required=True)
def main(*, headend: Address, fleet_path: Path, shard_size: int, pulse_s: float) -> None:
    """Be the agents of the fleet, one a shard, until standard input ends."""
    # A link tells of every attempt in vain.
    configure_logging(level="error", format="console")
    raise_descriptor_limit()
    shards = shard_fleet(load_fleet(fleet_path), shard_size)
    census = Census(len(shards))
    wall = WallClock(0.0, 0.0)
    agents = [PacedAgent(number, assets, headend, census, wall) for number, assets in enumerate(shards, 1)]
    gc.collect()
    gc.freeze()
    # Thousands of links are a million objects, and looking through them is no agent's work: each has its own.
    gc.set_threshold(*_COLLECT_SELDOM)
    trio.run(_run, agents, pulse_s, wall)


async def _run(agents: Sequence[PacedAgent], pulse_s: float, wall: WallClock) -> None:
    now_s = trio.current_time()
    wall.adjust(time.time() - now_s)
    # Phases are spread evenly, as the launcher does it.
    grids = [
        PulseGrid(first_s=now_s + pulse_s * position / len(agents), tick_s=pulse_s)
        for position in range(len(agents))
    ]
    async with trio.open_nursery() as links:
        for agent in agents:
            links.start_soon(agent.link.run)
        async with trio.open_nursery() as pulses:
            for agent, grid in zip(agents, grids, strict=True):
                pulses.start_soon(agent.pulse, grid)
            await _input_end()
            pulses.cancel_scope.cancel()
        with trio.fail_after(_SETTLED_WITHIN_S):
            while not all(agent.outbox.is_settled() for agent in agents):  # noqa: ASYNC110  # 5,000 of them
                await trio.sleep(_LOOK_EVERY_S)
        say(state="settled", **_totals(agents, grids))
        for agent in agents:
            agent.link.finish()
        links.cancel_scope.deadline = trio.current_time() + _CLOSED_WITHIN_S


async def _input_end() -> None:
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        while await stdin.receive_some():
            pass


def _totals(agents: Sequence[PacedAgent], grids: Sequence[PulseGrid]) -> dict[str, float]:
    late_s = sorted(late_s for grid in grids for late_s in grid.lateness.recent)
    return {
        "batches": sum(agent.batches_made for agent in agents),
        "samples": sum(agent.batches_made * agent.assets for agent in agents),
        "batches_dropped": sum(agent.outbox.dropped for agent in agents),
        "pulses_skipped": sum(grid.skipped for grid in grids),
        "late_p99_s": late_s[len(late_s) * 99 // 100] if late_s else 0.0,
    }


def _pass_over(_dispatches: object) -> None:
    """There is nothing here that could obey."""


def say(**words: object) -> None:
    """Write one line."""
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main()
