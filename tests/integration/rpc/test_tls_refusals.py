"""Peers that the TLS of the gRPC port refuses, and why, as both sides log it."""

import socket
from pathlib import Path

import pytest
import trio

from tests.integration.rpc.tls_rig import Files, channel_to, logged, refusal, serving
from tests.unit.access.certificates import Authority, der_of
from tests.unit.rpc.probe import HANG, UNARY, call_unary, message
from trioder.access.certificate_fields import read_certificate
from trioder.access.tls import ClientTls, ServerTls
from trioder.rpc import (
    Peer,
    PeerAccess,
    RpcError,
    StatusCode,
)


async def test_an_expired_agent_is_refused_and_both_sides_say_why(
    files: Files, server_tls: ServerTls, logs: list[dict[str, object]]
) -> None:
    expired = ClientTls(*files.authority.issue("agent", file="old", from_h=-2, to_h=-1), files.authority.file)
    async with serving(server_tls) as server:
        assert "this side's certificate has expired" in (await refusal(server.port, expired)).message
        assert "the peer's certificate has expired" in await logged(logs, server)


async def test_an_agent_of_another_ca_is_refused_and_both_sides_say_why(
    files: Files, server_tls: ServerTls, tmp_path: Path, logs: list[dict[str, object]]
) -> None:
    other = ClientTls(*Authority(tmp_path, "other").issue("agent"), files.authority.file)
    async with serving(server_tls) as server:
        assert "does not trust the CA" in (await refusal(server.port, other)).message
        assert "from another CA" in await logged(logs, server)


async def test_an_agent_without_a_certificate_is_refused_and_both_sides_say_why(
    files: Files, server_tls: ServerTls, logs: list[dict[str, object]]
) -> None:
    anonymous = ClientTls(None, None, files.authority.file)
    async with serving(server_tls) as server:
        assert "requires a client certificate" in (await refusal(server.port, anonymous)).message
        assert "presented no client certificate" in await logged(logs, server)


async def test_a_server_of_another_ca_is_refused_and_both_sides_say_why(
    files: Files, server_tls: ServerTls, tmp_path: Path, logs: list[dict[str, object]]
) -> None:
    suspicious = ClientTls(*files.agent, Authority(tmp_path, "other").file)
    async with serving(server_tls) as server:
        refused = await refusal(server.port, suspicious)
        assert (refused.status, "from another CA" in refused.message) == (StatusCode.UNAVAILABLE, True)
        assert "does not trust the CA" in await logged(logs, server)


async def test_a_plain_client_on_a_tls_port_is_refused_and_both_sides_say_why(
    server_tls: ServerTls, logs: list[dict[str, object]]
) -> None:
    async with serving(server_tls) as server:
        assert "it may require TLS" in (await refusal(server.port, None)).message
        assert "does not speak TLS" in await logged(logs, server)


async def test_a_tls_client_on_a_plain_port_is_refused_and_both_sides_say_why(
    client_tls: ClientTls, logs: list[dict[str, object]]
) -> None:
    async with serving(None) as server:
        assert "does not speak TLS" in (await refusal(server.port, client_tls)).message
        assert "speaks TLS on a connection without it" in await logged(logs, server)


async def test_a_peer_without_h2_is_refused(
    files: Files, server_tls: ServerTls, logs: list[dict[str, object]]
) -> None:
    client = ClientTls(*files.agent, files.authority.file)
    client.context.set_alpn_protocols(["http/1.1"])
    async with serving(server_tls) as server:
        assert (await refusal(server.port, client)).status is StatusCode.UNAVAILABLE
        assert "h2 (ALPN)" in await logged(logs, server)


async def test_a_port_check_without_a_byte_is_no_failed_handshake(server_tls: ServerTls) -> None:
    async with serving(server_tls) as server:
        await (await trio.open_tcp_stream("127.0.0.1", server.port)).aclose()
        while server.limits.connections:
            await trio.sleep(0.01)
        while not server.limits.connections:
            async with await trio.open_tcp_stream("127.0.0.1", server.port):
                await trio.sleep(0.01)
        assert sum(server.limits.refusals.counts.values()) == 0


class Revoked:
    """Refuses peers by the serial numbers of their certificates."""

    def __init__(self) -> None:
        self.serials: set[str] = set()

    def __call__(self, peer: Peer) -> str | None:
        serial = peer.certificate_serial
        return f"the certificate {serial} is revoked" if serial in self.serials else None


async def test_a_refused_certificate_is_unauthenticated_with_the_reason(
    files: Files, server_tls: ServerTls, client_tls: ClientTls
) -> None:
    revoked = Revoked()
    revoked.serials.add(read_certificate(der_of(files.agent.cert)).serial)
    async with serving(server_tls, access=PeerAccess(revoked)) as server:
        refused = await refusal(server.port, client_tls)
        assert (refused.status, refused.message.endswith("is revoked")) == (StatusCode.UNAUTHENTICATED, True)
        assert server.limits.refusals.counts["certificate"] == 1
    assert server.probe.last_call is None


async def test_open_connections_of_a_refused_certificate_end_and_others_stay(
    files: Files, server_tls: ServerTls, client_tls: ClientTls
) -> None:
    revoked = Revoked()
    access = PeerAccess(revoked)
    other = ClientTls(*files.authority.issue("agent-8.example", file="other"), files.authority.file)
    async with (
        serving(server_tls, access=access) as server,
        channel_to(server.port, other) as staying,
        channel_to(server.port, client_tls) as channel,
    ):
        await call_unary(staying, UNARY, message(b"before"))
        async with channel.open_call(HANG) as call:
            await server.probe.hung.wait()
            revoked.serials.add(read_certificate(der_of(files.agent.cert)).serial)
            access.check_open()
            with pytest.raises(RpcError) as caught:
                await call.receive()
        assert caught.value.status is StatusCode.UNAUTHENTICATED
        assert (await call_unary(staying, UNARY, message(b"after"))).value == b"after"


async def test_garbage_on_a_tls_port_is_refused(server_tls: ServerTls, logs: list[dict[str, object]]) -> None:
    async with serving(server_tls) as server:
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            await stream.send_all(b"\x00" * 100)
            while await stream.receive_some():
                pass
        assert "does not speak TLS" in await logged(logs, server)
