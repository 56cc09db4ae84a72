"""TLS over streams in memory and over sockets: data, closing, pacing, failures."""

import ssl
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
import trio.testing

from tests.unit.access.certificates import Authority
from trioder.access.tls import ClientTls, ServerTls
from trioder.access.tls_stream import StepPacer, TlsStream

LARGE = bytes(range(256)) * 10_000


class Contexts(NamedTuple):
    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture
def contexts(tmp_path: Path) -> Contexts:
    authority = Authority(tmp_path)
    return Contexts(
        ServerTls(*authority.issue("localhost"), authority.file).context,
        ClientTls(*authority.issue("agent", file="agent"), authority.file).context,
    )


class Passes(trio.abc.Instrument):
    """Counts the passes of the event loop."""

    count = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count += 1


class Ends(NamedTuple):
    server: TlsStream
    client: TlsStream
    transport_of_client: trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


async def connected(contexts: Contexts) -> Ends:
    at_server, at_client = trio.testing.memory_stream_pair()
    ends = Ends(
        TlsStream(at_server, contexts.server),
        TlsStream(at_client, contexts.client, server_hostname="localhost"),
        at_client,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.server.do_handshake)
        nursery.start_soon(ends.client.do_handshake)
    return ends


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(chunk) async for chunk in stream])


async def test_large_data_passes_both_ways_at_once(contexts: Contexts, autojump_clock: object) -> None:
    server, client, _ = await connected(contexts)
    received: dict[str, bytes] = {}

    async def send(stream: TlsStream) -> None:
        await stream.send_all(LARGE)
        await stream.send_eof()

    async def receive(name: str, stream: TlsStream) -> None:
        received[name] = await read_all(stream)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for name, stream in [("server", server), ("client", client)]:
                nursery.start_soon(send, stream)
                nursery.start_soon(receive, name, stream)
    assert received == {"server": LARGE, "client": LARGE}


async def test_no_more_is_received_than_was_asked_for(contexts: Contexts) -> None:
    server, client, _ = await connected(contexts)
    await client.send_all(b"abcdef")
    assert [await server.receive_some(4), await server.receive_some(4)] == [b"abcd", b"ef"]


async def test_data_follows_the_end_of_the_other_direction(contexts: Contexts) -> None:
    server, client, _ = await connected(contexts)
    await client.send_eof()
    assert await server.receive_some() == b""
    await server.send_all(b"late")
    assert await client.receive_some() == b"late"


async def test_a_transport_that_ends_without_a_closure_alert_ends_the_stream(contexts: Contexts) -> None:
    server, client, transport = await connected(contexts)
    await client.send_all(b"last")
    await transport.send_eof()
    assert await read_all(server) == b"last"


async def test_closing_sends_a_closure_alert(contexts: Contexts) -> None:
    server, client, _ = await connected(contexts)
    await client.aclose()
    assert await server.receive_some() == b""
    with pytest.raises(trio.ClosedResourceError):
        await client.send_all(b"more")


async def test_a_forged_record_breaks_the_stream(contexts: Contexts) -> None:
    server, _, transport = await connected(contexts)
    await transport.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError) as caught:
            await server.receive_some()
        assert isinstance(caught.value.__cause__, ssl.SSLError)


async def test_what_arrived_before_a_forged_record_is_received(contexts: Contexts) -> None:
    server, client, transport = await connected(contexts)
    await client.send_all(b"genuine")
    await transport.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert await server.receive_some() == b"genuine"
    with pytest.raises(trio.BrokenResourceError):
        await server.receive_some()


async def test_a_cancelled_receive_loses_nothing(contexts: Contexts, autojump_clock: object) -> None:
    server, client, _ = await connected(contexts)
    with trio.move_on_after(1):
        await server.receive_some()
    await client.send_all(b"whole")
    assert await server.receive_some() == b"whole"


async def test_receiving_buffered_data_is_a_checkpoint(contexts: Contexts) -> None:
    server, client, _ = await connected(contexts)
    await client.send_all(b"ab")
    await server.receive_some(1)
    with trio.testing.assert_checkpoints():
        await server.receive_some(1)


async def test_a_failed_handshake_is_reported_to_the_peer(contexts: Contexts, tmp_path: Path) -> None:
    other = ClientTls(*Authority(tmp_path, "other").issue("agent"), tmp_path / "ca.crt").context
    at_server, at_client = trio.testing.memory_stream_pair()
    server = TlsStream(at_server, contexts.server)
    client = TlsStream(at_client, other, server_hostname="localhost")

    async def serve() -> None:
        with pytest.raises(trio.BrokenResourceError, match="CERTIFICATE_VERIFY_FAILED"):
            await server.do_handshake()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            # By TLS 1.3 the client is done before the server has verified its certificate.
            await client.do_handshake()
            with pytest.raises(trio.BrokenResourceError, match="UNKNOWN_CA"):
                await client.receive_some()
            await client.aclose()


async def test_a_failed_handshake_waits_a_second_at_most_for_the_peer(
    contexts: Contexts, autojump_clock: trio.testing.MockClock
) -> None:
    at_server, at_client = trio.testing.memory_stream_pair()
    await at_client.send_all(b"GET / HTTP/1.1\r\n\r\n")
    begin_s = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        await TlsStream(at_server, contexts.server).do_handshake()
    assert trio.current_time() - begin_s == pytest.approx(1)


async def test_steps_of_handshakes_take_turns_one_a_pass(contexts: Contexts) -> None:
    pacer = StepPacer()
    passes = Passes()
    steps: list[int] = []

    async def pace() -> None:
        await pacer.wait()
        steps.append(passes.count)

    async def shake_hands() -> None:
        at_server, at_client = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as both:
            both.start_soon(TlsStream(at_server, contexts.server, pace=pace).do_handshake)
            both.start_soon(TlsStream(at_client, contexts.client, server_hostname="localhost").do_handshake)

    trio.lowlevel.add_instrument(passes)
    async with trio.open_nursery() as handshakes:
        for _ in range(10):
            handshakes.start_soon(shake_hands)

    # Two steps each, and no two in the same pass.
    assert len(steps) == len(set(steps)) == 20
