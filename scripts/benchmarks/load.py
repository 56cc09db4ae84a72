"""`python -m scripts.benchmarks.load`: one process that is many agents, at a pace or as fast as acknowledged.

Each is a connection of its own over the project's client. What they did is told on standard output, one JSON
object a line: when the first batch goes, and when the last one is acknowledged. Agents that send single
samples are in `singles`.
"""

import gc
import json
import math
import time
from array import array
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from uuid import uuid4

import click
import trio

from scripts.benchmarks.gates import Gates
from scripts.benchmarks.singles import SingleStream, Uncommitted
from scripts.benchmarks.window import Window
from trioder.agent.wakeup import Wakeup
from trioder.domain.assets import Asset
from trioder.domain.fleet import shard_fleet
from trioder.fleet import load_fleet
from trioder.process.addresses import Address, AddressType
from trioder.rpc import ClientCall, connect, open_channel
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import read_downlink
from trioder.wire.records import Batch, BatchAck, ReplayRequest, SessionGrant
from trioder.wire.service import AGENT_LINK_STREAM, PROTOCOL
from trioder.wire.uplink import write_batch, write_registration

_REGISTERED_WITHIN_S = 60.0
# After the last batch was begun: more than the headend needs for what is under way.
_SETTLED_WITHIN_S = 60.0
_CLOSED_WITHIN_S = 5.0

AgentCall = ClientCall[pb.AgentToHeadend, pb.HeadendToAgent]


class Stream:
    """One agent's stream: a message made once, of which only the sequence and the time change.

    Args:
        number: of the agent.
        assets: its own.
        phase: where in the pulse its batches go, in [0, 1).

    Attributes:
        latencies_s: of every batch, from its first sending to its acknowledgement.
        registered: set once the session stands.
        settled: set once everything that was sent is acknowledged.
    """

    def __init__(self, number: int, assets: Sequence[Asset], *, phase: float = 0.0) -> None:
        self._phase = phase
        self.window = Window()
        self.latencies_s = array("d")
        self.first_sent_s = 0.0
        self.last_acknowledged_s = 0.0
        self.registered = trio.Event()
        self.settled = trio.Event()
        self._wakeup = Wakeup()
        self.registration = write_registration(
            agent_id=f"bench-{number}", epoch=1, protocol=PROTOCOL, outbox_id=str(uuid4()), assets=assets
        )
        self._message = write_batch(batch_of(assets))

    @property
    def standing(self) -> str:
        """How far it is, in words."""
        under_way = "nothing" if self.window.is_empty else "batches"
        return f"{self.window.acknowledged_batches} batches acknowledged, {under_way} under way"

    async def run(self, headend: Address, *, gates: Gates) -> None:
        """Register, and then send and receive; the stream is closed when all streams are done."""
        connection = await connect(headend.host, headend.port)
        async with (
            open_channel(connection, authority=str(headend)) as channel,
            channel.open_call(AGENT_LINK_STREAM) as call,
            trio.open_nursery() as nursery,
        ):
            # As agents do: their samples need not show their clock then.
            self.registration.register.clock_unix_ms = time.time_ns() // 1_000_000
            await call.send(self.registration)
            granted = read_downlink(await call.receive())
            if not isinstance(granted, SessionGrant):
                raise TypeError(f"the headend answered a registration with {granted}")
            self.registered.set()
            await gates.begin.wait()
            nursery.start_soon(self._receive, call)
            await self._send(call, gates)
            self.settled.set()
            await gates.close.wait()
            await call.done_sending()
            # The headend ends the stream in its turn.
            nursery.cancel_scope.deadline = trio.current_time() + _CLOSED_WITHIN_S

    async def _send(self, call: AgentCall, gates: "Gates") -> None:
        """Send new batches until the end, and again what is asked for, until all is acknowledged."""
        message = self._message
        first_s = gates.begin_s + self._phase * gates.every_s
        self.first_sent_s = time.perf_counter()
        while True:
            now_s = trio.current_time()
            more = now_s < gates.until_s
            due_s = first_s + self.window.begun_batches * gates.every_s
            batch = self.window.take_next(
                now_s=time.perf_counter(), now_ms=time.time_ns() // 1_000_000, new=more and now_s >= due_s
            )
            if batch is not None:
                message.telemetry_batch.batch_seq = batch.batch_seq
                message.telemetry_batch.ts_unix_ms = batch.ts_unix_ms
                await call.send(message)
            elif not more and self.window.is_empty:
                return
            else:
                # One that is due already waits for the window.
                next_s = min(due_s, gates.until_s) if due_s > now_s else gates.until_s
                with trio.move_on_at(next_s if more else math.inf):
                    await self._wakeup.wait()

    async def _receive(self, call: AgentCall) -> None:
        """Take what the headend says until it ends the stream, which it must not do before all is settled."""
        async for message in call:
            match read_downlink(message):
                case BatchAck(batch_seq=batch_seq):
                    now_s = time.perf_counter()
                    done = self.window.acknowledged(batch_seq)
                    self.latencies_s.extend(now_s - batch.sent_s for batch in done)
                    self.last_acknowledged_s = now_s
                case ReplayRequest(from_batch_seq=from_batch_seq):
                    self.window.replay_from(from_batch_seq)
            self._wakeup.wake()
        if not self.settled.is_set():
            raise RuntimeError("the headend closed a stream before everything was acknowledged")


@click.command()
@click.option("--headend", type=AddressType(), required=True)
@click.option("--fleet", "fleet_path", type=click.Path(path_type=Path), required=True)
@click.option("--shard-size", type=int, required=True)
@click.option("--seconds", type=float, required=True)
@click.option("--every-s", type=float, default=0.0, help="Pulses; 0 for as fast as acknowledged.")
@click.option(
    "--single-samples", "database_url", help="Send messages of one sample; what is kept is read here."
)
def main(
    *,
    headend: Address,
    fleet_path: Path,
    shard_size: int,
    seconds: float,
    every_s: float,
    database_url: str | None,
) -> None:
    """Be the agents of the fleet, one a shard."""
    shards = shard_fleet(load_fleet(fleet_path), shard_size)
    gc.collect()
    gc.freeze()
    if database_url is None:
        streams = [Stream(number, assets, phase=number / len(shards)) for number, assets in enumerate(shards)]
        trio.run(_send_batches, streams, headend, seconds, every_s)
    else:
        trio.run(_send_singles, shards, headend, seconds, database_url)


async def _send_batches(streams: Sequence[Stream], headend: Address, seconds: float, every_s: float) -> None:
    cpu_s = await _run(streams, headend, seconds, every_s)
    latencies_s = sorted(latency_s for stream in streams for latency_s in stream.latencies_s)
    _say(
        state="kept",
        messages=len(latencies_s),
        replays=sum(stream.window.replays for stream in streams),
        elapsed_s=max(stream.last_acknowledged_s for stream in streams)
        - min(stream.first_sent_s for stream in streams),
        cpu_s=cpu_s,
        p50_s=latencies_s[len(latencies_s) // 2],
        p99_s=latencies_s[len(latencies_s) * 99 // 100],
    )


async def _send_singles(
    shards: Sequence[Sequence[Asset]], headend: Address, seconds: float, database_url: str
) -> None:
    uncommitted = Uncommitted()
    streams = [SingleStream(number, assets, uncommitted) for number, assets in enumerate(shards, 1)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uncommitted.follow, database_url)
        cpu_s = await _run(streams, headend, seconds)
        nursery.cancel_scope.cancel()
    _say(
        state="kept",
        messages=uncommitted.sent,
        replays=0,
        elapsed_s=uncommitted.last_committed_s - min(stream.first_sent_s for stream in streams),
        cpu_s=cpu_s,
        p50_s=None,
        p99_s=None,
    )


async def _run(
    streams: Sequence[Stream | SingleStream], headend: Address, seconds: float, every_s: float = 0.0
) -> float:
    """Let all streams send, and return the seconds of CPU that it took until all is kept."""
    gates = Gates(every_s)
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(partial(stream.run, headend, gates=gates))
        with trio.fail_after(_REGISTERED_WITHIN_S):
            for stream in streams:
                await stream.registered.wait()
        _say(state="sending")
        began_cpu_s = time.process_time()
        gates.begin_s = trio.current_time()
        gates.until_s = gates.begin_s + seconds
        gates.begin.set()
        with trio.move_on_after(seconds + _SETTLED_WITHIN_S) as patience:
            for stream in streams:
                await stream.settled.wait()
        if patience.cancelled_caught:
            waiting = [stream.standing for stream in streams if not stream.settled.is_set()]
            raise RuntimeError(f"{len(waiting)} streams wait in vain; the first: {waiting[0]}")
        cpu_s = time.process_time() - began_cpu_s
        gates.close.set()
    return cpu_s


def batch_of(assets: Sequence[Asset]) -> Batch:
    """Return one pulse of these assets, each at another state of charge."""
    rows = range(len(assets))
    return Batch(
        batch_seq=1,
        ts_unix_ms=1,
        asset_index=list(rows),
        soc_mwhr=[asset.capacity_mwhr * (0.1 + 0.8 * row / len(assets)) for row, asset in enumerate(assets)],
        current_mw=[asset.max_mw * (row / len(assets)) for row, asset in enumerate(assets)],
        setpoint_mw=[asset.max_mw * (row / len(assets)) for row, asset in enumerate(assets)],
        available_discharge_mw=[asset.max_mw for asset in assets],
        available_charge_mw=[-asset.min_mw for asset in assets],
    )


def _say(**words: object) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main()
