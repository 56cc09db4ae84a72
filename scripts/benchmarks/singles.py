"""Agents that send no batches: one message a sample, which nobody acknowledges.

What a headend cannot keep of such it drops. So that none is, and the database is what paces them, all agents
together have a bounded number of samples under way: those that the database does not have yet.
"""

import time
from collections.abc import Sequence

import psycopg
import trio

from scripts.benchmarks.gates import Gates
from trioder.domain.assets import Asset
from trioder.process.addresses import Address
from trioder.process.rfc3339 import format_ms
from trioder.rpc import connect, open_channel
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.downlink import read_downlink
from trioder.wire.records import SessionGrant
from trioder.wire.service import AGENT_LINK_STREAM, PROTOCOL
from trioder.wire.uplink import write_registration

# Less than half of what the headend keeps of this kind before it drops any: the database may have so many
# before the headend has let go of them, and as many again may come meanwhile. With 40,000 neither server nor
# load is busy all the time.
UNDER_WAY = 140_000
_LOOK_EVERY_S = 0.005
# The outbox of a headend's own counts the samples that came without one, in the transaction that keeps them.
_COMMITTED = "SELECT coalesce(sum(batch_seq), 0) FROM ingest_watermarks"


class Uncommitted:
    """How many samples all agents may send before more are committed.

    Attributes:
        sent: all so far.
        committed: of those, what the database has.
        last_committed_s: when the last rise of what is committed was seen, on `time.perf_counter()`.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.last_committed_s = 0.0
        self.committed = 0
        self._news = trio.Event()

    async def room(self) -> None:
        """Wait until another sample may be sent, and count it."""
        while self.sent - self.committed >= UNDER_WAY:
            await self._news.wait()
        self.sent += 1

    async def all_committed(self) -> None:
        """Wait until everything that was sent is committed."""
        while self.committed < self.sent:
            await self._news.wait()

    async def follow(self, url: str) -> None:
        """Look what is committed, until cancelled."""
        with psycopg.connect(url, autocommit=True) as connection:
            while True:
                found = connection.execute(_COMMITTED).fetchone()
                committed = 0 if found is None else int(found[0])
                if committed > self.committed:
                    self.committed = committed
                    self.last_committed_s = time.perf_counter()
                    news, self._news = self._news, trio.Event()
                    news.set()
                await trio.sleep(_LOOK_EVERY_S)


class SingleStream:
    """One agent's stream: a message an asset made once, of which only the time changes.

    Attributes:
        registered: set once the session stands.
        settled: set once everything that all streams sent is committed.
    """

    def __init__(self, number: int, assets: Sequence[Asset], uncommitted: Uncommitted) -> None:
        self.first_sent_s = 0.0
        self.registered = trio.Event()
        self.settled = trio.Event()
        self._uncommitted = uncommitted
        self._registration = write_registration(
            agent_id=f"bench-{number}", epoch=1, protocol=PROTOCOL, outbox_id="", assets=assets
        )
        self._messages = [_message_of(asset) for asset in assets]

    @property
    def standing(self) -> str:
        """How far all streams are, in words."""
        return f"{self._uncommitted.sent} samples sent, {self._uncommitted.committed} committed"

    async def run(self, headend: Address, *, gates: Gates) -> None:
        """Register, and then send; the stream is closed when all streams are done."""
        connection = await connect(headend.host, headend.port)
        async with (
            open_channel(connection, authority=str(headend)) as channel,
            channel.open_call(AGENT_LINK_STREAM) as call,
        ):
            # As agents do: their samples need not show their clock then.
            self._registration.register.clock_unix_ms = time.time_ns() // 1_000_000
            await call.send(self._registration)
            granted = read_downlink(await call.receive())
            if not isinstance(granted, SessionGrant):
                raise TypeError(f"the headend answered a registration with {granted}")
            self.registered.set()
            await gates.begin.wait()
            self.first_sent_s = time.perf_counter()
            newest_ms = 0
            while trio.current_time() < gates.until_s:
                # As fast as it goes, and no two samples of an asset at the same time.
                newest_ms = max(newest_ms + 1, time.time_ns() // 1_000_000)
                timestamp = format_ms(newest_ms)
                for message in self._messages:
                    await self._uncommitted.room()
                    message.telemetry.timestamp = timestamp
                    await call.send(message)
            await self._uncommitted.all_committed()
            self.settled.set()
            await gates.close.wait()
            await call.done_sending()


def _message_of(asset: Asset) -> pb.AgentToHeadend:
    return pb.AgentToHeadend(
        telemetry=pb.Telemetry(
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
    )
