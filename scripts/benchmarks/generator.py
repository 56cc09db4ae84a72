"""`python -m scripts.benchmarks.generator`: one process that is many agents, one per shard of a fleet.

Link, outbox and back-off are the agents' own, but there are no batteries: each message is made once, and only
its number and time change. With `--pulse-s` each agent sends a batch per pulse from the start, at a phase of
its own; without it all send as fast as they are acknowledged, once all are registered. Each time all are
registered, and once standard input has ended and everything is acknowledged, a JSON line is written.
"""

import gc
import json
import os
import random
import time
from array import array
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import psycopg
import trio

from scripts.benchmarks.report import quantile
from trioder.agent.headend_client import HeadendClient, Identity, LinkReport
from trioder.agent.persistence.outbox import WINDOW_BATCHES, Outbox, Outgoing
from trioder.agent.persistence.state_store import InMemoryBatchLog, InMemoryStateStore
from trioder.agent.pulse import PulseGrid
from trioder.agent.send_queue import SendQueue
from trioder.domain.assets import Asset
from trioder.domain.fleet import shard_fleet
from trioder.fleet import load_fleet
from trioder.process.addresses import Address, AddressType
from trioder.process.logs import configure_logging
from trioder.process.rfc3339 import format_ms
from trioder.process.runtime_limits import raise_descriptor_limit
from trioder.process.wall_time import WallClock
from trioder.rpc import connect
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.records import Batch
from trioder.wire.service import PROTOCOL
from trioder.wire.uplink import write_batch, write_registration

_OUTBOX_BYTES = 256 * 1024 * 1024
_REGISTERED_WITHIN_S = 180.0
_SETTLED_WITHIN_S = 90.0
_CLOSED_WITHIN_S = 10.0
_POLL_S = 0.05
# Thousands of links are a million objects; a real agent's process has one link.
_GC_THRESHOLDS = (200_000, 20, 20)

# Nobody acknowledges single samples, and a headend drops what it cannot keep. This is less than half of what
# it keeps of this kind: the database may have that many before the headend knows, and as many again may come
# meanwhile. With 40,000 neither server nor generator is busy all the time.
_MAX_UNCOMMITTED = 140_000
_COMMITTED_POLL_S = 0.005
# The headend counts samples without an outbox in a watermark of its own, in the transaction that stores them.
_COMMITTED = "SELECT coalesce(sum(batch_seq), 0) FROM ingest_watermarks"


class _TimedOutbox(Outbox):
    """An agent's outbox in memory that measures its batches, on `time.perf_counter`'s clock.

    Attributes:
        acknowledged_seq: of the last batch that the headend has committed.
        replays: how often the headend has requested batches again.
        latencies_s: of every acknowledged batch, from first sent to acknowledged.
    """

    def __init__(self) -> None:
        super().__init__(InMemoryBatchLog(), max_bytes=_OUTBOX_BYTES)
        self.acknowledged_seq = self.replays = 0
        self.latencies_s = array("d")
        self.first_sent_s = self.last_acknowledged_s = 0.0
        self._sent_s: deque[float] = deque()

    def take_next(self) -> Outgoing | None:
        outgoing = super().take_next()
        seen_seq = self.acknowledged_seq + len(self._sent_s)
        if outgoing and not outgoing.live_only and outgoing.batch_seq > seen_seq:
            self._sent_s.append(time.perf_counter())
            self.first_sent_s = self.first_sent_s or self._sent_s[0]
        return outgoing

    def is_set_back(self, *_committed: object) -> bool:
        return False  # there is no earlier state

    def registered(self, committed_seq: int) -> None:
        super().registered(committed_seq)
        self._measure(committed_seq)

    def acknowledged(self, batch_seq: int) -> None:
        super().acknowledged(batch_seq)
        self._measure(batch_seq)

    def replay_from(self, batch_seq: int) -> None:
        super().replay_from(batch_seq)
        self.replays += 1

    def _measure(self, batch_seq: int) -> None:
        now_s = time.perf_counter()
        while self.acknowledged_seq < batch_seq and self._sent_s:
            self.acknowledged_seq += 1
            self.latencies_s.append(now_s - self._sent_s.popleft())
            self.last_acknowledged_s = now_s


class Sending:
    """What all agents share: who is registered, and what may be sent.

    Attributes:
        at_will: messages are made as fast as they are acknowledged or committed.
        ended: nothing new is made.
        attempts_failed: connections that were lost or could not be made.
        samples: single samples sent.
        committed: those of them that the database has.
    """

    def __init__(self, agents: int) -> None:
        self.at_will = self.ended = False
        self.attempts_failed = self.samples = self.committed = 0
        self.first_sent_s = self.last_committed_s = 0.0
        self.all_registered = trio.Event()
        self._agents = agents
        self._registered_s: dict[int, float] = {}

    def note(self, number: int, report: LinkReport) -> None:
        """Record a change of one agent's link, and report when all agents are registered."""
        if report.state != "connected":
            self.attempts_failed += 1
            self._registered_s.pop(number, None)
            return
        self._registered_s[number] = time.monotonic()
        if len(self._registered_s) == self._agents:
            self.all_registered.set()
            in_order = sorted(self._registered_s.values())
            half_s, p99_s = in_order[len(in_order) // 2], in_order[len(in_order) * 99 // 100]
            times = {"half_at_s": half_s, "p99_at_s": p99_s, "all_at_s": in_order[-1]}
            write_line(state="registered", attempts_failed=self.attempts_failed, **times)

    async def follow_commits(self, url: str, queues: "Sequence[BatchQueue]") -> None:
        """Read how many single samples are committed, until cancelled."""
        with psycopg.connect(url, autocommit=True) as connection:
            while True:
                found = connection.execute(_COMMITTED).fetchone()
                committed = 0 if found is None else int(found[0])
                if committed > self.committed:
                    self.committed, self.last_committed_s = committed, time.perf_counter()
                    for queue in queues:
                        queue.wakeup.wake()
                await trio.sleep(_COMMITTED_POLL_S)


class BatchQueue(SendQueue):
    """One agent's batches: each is the same message with another number and time."""

    def __init__(self, assets: Sequence[Asset], sending: Sending) -> None:
        self.assets = assets
        self.outbox = _TimedOutbox()
        self.outbox_id = str(uuid4())
        self._sending = sending
        self._newest_ms = 0
        self._message = write_batch(batch_of(assets))
        super().__init__(self.outbox)

    def append(self) -> None:
        """Put another batch into the outbox, which keeps only its time; whoever calls it wakes the sender."""
        self.outbox.append(self._next_ms().to_bytes(8))

    def take_next(self) -> pb.AgentToHeadend | None:
        """Return the message to be sent now; None while there is none."""
        outbox = self.outbox
        outgoing = outbox.take_next()
        in_flight = outbox.next_append_seq - 1 - outbox.acknowledged_seq
        if outgoing is None and self._sending.at_will and in_flight < WINDOW_BATCHES:
            self.append()
            outgoing = outbox.take_next()
        if outgoing is None:
            return None
        batch = self._message.telemetry_batch
        batch.batch_seq, batch.live_only = outgoing.batch_seq, outgoing.live_only
        batch.ts_unix_ms = int.from_bytes(outgoing.payload)
        return self._message

    def _next_ms(self) -> int:
        # No two samples of an asset have the same time.
        self._newest_ms = max(self._newest_ms + 1, time.time_ns() // 1_000_000)
        return self._newest_ms


class SampleQueue(BatchQueue):
    """One message per sample, past the outbox; all agents together have a bounded number uncommitted."""

    def __init__(self, assets: Sequence[Asset], sending: Sending) -> None:
        super().__init__(assets, sending)
        self.outbox_id = ""
        self._messages = [_sample_of(asset) for asset in assets]
        self._next = 0
        self._timestamp = ""

    def take_next(self) -> pb.AgentToHeadend | None:
        """Return the sample to be sent now; None while there is none."""
        sending = self._sending
        if not sending.at_will or sending.samples - sending.committed >= _MAX_UNCOMMITTED:
            return None
        if self._next == 0:
            self._timestamp = format_ms(self._next_ms())
        message = self._messages[self._next]
        self._next = (self._next + 1) % len(self._messages)
        message.telemetry.timestamp = self._timestamp
        sending.first_sent_s = sending.first_sent_s or time.perf_counter()
        sending.samples += 1
        return message


@click.command()
@click.option("--headend", type=AddressType(), required=True)
@click.option("--fleet", "fleet_path", type=click.Path(path_type=Path), required=True)
@click.option("--shard-size", type=int, required=True)
@click.option("--pulse-s", type=float, default=0.0, help="Seconds between batches; 0: as fast as possible.")
@click.option("--single-samples", "database_url", help="Send single samples; commits are read from here.")
def main(*, headend: Address, fleet_path: Path, shard_size: int, pulse_s: float, database_url: str) -> None:
    """Be the agents of the fleet, one per shard, until standard input ends."""
    # A link logs every failed attempt as a warning.
    configure_logging(level="error", format="console")
    raise_descriptor_limit()
    trio.run(_run, shard_fleet(load_fleet(fleet_path), shard_size), headend, pulse_s, database_url)


async def _run(
    shards: Sequence[Sequence[Asset]], headend: Address, pulse_s: float, database_url: str | None
) -> None:
    sending = Sending(len(shards))
    make = BatchQueue if database_url is None else SampleQueue
    queues = [make(assets, sending) for assets in shards]
    links = _links_of(queues, sending, headend)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    # Phases are spread evenly, as the launcher does it.
    phases_s = [trio.current_time() + pulse_s * position / len(queues) for position in range(len(queues))]
    grids = [PulseGrid(first_s=phase_s, tick_s=pulse_s) for phase_s in phases_s] if pulse_s else []
    async with trio.open_nursery() as nursery, trio.open_nursery() as makers:
        for link in links:
            nursery.start_soon(link.run)
        if database_url is not None:
            makers.start_soon(sending.follow_commits, database_url, queues)
        for queue, grid in zip(queues, grids, strict=False):
            makers.start_soon(_pulse, queue, grid, sending)
        with trio.fail_after(_REGISTERED_WITHIN_S):
            await sending.all_registered.wait()
        began_cpu_s = time.process_time()
        sending.at_will = not pulse_s
        for queue in queues:
            queue.wakeup.wake()
        async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
            await stdin.receive_some()
        sending.at_will, sending.ended = False, True
        await _settle(queues, sending)
        cpu_s = time.process_time() - began_cpu_s
        write_line(state="settled", cpu_s=cpu_s, **_totals(queues, sending, grids))
        makers.cancel_scope.cancel()
        for link in links:
            link.finish()
        nursery.cancel_scope.deadline = trio.current_time() + _CLOSED_WITHIN_S


def _links_of(queues: Sequence[BatchQueue], sending: Sending, headend: Address) -> list[HeadendClient]:
    wall = WallClock.starting_now()
    links: list[HeadendClient] = []
    for number, queue in enumerate(queues, 1):
        agent_id, assets = f"bench-{number}", queue.assets
        registration = write_registration(
            agent_id=agent_id, epoch=1, protocol=PROTOCOL, outbox_id=queue.outbox_id, assets=assets
        )
        link = HeadendClient(
            Identity(agent_id=agent_id, assets=len(assets), headend=str(headend), registration=registration),
            dial=partial(connect, headend.host, headend.port),
            store=InMemoryStateStore(queue.outbox_id, [asset.id for asset in assets]),
            outbox=queue.outbox,
            queue=queue,
            # There is no battery that could follow a setpoint.
            deliver=lambda _setpoints: None,
            report=partial(sending.note, number),
            wall=wall,
            rng=random.Random(number),  # noqa: S311 - jitter, not secrets
        )
        links.append(link)
    return links


async def _pulse(queue: BatchQueue, grid: PulseGrid, sending: Sending) -> None:
    await trio.sleep_until(grid.due_s)
    while not sending.ended:
        grid.strike(trio.current_time())
        queue.append()
        queue.wakeup.wake()
        await trio.sleep_until(grid.due_s)


async def _settle(queues: Sequence[BatchQueue], sending: Sending) -> None:
    """Wait until everything sent is acknowledged, or committed."""
    with trio.move_on_after(_SETTLED_WITHIN_S):
        while sending.committed < sending.samples or not all(queue.outbox.is_settled() for queue in queues):  # noqa: ASYNC110
            await trio.sleep(_POLL_S)
        return
    waiting = sum(not queue.outbox.is_settled() for queue in queues)
    uncommitted = sending.samples - sending.committed
    raise RuntimeError(f"{waiting} agents have unacknowledged batches; {uncommitted} samples are uncommitted")


def _totals(queues: Sequence[BatchQueue], sending: Sending, grids: Sequence[PulseGrid]) -> dict[str, Any]:
    outboxes = [queue.outbox for queue in queues]
    latencies_s = sorted(latency_s for outbox in outboxes for latency_s in outbox.latencies_s)
    late_s = sorted(late_s for grid in grids for late_s in grid.lateness.recent)
    began_s = sending.first_sent_s or min(outbox.first_sent_s for outbox in outboxes)
    ended_s = sending.last_committed_s or max(outbox.last_acknowledged_s for outbox in outboxes)
    rows = sum(queue.outbox.acknowledged_seq * len(queue.assets) for queue in queues)
    return {
        "messages": sending.samples or sum(outbox.acknowledged_seq for outbox in outboxes),
        "samples": sending.samples or rows,
        "elapsed_s": ended_s - began_s,
        "p50_s": quantile(latencies_s, 0.5) if latencies_s else None,
        "p99_s": quantile(latencies_s, 0.99) if latencies_s else None,
        "replays": sum(outbox.replays for outbox in outboxes),
        "late_p99_s": quantile(late_s, 0.99),
        "attempts_failed": sending.attempts_failed,
    }


def batch_of(assets: Sequence[Asset]) -> Batch:
    """Return one pulse of these assets, each at another state of charge."""
    shares = [(row / len(assets), asset) for row, asset in enumerate(assets)]
    return Batch(
        batch_seq=1,
        ts_unix_ms=1,
        asset_index=list(range(len(assets))),
        soc_mwhr=[asset.capacity_mwhr * (0.1 + 0.8 * share) for share, asset in shares],
        current_mw=[asset.max_mw * share for share, asset in shares],
        setpoint_mw=[asset.max_mw * share for share, asset in shares],
        available_discharge_mw=[asset.max_mw for asset in assets],
        available_charge_mw=[-asset.min_mw for asset in assets],
    )


def _sample_of(asset: Asset) -> pb.AgentToHeadend:
    telemetry = pb.Telemetry(
        asset_id=asset.id,
        site_id=asset.site_id,
        site_name=asset.site_name,
        soc_mwhr=asset.capacity_mwhr * 0.4,
        soc_pct=40.0,
        capacity_mwhr=asset.capacity_mwhr,
        current_mw=asset.max_mw / 7,
        setpoint_mw=asset.max_mw / 7,
        max_mw=asset.max_mw,
        min_mw=asset.min_mw,
        status="discharging",
    )
    return pb.AgentToHeadend(telemetry=telemetry)


def write_line(**values: object) -> None:
    """Write one JSON object to standard output."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
