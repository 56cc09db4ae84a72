"""The send side of a connection, shared by its calls: pending bytes, and back-pressure on the senders."""

from contextlib import suppress

import trio

from trioder.rpc.core import Core
from trioder.rpc.options import ConnectionOptions

# A peer that reads nothing of a chunk within the connection's time limit is closed.
_CHUNK_BYTES = 256 * 1024


class Outbound:
    """Sends what the state machine has pending. One task calls `wait_pending` and `send_pending`.

    Attributes:
        core: the state machine; after a call of it that writes, call `flush_soon`.
        in_flight_bytes: passed to the transport, and not yet written.
        closed: nothing is acknowledged and no sender waits any more.
    """

    def __init__(self, transport: trio.abc.Stream, core: Core, options: ConnectionOptions) -> None:
        self.core = core
        self.in_flight_bytes = 0
        self.closed = False
        self._transport = transport
        self._limit_bytes = options.outbound_bytes
        self._pending = trio.Event()
        self._pending.set()  # the preface and our settings are sent at once
        self._senders = trio.lowlevel.ParkingLot()
        # When the write in progress began, on Trio's clock; None between writes.
        self._write_began_s: float | None = None

    def flush_soon(self) -> None:
        """Have the writer send what is pending, and what is added until it runs."""
        self._pending.set()

    def acknowledge(self, stream_id: int, flow_controlled_length: int) -> None:
        """Open the flow-control windows by as much."""
        if not self.closed:
            self.core.acknowledge(stream_id, flow_controlled_length)
            self.flush_soon()

    @property
    def full(self) -> bool:
        """Whether senders have to wait for the transport."""
        return self.core.pending_bytes > self._limit_bytes and not self.closed

    async def wait_for_room(self) -> None:
        """Wait while more than the limit is pending."""
        while self.full:
            await self._senders.park()

    def wake_senders(self) -> None:
        """Let all that wait for room check again."""
        self._senders.unpark_all()

    async def wait_pending(self) -> None:
        """Wait until `flush_soon` was called."""
        await self._pending.wait()
        self._pending = trio.Event()

    async def send_pending(self) -> bool:
        """Send what is pending in one write, or in chunks; return False when there was nothing."""
        data = self.core.data_to_send()
        if not data:
            return False
        self.in_flight_bytes = len(data)
        for start in range(0, len(data), _CHUNK_BYTES):
            # The keepalive checks the time limit: a cancel scope a write costs as much as a small write.
            self._write_began_s = trio.current_time()
            await self._transport.send_all(
                data if len(data) <= _CHUNK_BYTES else data[start : start + _CHUNK_BYTES]
            )
        self._write_began_s = None
        self.in_flight_bytes = 0
        self.wake_senders()
        return True

    async def send_last(self) -> None:
        """Send what is pending after the writer has ended, unless it was cancelled inside a write."""
        if self._write_began_s is None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self.send_pending()

    @property
    def blocked_s(self) -> float:
        """How long the write in progress has taken."""
        return 0.0 if self._write_began_s is None else trio.current_time() - self._write_began_s
