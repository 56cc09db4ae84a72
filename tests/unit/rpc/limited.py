"""A server whose peers share limits, and clients of it that send frames as they please."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import h2.events
import trio
import trio.testing

from tests.unit.rpc.probe import DEFAULTS, HANG, Probe, message, probe_method
from tests.unit.rpc.raw_peer import REQUEST, Fields, RawClient
from trioder.rpc import ConnectionOptions, PeerLimits, PeerOptions, ServerCall, Services, serve_connection
from trioder.rpc.framing import framed

REGISTER = probe_method("Register", client_streaming=True, server_streaming=True)
FIRST_MESSAGE_BYTES = 300_000


def calling(name: str) -> Fields:
    return [(key, f"/probe.Probe/{name}" if key == ":path" else value) for key, value in REQUEST]


def written(count: int) -> bytes:
    """A message of some `count` bytes, framed."""
    return framed(message(bytes(count)).SerializeToString())


class Limited:
    """The server: the probe, and a method that registers its peer and then hangs."""

    def __init__(self, options: PeerOptions, nursery: trio.Nursery, connection: ConnectionOptions) -> None:
        self.limits = PeerLimits(options)
        self.probe = Probe()
        self._nursery = nursery
        self._connection = connection
        self._leave = trio.Event()

    @property
    def services(self) -> Services:
        return Services(
            {**self.probe.handlers, REGISTER: self._register},
            first_message_bytes={REGISTER: lambda: FIRST_MESSAGE_BYTES},
        )

    async def client(self, address: str = "192.0.2.1") -> RawClient:
        """Return a client that is connected, perhaps not yet served."""
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, theirs, address)
        client = RawClient(ours)
        await client.flush()
        await trio.testing.wait_all_tasks_blocked()
        return client

    async def registered(self, address: str = "192.0.2.1") -> RawClient:
        """Return a client that is registered."""
        client = await self.client(address)
        await self.register(client)
        return client

    async def register(self, client: RawClient) -> int:
        """Register a client; return the stream of the call that does it."""
        stream_id: int = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream_id, calling("Register"))
        client.h2.send_data(stream_id, written(10))
        await client.receive()
        return stream_id

    async def _serve(self, stream: trio.abc.Stream, address: str) -> None:
        budget = self.limits.open_budget(address)
        with budget.scope:
            async with self.limits.serving(budget):
                await serve_connection(stream, self.services, options=self._connection, budget=budget)

    async def _register(self, call: ServerCall[Any, Any]) -> None:
        await call.receive()
        call.register_peer(max_message_bytes=FIRST_MESSAGE_BYTES)
        await call.send(message(b"welcome"))
        await self.probe.handlers[HANG](call)


@asynccontextmanager
async def open_limited(*, connection: ConnectionOptions = DEFAULTS, **options: Any) -> AsyncIterator[Limited]:
    """Yield a server with these `PeerOptions`; a test that hangs fails after a virtual hour."""
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            server = Limited(PeerOptions(**options), nursery, connection)
            nursery.start_soon(server.limits.sweep)
            yield server
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def counted_passes(count: Callable[[], int]) -> AsyncIterator[list[int]]:
    """Yield a list that gets, for each pass of the event loop, by how much `count` grew in it."""
    grown: list[int] = []

    async def watch() -> None:
        last = count()
        while True:
            await trio.lowlevel.checkpoint()
            now = count()
            grown.append(now - last)
            last = now

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        yield grown
        nursery.cancel_scope.cancel()


def goaways(client: RawClient) -> list[int]:
    return [int(e.error_code) for e in client.events if isinstance(e, h2.events.ConnectionTerminated)]


async def until_answered(client: RawClient) -> float:
    """Return the time at which a request is answered."""
    stream_id = await client.request(calling("Unary"))
    while "grpc-status" not in client.fields_on(stream_id):
        await client.receive()
    return trio.current_time()


class Passes(trio.abc.Instrument):
    """Counts the passes of the event loop."""

    count = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count += 1
