"""Our client and server over real sockets: many, broken."""

import trio

from tests.integration.rpc.conftest import Serve
from tests.unit.rpc.probe import FLOOD, HANG, UNARY, call_unary, message
from trioder.rpc import ConnectionOptions, connect, open_channel


async def test_a_thousand_connections_are_served(serve: Serve) -> None:
    answers: set[bytes] = set()
    everyone_is_here = trio.Event()
    # Both sides are this process: on a busy machine all are silent for the seconds that the others take.
    patient = ConnectionOptions(ping_timeout_s=60.0)

    async def ask(port: int, number: int) -> None:
        stream = await connect("127.0.0.1", port)
        async with open_channel(stream, authority="probe", options=patient) as channel:
            answers.add((await call_unary(channel, UNARY, message(b"%d" % number))).value)
            if len(answers) == 1000:
                everyone_is_here.set()
            await everyone_is_here.wait()

    async with serve(options=patient) as server, trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(ask, server.port, number)

    assert len(answers) == 1000


async def test_a_lost_connection_cancels_the_handler_at_once(serve: Serve) -> None:
    async with serve() as server:
        stream = await connect("127.0.0.1", server.port)
        async with open_channel(stream, authority="probe") as channel, channel.open_call(HANG):
            await server.probe.hung.wait()
            await trio.aclose_forcefully(stream)
            with trio.fail_after(2):
                await server.probe.cancelled.wait()


async def test_a_client_that_stops_reading_stops_only_its_own_handler(serve: Serve) -> None:
    bounded = ConnectionOptions(outbound_bytes=64 * 1024)
    async with serve(options=bounded) as server:
        deaf = await connect("127.0.0.1", server.port)
        hearing = await connect("127.0.0.1", server.port)
        async with (
            open_channel(hearing, authority="probe") as channel,
            open_channel(_Deaf(deaf), authority="probe") as flooded,
            flooded.open_call(FLOOD) as call,
        ):
            await call.send(message(b""))
            await call.done_sending()
            last = -1
            while last != server.probe.flooded or last == 0:
                last = server.probe.flooded
                await trio.sleep(0.2)
            assert (await call_unary(channel, UNARY, message(b"on"))).value == b"on"

    # A client's window and the buffers of the socket, in messages of 1000 bytes.
    assert server.probe.flooded < 10_000


class _Deaf(trio.abc.Stream):
    """A stream that reads nothing after the first bytes."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._heard = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._heard:
            await trio.sleep_forever()
        self._heard = True
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()
