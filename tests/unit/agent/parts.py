"""What the agent's tests build on: assets, dispatches, and a headend's end of the link."""

import random
import tempfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
from trio.testing import memory_stream_pair

from trioder.agent.battery import Battery, Tick
from trioder.agent.config import AgentConfig
from trioder.agent.headend_client import LinkReport
from trioder.agent.persistence.retired_state import gather_states, read_states
from trioder.agent.persistence.state_store import SavedBattery, StateStore
from trioder.agent.scenario import NO_SCENARIO, NoScenario
from trioder.agent.service import RunningAgent, run_agent
from trioder.domain.assets import Asset
from trioder.domain.dispatch import Setpoint
from trioder.process.addresses import Endpoint
from trioder.process.wall_time import WallClock
from trioder.rpc import RpcError, ServerCall, Services, serve_connection
from trioder.sim.bess import tick_asset
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import write_batch_ack, write_grant, write_setpoint
from trioder.wire.records import Acknowledgement, AgentEvent, Batch, Heartbeat, Registration, SessionGrant
from trioder.wire.service import AGENT_LINK_STREAM
from trioder.wire.uplink import read_uplink, write_batch

START_UNIX_S = 1_800_000_000.0


def asset_id(number: int) -> str:
    return f"11111111-1111-4111-8111-{number:012d}"


def make_asset(number: int = 0, **changes: float) -> Asset:
    values: dict[str, float] = {
        "capacity_mwhr": 100.0,
        "max_mw": 50.0,
        "min_mw": -40.0,
        "charge_efficiency": 1.0,
        "discharge_efficiency": 1.0,
        "ramp_rate_mw_per_min": 60_000.0,
    }
    return Asset(
        id=asset_id(number),
        name=f"Battery {number}",
        site_id="22222222-2222-4222-8222-222222222222",
        site_name="Site",
        **(values | changes),
    )


def make_setpoint(
    mw: float,
    *,
    number: int = 0,
    duration_s: int | None = None,
    valid_until_s: float | None = None,
    reversion_mw: float = 0.0,
    dispatch_id: str = "d-1",
) -> Setpoint:
    """Return a dispatch; `valid_until_s` counts from START_UNIX_S."""
    return Setpoint(
        dispatch_id=dispatch_id,
        asset_id=asset_id(number),
        mw=mw,
        duration_s=duration_s,
        valid_until_ms=None if valid_until_s is None else round((START_UNIX_S + valid_until_s) * 1000),
        reversion_mw=reversion_mw,
    )


def make_battery(*, tick: Tick = tick_asset, **changes: float) -> Battery:
    """A battery of an agent that began at 0 s, which was START_UNIX_S."""
    wall = WallClock(START_UNIX_S, 0.0)
    return Battery(make_asset(**changes), position=0, now_s=0.0, tick=tick, wall=wall)


def make_config(count: int = 2, **changes: object) -> AgentConfig:
    values: dict[str, object] = {
        "agent_id": "agent-1",
        "headend": Endpoint("headend.test", 50051),
        "tick_s": 4.0,
        "phase": 0.0,
        "assets": tuple(make_asset(number) for number in range(count)),
    }
    return AgentConfig(**(values | changes))  # type: ignore[arg-type]  # a test's shorthand


@dataclass(kw_only=True)
class FakeHeadend:
    """Speaks the real transport over in-store streams and does as its fields say."""

    committed_seq: int = 0
    # Of outboxes that are not at committed_seq.
    committed_seq_of: dict[str, int] = field(default_factory=dict)
    committed_ts_unix_ms: int | None = None
    keeps: bool = True
    grants: bool = True
    refusal: RpcError | None = None
    refuses_dial: bool = False
    never_ends: bool = False
    registrations: list[Registration] = field(default_factory=list)
    registered_s: list[float] = field(default_factory=list)
    dialled_s: list[float] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    answers: list[Acknowledgement] = field(default_factory=list)
    events: list[AgentEvent] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    clock_unix_ms: int | None = None
    call: ServerCall[pb.AgentToHeadend, pb.HeadendToAgent] | None = None
    ended_well: int = 0
    _cut: Callable[[], None] | None = None

    async def serve(self, call: ServerCall[pb.AgentToHeadend, pb.HeadendToAgent]) -> None:
        registration = read_uplink(await call.receive(), asset_count=0)
        assert isinstance(registration, Registration)
        self.registrations.append(registration)
        self.registered_s.append(trio.current_time())
        if self.refusal is not None:
            raise self.refusal
        if self.grants:
            grant = SessionGrant(
                session_id="s",
                committed_batch_seq=self.committed_seq_of.get(registration.outbox_id, self.committed_seq),
                protocol=1,
                committed_ts_unix_ms=self.committed_ts_unix_ms,
                clock_unix_ms=self.clock_unix_ms,
            )
            await call.send(write_grant(grant))
        self.call = call
        async for message in call:
            match read_uplink(message, asset_count=len(registration.asset_ids)):
                case Batch() as batch:
                    self.batches.append(batch)
                    if self.keeps and not batch.live_only:
                        self.committed_seq = batch.batch_seq
                        await call.send(write_batch_ack(batch.batch_seq))
                case Acknowledgement() as answer:
                    self.answers.append(answer)
                case AgentEvent() as event:
                    self.events.append(event)
                case Heartbeat() as heartbeat:
                    self.heartbeats.append(heartbeat)
        if self.never_ends:
            await trio.sleep_forever()
        self.ended_well += 1

    def cut(self) -> None:
        """Break the connection."""
        assert self._cut is not None
        self._cut()

    def go_down(self) -> None:
        """Break the connection and refuse new ones."""
        self.refuses_dial = True
        self.cut()

    async def dial(self, nursery: trio.Nursery) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.dialled_s.append(trio.current_time())
        if self.refuses_dial:
            raise OSError("refused")
        ours, theirs = memory_stream_pair()
        self._cut = partial(_break, ours)
        nursery.start_soon(serve_connection, ours, Services({AGENT_LINK_STREAM: self.serve}))
        return theirs

    async def send(self, message: pb.HeadendToAgent) -> None:
        assert self.call is not None
        await self.call.send(message)

    async def send_setpoint(self, mw: float, **fields: Any) -> None:
        """Send `make_setpoint(...)`."""
        await self.send(write_setpoint(make_setpoint(mw, **fields)))


def _break(stream: trio.StapledStream) -> None:
    stream.send_stream.close()
    stream.receive_stream.close()


async def start_agent(
    nursery: trio.Nursery,
    headend: FakeHeadend,
    config: AgentConfig | None = None,
    *,
    reports: list[LinkReport] | None = None,
    store: StateStore | None = None,
    wall: WallClock | None = None,
    tick: object = tick_asset,
    scenario: NoScenario = NO_SCENARIO,
    stopping: trio.Event | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> RunningAgent:
    """Start an agent at a wall time that is a multiple of its tick, so that it pulses after 0, 4, 8 ... s."""
    return await nursery.start(
        partial(
            run_agent,
            config or make_config(),
            dial=partial(headend.dial, nursery),
            wall=wall or WallClock(START_UNIX_S, trio.current_time()),
            rng=random.Random(7),
            report=(reports if reports is not None else []).append,
            store=store,
            tick=tick,
            scenario=scenario,
            stopping=stopping,
            on_ready=on_ready,
        )
    )


def make_payload(seq: int, ts_unix_ms: int) -> bytes:
    """A batch of one row, as the outbox keeps it."""
    batch = Batch(
        batch_seq=seq,
        ts_unix_ms=ts_unix_ms,
        asset_index=[0],
        soc_mwhr=[1.0],
        current_mw=[0.0],
        setpoint_mw=[0.0],
        available_discharge_mw=[0.0],
        available_charge_mw=[0.0],
    )
    return write_batch(batch).SerializeToString()


def newest_states(paths: Iterable[Path], asset_ids: Collection[str]) -> dict[str, tuple[int, SavedBattery]]:
    """What the next agents will find of these assets in the files of former ones."""
    with tempfile.TemporaryDirectory() as folder:
        gathered = Path(folder) / "gathered.db"
        gather_states(gathered, paths)
        return read_states(gathered, asset_ids)
