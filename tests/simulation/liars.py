"""Agents that lie: about values, the time, what they apply, and the order of their batches. From a seed.

They speak the protocol by the message. A liar about anything but values reports batteries that are idle and
can do nothing: what it says is true, and adds nothing to sums and splits.
"""

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

import trio

from trioder.domain.assets import Asset
from trioder.rpc import ClientCall, RpcError, open_channel
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import read_downlink
from trioder.wire.records import Setpoints
from trioder.wire.service import AGENT_LINK_STREAM

HOUR_MS = 3_600_000
Call = ClientCall[pb.AgentToHeadend, pb.HeadendToAgent]

LIES = ("values", "clock", "statuses", "sequence")
IMPOSSIBLE = [math.nan, math.inf, -math.inf, 1e9, -1e9, 1e308, -1e308]


class Liar:
    """One agent with a lie of its own.

    Args:
        lie: `values`, `clock`, `statuses` or `sequence`.
        assets: that it really drives; nobody else registers them.
        now_ms: the true time.
    """

    def __init__(
        self, lie: str, assets: Sequence[Asset], *, now_ms: Callable[[], int], rng: random.Random
    ) -> None:
        self.lie = lie
        self.assets = assets
        self.agent_id = f"liar-{lie}-{rng.getrandbits(32)}"
        self.sessions = 0
        self._outbox_id = f"outbox of {self.agent_id}"
        self._now_ms = now_ms
        self._rng = rng
        self._batch_seq = 0
        self._clock_off_ms = rng.choice([-400 * 24, -24, -1, 1, 24, 400 * 24]) * HOUR_MS

    async def run(self, dial: Callable[[], trio.abc.Stream], *, tick_s: float) -> None:
        """Lie until cancelled; a session that the headend ends is followed by another."""
        while True:
            try:
                async with (
                    dial() as stream,
                    open_channel(stream, authority="headend") as channel,
                    channel.open_call(AGENT_LINK_STREAM) as call,
                ):
                    self.sessions += 1
                    await self._session(call, tick_s)
            except* (RpcError, trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel):
                pass
            await trio.sleep(self._rng.uniform(0.5, 5.0))

    async def _session(self, call: Call, tick_s: float) -> None:
        await call.send(self._registration())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(self._answer, call, nursery.cancel_scope))
            while True:
                for message in self._pulse():
                    await call.send(message)
                await trio.sleep(tick_s)

    async def _answer(self, call: Call, scope: trio.CancelScope) -> None:
        async for message in call:
            match read_downlink(message):
                case Setpoints(setpoints=dispatches) if self.lie == "statuses":
                    for dispatch in dispatches:
                        await call.send(self._acknowledgement(dispatch.dispatch_id, dispatch.asset_id))
                case _:
                    pass
        scope.cancel()

    def _registration(self) -> pb.AgentToHeadend:
        register = pb.Register(
            assets=[pb.AssetDescriptor(asset_id=asset.id) for asset in self.assets],
            agent_id=self.agent_id,
            epoch=self._now_ms() + self.sessions,
            protocol=1,
            outbox_id=self._outbox_id,
        )
        if self.lie == "clock":
            register.clock_unix_ms = self._wrong_ms()
        return pb.AgentToHeadend(register=register)

    def _pulse(self) -> list[pb.AgentToHeadend]:
        rng = self._rng
        self._batch_seq += 1
        batch = pb.TelemetryBatch(
            batch_seq=self._batch_seq,
            ts_unix_ms=self._wrong_ms() if self.lie == "clock" else self._now_ms(),
            asset_index=range(len(self.assets)),
        )
        rows = len(self.assets)
        for column, honest in (
            (batch.soc_mwhr, 20.0),
            (batch.current_mw, 0.0),
            (batch.setpoint_mw, 0.0),
            (batch.available_discharge_mw, 0.0),
            (batch.available_charge_mw, 0.0),
        ):
            column.extend([honest] * rows)
        if self.lie == "values":
            for row in range(rows):
                column = rng.choice([batch.soc_mwhr, batch.current_mw])
                column[row] = rng.choice(IMPOSSIBLE)
                batch.available_discharge_mw[row] = rng.choice([10.0, 1e9, math.nan, -5.0])
        message = pb.AgentToHeadend(telemetry_batch=batch)
        if self.lie == "clock":
            heartbeat = pb.Heartbeat(clock_unix_ms=self._wrong_ms())
            return [message, pb.AgentToHeadend(heartbeat=heartbeat)]
        if self.lie == "sequence":
            return self._out_of_sequence(message)
        if self.lie == "statuses":
            invented = str(UUID(int=rng.getrandbits(128), version=4))
            return [message, self._acknowledgement(invented, rng.choice(self.assets).id)]
        return [message]

    def _out_of_sequence(self, message: pb.AgentToHeadend) -> list[pb.AgentToHeadend]:
        rng = self._rng
        other = pb.AgentToHeadend()
        other.CopyFrom(message)
        match rng.randrange(5):
            case 0:  # twice
                return [message, other]
            case 1:  # backwards
                other.telemetry_batch.batch_seq = max(1, self._batch_seq - rng.randrange(1, 40))
                return [message, other]
            case 2:  # far ahead
                other.telemetry_batch.batch_seq = self._batch_seq + rng.choice([2, 1000, 2**40])
                return [other]
            case 3:  # a gap that was never announced
                self._batch_seq += 7
                other.telemetry_batch.batch_seq = self._batch_seq
                return [other]
            case _:  # another outbox in the next session
                if rng.random() < 0.2:
                    self._outbox_id = f"outbox {rng.getrandbits(64)}"
                return [message]

    def _acknowledgement(self, dispatch_id: str, asset_id: str) -> pb.AgentToHeadend:
        status = self._rng.choice(["applied", "completed", "rejected", "done!", "ACTIVE", "", "ok"])
        return pb.AgentToHeadend(
            dispatch_ack=pb.DispatchAck(
                dispatch_id=dispatch_id,
                asset_id=asset_id,
                status=status or "?",
                timestamp="2027-01-15T08:00:01Z",
                setpoint_mw=self._rng.choice([0.0, 1e8, -3.0]),
                remaining_s=self._rng.choice([0.0, 1e8]),
            )
        )

    def _wrong_ms(self) -> int:
        if self._rng.random() < 0.05:
            self._clock_off_ms = self._rng.choice([-1, 1]) * self._rng.choice([2_000, HOUR_MS, 24 * HOUR_MS])
        return max(1, self._now_ms() + self._clock_off_ms)
