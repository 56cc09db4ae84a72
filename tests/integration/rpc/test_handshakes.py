"""Handshakes on the gRPC port: their time limit, what they are charged, how many at once."""

import random
import ssl
from contextlib import AsyncExitStack

import pytest
import trio

from tests.integration.rpc.tls_rig import channel_to, logged, refusal, serving
from tests.unit.rpc.probe import UNARY, call_unary, message
from trioder.access.tls import ClientTls, ServerTls
from trioder.rpc import (
    PeerLimits,
    PeerOptions,
    RpcError,
    connect,
    open_channel,
)
from trioder.rpc.peer_limits import CONNECTION_BYTES, TLS_BYTES


@pytest.fixture
def hello(client_tls: ClientTls) -> bytes:
    """The first flight of a handshake."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client_tls.context.wrap_bio(received, sent, server_hostname="localhost").do_handshake()
    return sent.read()


async def test_a_handshake_has_a_time_limit(
    server_tls: ServerTls, hello: bytes, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, object]]
) -> None:
    monkeypatch.setattr("trioder.rpc.server._HANDSHAKE_WITHIN_S", 0.5)
    async with serving(server_tls) as server, await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        await stream.send_all(hello)
        while await stream.receive_some():
            pass
        assert "took too long" in await logged(logs, server)


async def test_a_client_s_handshake_has_a_time_limit(
    client_tls: ClientTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioder.rpc.client._HANDSHAKE_WITHIN_S", 0.5)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        assert "took too long" in (await refusal(port, client_tls)).message


async def test_clients_that_began_together_give_up_one_after_another(
    client_tls: ClientTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioder.rpc.client._HANDSHAKE_WITHIN_S", 0.3)
    ended_s: list[float] = []
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def wait(seed: int) -> None:
        stream = await connect("localhost", listener.socket.getsockname()[1], ssl_context=client_tls.context)
        with pytest.raises(RpcError, match="took too long"):
            async with open_channel(stream, authority="localhost", rng=random.Random(seed)):
                pass
        ended_s.append(trio.current_time())

    async with listener:
        began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for seed in range(20):
                nursery.start_soon(wait, seed)
    assert ended_s[0] - began_s >= 0.3
    assert ended_s[-1] - ended_s[0] > 0.2


async def test_an_unfinished_handshake_is_charged_until_it_ends(server_tls: ServerTls, hello: bytes) -> None:
    async with serving(server_tls) as server:
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            await stream.send_all(hello)
            await stream.receive_some()
            assert server.limits.used_bytes == CONNECTION_BYTES + TLS_BYTES
        while server.limits.connections:
            await trio.sleep(0.01)
        assert server.limits.used_bytes == 0


async def test_handshakes_that_stop_halfway_hold_no_place_of_their_address(
    client_tls: ClientTls, server_tls: ServerTls, hello: bytes
) -> None:
    limits = PeerLimits(PeerOptions(max_unregistered_per_address=1))
    async with serving(server_tls, limits=limits) as server, AsyncExitStack() as stalled:
        for _ in range(40):
            stream = await stalled.enter_async_context(await trio.open_tcp_stream("127.0.0.1", server.port))
            await stream.send_all(hello)
        with trio.fail_after(5):
            async with channel_to(server.port, client_tls) as channel:
                await call_unary(channel, UNARY, message(b"on"))


async def test_handshakes_beyond_those_of_an_address_wait_without_a_time_limit(
    client_tls: ClientTls, server_tls: ServerTls, hello: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioder.rpc.turns._HANDSHAKES_PER_ADDRESS", 1)
    limits = PeerLimits(PeerOptions(register_within_s=0.5))
    async with (
        serving(server_tls, limits=limits) as server,
        await trio.open_tcp_stream("127.0.0.1", server.port) as first,
    ):
        await first.send_all(hello)
        await first.receive_some()
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as second:
            await second.send_all(hello)
            # The first one is closed for its time limit; only then the second one is answered.
            while await first.receive_some():
                pass
            assert await second.receive_some()


async def test_many_agents_at_once_are_paced_and_none_is_refused(
    client_tls: ClientTls, server_tls: ServerTls
) -> None:
    answers: list[bytes] = []

    async def agent(port: int, number: int) -> None:
        async with channel_to(port, client_tls) as channel:
            answers.append((await call_unary(channel, UNARY, message(b"%d" % number))).value)

    limits = PeerLimits(PeerOptions(max_unregistered=60, max_unregistered_per_address=4))
    async with serving(server_tls, limits=limits) as server, trio.open_nursery() as agents:
        for number in range(150):
            agents.start_soon(agent, server.port, number)
    assert sorted(answers) == sorted(b"%d" % number for number in range(150))
    assert sum(limits.refusals.counts.values()) == 0
