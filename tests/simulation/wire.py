"""A wire between two programs in virtual time: it delays, falls silent, and is cut, noticed or not."""

from collections import deque

import trio

# What a sender may have under way before it waits, like the buffers of two sockets.
_BUFFER_BYTES = 256 * 1024


class _Lane:
    """One direction."""

    def __init__(self, wire: "Wire") -> None:
        self._wire = wire
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._last_arrival_s = 0.0
        self._changed = trio.lowlevel.ParkingLot()
        self.ended = False
        self.reader_closed = False
        self.reader_cut = False
        self.writer_cut = False

    def change(self) -> None:
        self._changed.unpark_all()

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        while not (self.writer_cut or self.reader_closed) and self._size > _BUFFER_BYTES:
            await self._changed.park()
        if self.ended:
            raise trio.ClosedResourceError
        if self.writer_cut or self.reader_closed:
            raise trio.BrokenResourceError("the wire was cut")
        # Whatever the delay, bytes arrive in order.
        self._last_arrival_s = max(self._last_arrival_s, trio.current_time() + self._wire.delay_s)
        self._chunks.append((self._last_arrival_s, data))
        self._size += len(data)
        self.change()

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            if self.reader_closed:
                raise trio.ClosedResourceError
            if self.reader_cut:
                raise trio.BrokenResourceError("the wire was cut")
            due_s = float("inf")
            if not self._wire.silent:
                if self._chunks:
                    due_s = self._chunks[0][0]
                    if due_s <= trio.current_time():
                        _, data = self._chunks.popleft()
                        self._size -= len(data)
                        self.change()
                        return data
                elif self.ended:
                    return b""
            with trio.move_on_at(due_s):
                await self._changed.park()


class WireEnd(trio.abc.Stream):
    """What a program holds of a wire."""

    def __init__(self, *, incoming: _Lane, outgoing: _Lane) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._outgoing.send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._incoming.receive()

    async def aclose(self) -> None:
        self._outgoing.ended = True
        self._incoming.reader_closed = True
        self._outgoing.change()
        self._incoming.change()
        await trio.lowlevel.checkpoint()

    def notice_cut(self) -> None:
        self._incoming.reader_cut = True
        self._outgoing.writer_cut = True
        self._incoming.change()
        self._outgoing.change()


class Wire:
    """Two ends.

    Attributes:
        near: the agent's end.
        far: the headend's.
        delay_s: how long bytes that are sent now are under way.
        silent: nothing arrives, nobody is reported.
    """

    def __init__(self, *, delay_s: float) -> None:
        there, back = _Lane(self), _Lane(self)
        self.near = WireEnd(incoming=back, outgoing=there)
        self.far = WireEnd(incoming=there, outgoing=back)
        self.delay_s = delay_s
        self.silent = False
        self._lanes = there, back

    def fall_silent(self) -> None:
        self.silent = True

    def speak_again(self) -> None:
        """What was under way arrives after all."""
        self.silent = False
        for lane in self._lanes:
            lane.change()

    def cut(self, *, near_notices: bool = True, far_notices: bool = True) -> None:
        """Nothing passes any more; who does not notice has a half-open connection."""
        self.silent = True
        if near_notices:
            self.near.notice_cut()
        if far_notices:
            self.far.notice_cut()
