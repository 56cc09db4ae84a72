"""Our client and server over real sockets: many, encrypted, broken."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from tests.integration.rpc.conftest import GrpcioServer, Serve
from tests.unit.rpc.probe import FLOOD, HANG, UNARY, Probe, call_unary, message
from trioder.rpc import ConnectionOptions, RpcError, StatusCode, connect, open_channel, serve_rpc


async def test_a_thousand_connections_are_served(serve: Serve) -> None:
    answers: set[bytes] = set()
    everyone_is_here = trio.Event()

    async def ask(port: int, number: int) -> None:
        async with open_channel(await connect("127.0.0.1", port), authority="probe") as channel:
            answers.add((await call_unary(channel, UNARY, message(b"%d" % number))).value)
            if len(answers) == 1000:
                everyone_is_here.set()
            await everyone_is_here.wait()

    async with serve() as server, trio.open_nursery() as nursery:
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
        self._received = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._received:
            await trio.sleep_forever()
        self._received = True
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Tls:
    """Certificates of one authority."""

    def __init__(self, alpn: list[str]) -> None:
        authority = trustme.CA()
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.client = ssl.create_default_context()
        self.server_cert = authority.issue_cert("localhost")
        self.client_cert = authority.issue_cert("agent-7.example")
        self.authority = authority
        self.server_cert.configure_cert(self.server)
        self.client_cert.configure_cert(self.client)
        for context in (self.server, self.client):
            authority.configure_trust(context)
            context.set_alpn_protocols(alpn if context is self.client else ["h2"])
        self.server.verify_mode = ssl.CERT_REQUIRED


@asynccontextmanager
async def tls_server(tls: _Tls) -> AsyncIterator[tuple[int, Probe]]:
    probe = Probe()
    listeners = await trio.open_ssl_over_tcp_listeners(0, tls.server, host="127.0.0.1")
    port: int = listeners[0].transport_listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_rpc, listeners, probe.services, drain=trio.Event()))
        with trio.fail_after(10):
            await trio.lowlevel.checkpoint()
            yield port, probe
        nursery.cancel_scope.cancel()


async def test_a_handler_sees_the_certificate_of_its_client() -> None:
    tls = _Tls(["h2"])
    async with tls_server(tls) as (port, probe):
        stream = await connect("localhost", port, ssl_context=tls.client)
        async with open_channel(stream, authority="localhost") as channel:
            assert (await call_unary(channel, UNARY, message(b"sealed"))).value == b"sealed"

    assert probe.last_call is not None
    shown = ssl.DER_cert_to_PEM_cert(probe.last_call.peer.certificate or b"")
    assert shown.strip() == tls.client_cert.cert_chain_pems[0].bytes().decode().strip()


async def test_a_tls_peer_without_h2_is_refused() -> None:
    tls = _Tls(["http/1.1"])
    async with tls_server(tls) as (port, _):
        stream = await connect("localhost", port, ssl_context=tls.client)
        with pytest.raises(RpcError) as caught:
            async with open_channel(stream, authority="localhost"):
                pass

    assert caught.value.status is StatusCode.UNAVAILABLE


async def test_a_server_that_is_not_trusted_is_unavailable() -> None:
    tls = _Tls(["h2"])
    stranger = _Tls(["h2"])
    async with tls_server(tls) as (port, _):
        stream = await connect("localhost", port, ssl_context=stranger.client)
        with pytest.raises(RpcError, match="certificate"):
            async with open_channel(stream, authority="localhost"):
                pass


async def test_our_client_and_a_grpcio_server_agree_on_tls(tmp_path: Path) -> None:
    tls = _Tls(["h2"])
    cert, key, authority = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    cert.write_bytes(b"".join(pem.bytes() for pem in tls.server_cert.cert_chain_pems))
    key.write_bytes(tls.server_cert.private_key_pem.bytes())
    authority.write_bytes(tls.authority.cert_pem.bytes())
    server = GrpcioServer(cert, key, authority)
    try:
        with trio.fail_after(10):
            stream = await connect("localhost", server.port, ssl_context=tls.client)
            async with open_channel(stream, authority="localhost") as channel:
                assert (await call_unary(channel, UNARY, message(b"sealed"))).value == b"sealed"
    finally:
        server.close()
