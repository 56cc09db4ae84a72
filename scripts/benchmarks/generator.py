"""`python -m scripts.benchmarks.generator`: one process that is many agents, one per shard of a fleet.

Link, outbox and back-off are the agents' own, but there are no batteries: each message is made once, and only
its number and time change. With `--pulse-s` each agent sends a batch per pulse from the start, at a phase of
its own; without it all send as fast as they are acknowledged, once all are registered. Each time all are
registered, a JSON line is written. The first byte on standard input ends the sending, and another line is
written once everything is acknowledged; the end of standard input ends the connections.
"""

import json
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import click
import psycopg
import trio

from scripts.benchmarks.benchmark import spread_rows
from scripts.benchmarks.certificates import agent_name, client_tls
from trioder.agent.headend_client import HeadendClient, Identity, LinkReport
from trioder.agent.persistence.outbox import WINDOW_BATCHES, Outbox
from trioder.agent.persistence.state_store import InMemoryBatchLog, InMemoryStateStore
from trioder.agent.pulse import PulseGrid
from trioder.agent.send_queue import SendQueue
from trioder.domain.assets import Asset
from trioder.domain.fleet import shard_fleet
from trioder.fleet import load_fleet
from trioder.process.addresses import AddressType
from trioder.process.logs import configure_logging
from trioder.process.rfc3339 import format_ms
from trioder.process.runtime_limits import freeze_gc, raise_descriptor_limit
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

# Nobody acknowledges single samples, and a headend drops what it cannot keep. This is less than half of what
# it keeps of this kind: the database may have that many before the headend knows, and as many again may come
# meanwhile. With 40,000 neither server nor generator is busy all the time.
_MAX_UNCOMMITTED = 140_000
_COMMITTED_POLL_S = 0.005
_NAMEPLATE = ("site_id", "site_name", "capacity_mwhr", "max_mw", "min_mw")
# The headend counts samples without an outbox in a watermark of its own, in the transaction that stores them.
_COMMITTED = "SELECT coalesce(sum(batch_seq), 0) FROM ingest_watermarks"


class Sending:
    """What all agents share: what may be sent, what was, and who is registered.

    Attributes:
        at_will: messages are made as fast as they are acknowledged or committed.
        ended: nothing new is made.
        attempts_failed: connections that were lost or could not be made.
        made: samples in all batches, or single samples sent.
        committed: those of them that are acknowledged, or that the database has.
        replays: how often an agent went back to batches that it had sent.
        latencies_s: of every acknowledged batch, from first sent to acknowledged.
        first_sent_s: on `time.perf_counter`'s clock, as is `last_committed_s`.
    """

    def __init__(self, agents: int) -> None:
        self.at_will = self.ended = False
        self.attempts_failed = self.made = self.committed = self.replays = 0
        self.latencies_s: list[float] = []
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
            times["attempts_failed"] = self.attempts_failed
            print(json.dumps({"registered": len(in_order), **times}), flush=True)

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

    async def settle(self) -> None:
        """Wait until everything sent is acknowledged, or committed."""
        with trio.move_on_after(_SETTLED_WITHIN_S):
            while self.committed < self.made:  # noqa: ASYNC110  # a session may end at any time
                await trio.sleep(_POLL_S)
            return
        raise RuntimeError(f"{self.made - self.committed} samples were sent and are uncommitted")

    def totals(self, grids: Sequence[PulseGrid]) -> dict[str, Any]:
        """Return what was sent, how long it took, and rows of a report."""
        late_s = (late_s for grid in grids for late_s in grid.lateness.recent)
        rows = {
            "messages committed": len(self.latencies_s) or self.made,
            "replays requested": self.replays,
            **spread_rows("sent to acknowledged", self.latencies_s),
            **(spread_rows("generator's pulses late", late_s) if grids else {}),
        }
        elapsed_s = self.last_committed_s - self.first_sent_s
        attempts = self.attempts_failed
        return {"samples": self.made, "elapsed_s": elapsed_s, "attempts_failed": attempts, "rows": rows}


class _BatchLog(InMemoryBatchLog):
    """One agent's unacknowledged batches. The outbox drops each once the headend has committed it."""

    def __init__(self, committed: Callable[[], None]) -> None:
        super().__init__()
        self._committed = committed

    def drop_first(self) -> None:
        """See `BatchLog`."""
        super().drop_first()
        self._committed()


class BatchQueue(SendQueue):
    """One agent's batches: each is the same message with another number and time."""

    def __init__(self, assets: Sequence[Asset], sending: Sending) -> None:
        self.outbox = Outbox(_BatchLog(self._committed), max_bytes=_OUTBOX_BYTES)
        super().__init__(self.outbox)
        self.assets = assets
        self.outbox_id = str(uuid4())
        self._sending = sending
        self._newest_ms = 0
        self._message = write_batch(batch_of(assets))
        self._stored = pb.AgentToHeadend()
        # In sequence; since a replay the last one may be an earlier one.
        self._last_seq = self._highest_seq = 0
        self._first_sent_s: deque[float] = deque()

    def append(self) -> None:
        """Put another batch into the outbox, which keeps only its time; whoever calls it wakes the sender."""
        self._stored.telemetry_batch.ts_unix_ms = self._next_ms()
        self.outbox.append(self._stored.SerializeToString())
        self._sending.made += len(self.assets)

    def take_next(self) -> pb.AgentToHeadend | None:
        """Return the message to be sent now; None while there is none."""
        outbox = self.outbox
        outgoing = outbox.take_next()
        if outgoing is None and self._sending.at_will and outbox.batches < WINDOW_BATCHES:
            self.append()
            outgoing = outbox.take_next()
        if outgoing is None:
            return None
        if not outgoing.live_only:
            self._measure(outgoing.batch_seq)
        # Its time, which is all that is stored.
        self._message.MergeFromString(outgoing.payload)
        batch = self._message.telemetry_batch
        batch.batch_seq, batch.live_only = outgoing.batch_seq, outgoing.live_only
        return self._message

    def _measure(self, batch_seq: int) -> None:
        sending = self._sending
        if batch_seq <= self._last_seq:
            sending.replays += 1
        self._last_seq = batch_seq
        if batch_seq > self._highest_seq:
            self._highest_seq = batch_seq
            self._first_sent_s.append(time.perf_counter())
            sending.first_sent_s = sending.first_sent_s or self._first_sent_s[0]

    def _committed(self) -> None:
        sending = self._sending
        sending.last_committed_s = time.perf_counter()
        sending.latencies_s.append(sending.last_committed_s - self._first_sent_s.popleft())
        sending.committed += len(self.assets)

    def _next_ms(self) -> int:
        # No two samples of an asset have the same time.
        self._newest_ms = max(self._newest_ms + 1, time.time_ns() // 1_000_000)
        return self._newest_ms


class SampleQueue(BatchQueue):
    """One message per sample, past the outbox; all agents together have a bounded number uncommitted."""

    def __init__(self, assets: Sequence[Asset], sending: Sending) -> None:
        super().__init__(assets, sending)
        self.outbox_id = ""
        self._samples = self._repeated([_sample_of(asset) for asset in assets])

    def take_next(self) -> pb.AgentToHeadend | None:
        """Return the sample to be sent now; None while there is none."""
        sending = self._sending
        if not sending.at_will or sending.made - sending.committed >= _MAX_UNCOMMITTED:
            return None
        sending.first_sent_s = sending.first_sent_s or time.perf_counter()
        sending.made += 1
        return next(self._samples)

    def _repeated(self, messages: Sequence[pb.AgentToHeadend]) -> Iterator[pb.AgentToHeadend]:
        while True:
            timestamp = format_ms(self._next_ms())
            for message in messages:
                message.telemetry.timestamp = timestamp
                yield message


@click.command()
@click.option("--headend", type=AddressType(), required=True)
@click.option("--fleet", type=click.Path(path_type=Path), required=True)
@click.option("--shard-size", type=int, required=True)
@click.option("--pulse-s", type=float, default=0.0, help="Seconds between batches; 0: as fast as possible.")
@click.option(
    "--single-samples", help="Send single samples; commits are read from the database with this URL."
)
@click.option("--access-dir", type=click.Path(path_type=Path), help="Connect over TLS, by its certificates.")
def main(**options: Any) -> None:
    """Be the agents of the fleet, one per shard, until standard input ends."""
    # A link logs every failed attempt as a warning.
    configure_logging(level="error", format="console")
    raise_descriptor_limit()
    trio.run(_run, SimpleNamespace(**options))


async def _run(options: SimpleNamespace) -> None:
    shards = shard_fleet(load_fleet(options.fleet), options.shard_size)
    sending = Sending(len(shards))
    make = SampleQueue if options.single_samples else BatchQueue
    queues = [make(assets, sending) for assets in shards]
    wall = WallClock.starting_now()
    links = [_link_of(number, queue, sending, options, wall) for number, queue in enumerate(queues, 1)]
    freeze_gc()
    # Phases are spread evenly, as the launcher does it.
    now_s, pulse_s = trio.current_time(), options.pulse_s
    phases_s = [now_s + pulse_s * position / len(queues) for position in range(len(queues) if pulse_s else 0)]
    grids = [PulseGrid(first_s=phase_s, tick_s=pulse_s) for phase_s in phases_s]
    async with trio.open_nursery() as nursery, trio.open_nursery() as makers:
        for link in links:
            nursery.start_soon(link.run)
        if options.single_samples:
            makers.start_soon(sending.follow_commits, options.single_samples, queues)
        for queue, grid in zip(queues, grids, strict=False):
            makers.start_soon(_pulse, queue, grid, sending)
        with trio.fail_after(_REGISTERED_WITHIN_S):
            await sending.all_registered.wait()
        sending.at_will = not pulse_s
        for queue in queues:
            queue.wakeup.wake()
        async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
            await stdin.receive_some(1)
            sending.at_will, sending.ended = False, True
            await sending.settle()
            print(json.dumps({"settled": True, **sending.totals(grids)}), flush=True)
            await stdin.receive_some(1)
        makers.cancel_scope.cancel()
        for link in links:
            link.finish()
        nursery.cancel_scope.deadline = trio.current_time() + _CLOSED_WITHIN_S


def _link_of(
    number: int, queue: BatchQueue, sending: Sending, options: SimpleNamespace, wall: WallClock
) -> HeadendClient:
    agent_id, assets, headend = agent_name(number), queue.assets, options.headend
    registration = write_registration(
        agent_id=agent_id, epoch=1, protocol=PROTOCOL, outbox_id=queue.outbox_id, assets=assets
    )
    context = client_tls(options.access_dir, number).context if options.access_dir else None
    return HeadendClient(
        Identity(agent_id=agent_id, assets=len(assets), headend=str(headend), registration=registration),
        dial=partial(connect, headend.host, headend.port, ssl_context=context),
        store=InMemoryStateStore(queue.outbox_id, [asset.id for asset in assets]),
        outbox=queue.outbox,
        queue=queue,
        # There is no battery that could follow a setpoint.
        deliver=lambda _setpoints: None,
        report=partial(sending.note, number),
        wall=wall,
        rng=random.Random(number),  # noqa: S311 - jitter, not secrets
    )


async def _pulse(queue: BatchQueue, grid: PulseGrid, sending: Sending) -> None:
    await trio.sleep_until(grid.due_s)
    while not sending.ended:
        grid.strike(trio.current_time())
        queue.append()
        queue.wakeup.wake()
        await trio.sleep_until(grid.due_s)


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
    fields: dict[str, Any] = {name: getattr(asset, name) for name in _NAMEPLATE}
    fields |= {"soc_mwhr": asset.capacity_mwhr * 0.4, "soc_pct": 40.0, "status": "discharging"}
    fields |= dict.fromkeys(("current_mw", "setpoint_mw"), asset.max_mw / 7)
    return pb.AgentToHeadend(telemetry=pb.Telemetry(asset_id=asset.id, **fields))


if __name__ == "__main__":
    main()
