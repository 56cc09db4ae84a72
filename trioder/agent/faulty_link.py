"""The connection to the headend with the faults of a scenario: cut, silent, slow.

It wraps the dial function, and the streams that it returns. Nothing here runs by itself:
`trioder.agent.scenario` begins and ends the faults.
"""

from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import trio

from trioder.access.tls_stream import TlsStream

Dial = Callable[[], Awaitable[trio.abc.Stream]]

_CUT = "the scenario cut the link"


class _Slowness(NamedTuple):
    delay_s: float
    bytes_per_s: float

    def time_s(self, size: int) -> float:
        return self.delay_s + (size / self.bytes_per_s if self.bytes_per_s else 0.0)


class FaultyLink:
    """The faults of one agent's link.

    Args:
        dial: connects to the headend without any fault.
    """

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._cuts: set[Hashable] = set()
        self._silences: set[Hashable] = set()
        self._slownesses: dict[Hashable, _Slowness] = {}
        self._streams: set[FaultyStream] = set()
        # Closed by the agent during a silence, of which the headend must not be notified.
        self._left_open: list[trio.abc.Stream] = []
        self._spoken = trio.Event()

    async def dial(self) -> trio.abc.Stream:
        """Connect to the headend over this link.

        Raises:
            OSError: the link is cut, or the headend cannot be reached.
        """
        await self.transfer(0)
        if self._cuts:
            raise OSError(_CUT)
        stream = await self._dial()
        if isinstance(stream, TlsStream):
            # The link is below TLS, whose handshake is still to come.
            stream.transport_stream = self._faulty(stream.transport_stream)
            return stream
        return self._faulty(stream)

    def _faulty(self, below: trio.abc.Stream) -> "FaultyStream":
        stream = FaultyStream(below, self)
        self._streams.add(stream)
        return stream

    def cut(self, key: Hashable) -> None:
        """Break the connection, and refuse others until `restore`."""
        self._cuts.add(key)
        self.break_connections()

    def break_connections(self) -> None:
        """Break the connection once: both ends notice."""
        for stream in self._streams:
            stream.break_()

    def silence(self, key: Hashable) -> None:
        """Let nothing pass until `restore`; neither end is notified."""
        self._silences.add(key)
        self._spoken = trio.Event()

    def slow_down(self, key: Hashable, *, delay_s: float, bytes_per_s: float) -> None:
        """Delay what passes until `restore`.

        Args:
            key: of the fault.
            delay_s: at least, each way.
            bytes_per_s: each way; 0 is unlimited.
        """
        self._slownesses[key] = _Slowness(delay_s, bytes_per_s)

    async def restore(self, key: Hashable) -> None:
        """End a fault; what was under way during a silence arrives."""
        self._cuts.discard(key)
        self._slownesses.pop(key, None)
        if key not in self._silences:
            return
        self._silences.discard(key)
        if not self._silences:
            self._spoken.set()
            left_open, self._left_open = self._left_open, []
            for stream in left_open:
                await stream.aclose()

    async def transfer(self, size: int) -> None:
        """Take the time that `size` bytes take, and a silence."""
        time_s = sum(slowness.time_s(size) for slowness in self._slownesses.values())
        if time_s:
            await trio.sleep(time_s)
        while self._silences:
            await self._spoken.wait()

    async def close(self, stream: "FaultyStream", below: trio.abc.Stream) -> None:
        """Close a connection; during a silence the headend's end stays open."""
        self._streams.discard(stream)
        if self._silences:
            self._left_open.append(below)
            await trio.lowlevel.checkpoint()
        else:
            await below.aclose()


class FaultyStream(trio.abc.Stream):
    """A connection over a faulty link.

    Args:
        below: the connection.
        link: its faults.
    """

    def __init__(self, below: trio.abc.Stream, link: FaultyLink) -> None:
        self._below = below
        self._link = link
        self._scopes: set[trio.CancelScope] = set()
        self._is_broken = False
        self._is_closed = False

    def break_(self) -> None:
        """Fail whatever is done with it from now on."""
        self._is_broken = True
        for scope in self._scopes:
            scope.cancel()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send the data; they are slow, or wait for the end of a silence."""
        with self._unbroken():
            await self._link.transfer(len(data))
            await self._below.send_all(data)
            return
        raise trio.BrokenResourceError(_CUT)

    async def wait_send_all_might_not_block(self) -> None:
        """See Trio's."""
        with self._unbroken():
            await self._below.wait_send_all_might_not_block()
            return
        raise trio.BrokenResourceError(_CUT)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return the next data, late, or after the end of a silence."""
        with self._unbroken():
            data = await self._below.receive_some(max_bytes)
            await self._link.transfer(len(data))
            return data
        raise trio.BrokenResourceError(_CUT)

    async def aclose(self) -> None:
        """Close it; a silent link does not pass that on until it speaks again."""
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._is_closed = True
        for scope in self._scopes:
            scope.cancel()
        await self._link.close(self, self._below)

    @contextmanager
    def _unbroken(self) -> Iterator[None]:
        """Left early, without an exception, when the link is cut."""
        if self._is_closed:
            raise trio.ClosedResourceError
        with trio.CancelScope() as scope:
            if self._is_broken:
                scope.cancel()
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)
