"""TLS on the gRPC port: our client and server, grpcio, openssl, and peers that are refused."""

import random
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
import structlog
import trio
from google.protobuf.wrappers_pb2 import BytesValue

from tests.integration.rpc.conftest import GrpcioServer
from tests.integration.rpc.grpcio_peer import Stubs
from tests.unit.access.certificates import Authority, Pair, der_of
from tests.unit.rpc.probe import DEFAULTS, HANG, UNARY, Probe, call_unary, message
from trioder.access.certificate_fields import read_certificate
from trioder.access.tls import ClientTls, ServerTls
from trioder.rpc import (
    Channel,
    Peer,
    PeerAccess,
    PeerLimits,
    PeerOptions,
    RpcError,
    StatusCode,
    connect,
    open_channel,
    serve_rpc,
)
from trioder.rpc.peer_limits import CONNECTION_BYTES, TLS_BYTES

# Between the write of a file and the first look at it.
CHECK_EVERY_S = 1.0


class Files(NamedTuple):
    authority: Authority
    server: Pair
    agent: Pair


@pytest.fixture
def files(tmp_path: Path) -> Files:
    authority = Authority(tmp_path)
    return Files(
        authority,
        authority.issue("localhost", "127.0.0.1", file="server"),
        authority.issue("agent-7.example", file="agent"),
    )


@pytest.fixture
def server_tls(files: Files) -> ServerTls:
    return ServerTls(*files.server, files.authority.file)


@pytest.fixture
def client_tls(files: Files) -> ClientTls:
    return ClientTls(*files.agent, files.authority.file)


@pytest.fixture
def logs() -> Iterator[list[dict[str, object]]]:
    with structlog.testing.capture_logs() as entries:
        yield entries  # type: ignore[misc]


class Running(NamedTuple):
    port: int
    probe: Probe
    limits: PeerLimits


@asynccontextmanager
async def serving(
    tls: ServerTls | None, *, access: PeerAccess | None = None, limits: PeerLimits | None = None
) -> AsyncIterator[Running]:
    probe, limits = Probe(), limits or PeerLimits()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_rpc,
            listeners,
            probe.services,
            drain=trio.Event(),
            options=DEFAULTS,
            limits=limits,
            tls=tls,
            access=access,
        )
        await nursery.start(serve)
        with trio.fail_after(20):
            await trio.lowlevel.checkpoint()
            yield Running(listeners[0].socket.getsockname()[1], probe, limits)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def channel_to(port: int, tls: ClientTls | None) -> AsyncIterator[Channel]:
    stream = await connect("localhost", port, ssl_context=None if tls is None else tls.context)
    async with open_channel(stream, authority="localhost") as channel:
        yield channel


async def refusal(port: int, tls: ClientTls | None) -> RpcError:
    with pytest.raises(RpcError) as caught:
        async with channel_to(port, tls) as channel:
            await call_unary(channel, UNARY, message(b"on"))
    return caught.value


async def logged(logs: list[dict[str, object]], server: Running) -> str:
    """Return why the one peer was refused, once it was."""
    while server.limits.refusals.counts["tls"] == 0:
        await trio.sleep(0.01)
    assert server.limits.refusals.counts["tls"] == 1
    (reason,) = [str(entry["detail"]) for entry in logs if entry.get("reason") == "tls"]
    return reason


async def test_a_handler_sees_the_certificate_of_its_client(
    files: Files, server_tls: ServerTls, client_tls: ClientTls
) -> None:
    async with serving(server_tls) as server, channel_to(server.port, client_tls) as channel:
        assert (await call_unary(channel, UNARY, message(b"sealed"))).value == b"sealed"

    assert server.probe.last_call is not None
    assert server.probe.last_call.peer.certificate == der_of(files.agent.cert)


# Refused peers.


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


# Changed files, and certificates that are no longer served.


async def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_stay(
    files: Files, server_tls: ServerTls, client_tls: ClientTls
) -> None:
    async def shown(port: int) -> bytes:
        stream = await connect("localhost", port, ssl_context=client_tls.context)
        async with open_channel(stream, authority="localhost"):
            certificate = stream.peer_certificate  # type: ignore[attr-defined]
            assert isinstance(certificate, bytes)
            return certificate

    async with serving(server_tls) as server, channel_to(server.port, client_tls) as old:
        await call_unary(old, UNARY, message(b"before"))
        first = der_of(files.server.cert)
        assert await shown(server.port) == first
        files.authority.issue("localhost", file="server")
        await trio.sleep(CHECK_EVERY_S)
        assert await shown(server.port) == der_of(files.server.cert) != first
        assert (await call_unary(old, UNARY, message(b"after"))).value == b"after"


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


# Peers that we did not write.


async def test_a_grpcio_client_with_a_certificate_is_served(files: Files, server_tls: ServerTls) -> None:
    credentials = grpc.ssl_channel_credentials(
        files.authority.file.read_bytes(), files.agent.key.read_bytes(), files.agent.cert.read_bytes()
    )

    def ask(port: int) -> bytes:
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            answer: bytes = Stubs(channel).unary(BytesValue(value=b"sealed"), timeout=10).value
            return answer

    async with serving(server_tls) as server:
        assert await trio.to_thread.run_sync(ask, server.port) == b"sealed"
    assert server.probe.last_call is not None
    assert server.probe.last_call.peer.certificate == der_of(files.agent.cert)


async def test_a_grpcio_client_without_a_certificate_is_refused(
    files: Files, server_tls: ServerTls, logs: list[dict[str, object]]
) -> None:
    credentials = grpc.ssl_channel_credentials(files.authority.file.read_bytes())

    def ask(port: int) -> grpc.StatusCode:
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                Stubs(channel).unary(BytesValue(value=b"sealed"), timeout=10)
            code: grpc.StatusCode = caught.value.code()  # type: ignore[attr-defined]
            return code

    async with serving(server_tls) as server:
        assert await trio.to_thread.run_sync(ask, server.port) is grpc.StatusCode.UNAVAILABLE
        while not server.limits.refusals.counts["tls"]:
            await trio.sleep(0.01)
    assert "presented no client certificate" in str(logs)


async def test_our_client_and_a_grpcio_server_agree_on_tls(files: Files, client_tls: ClientTls) -> None:
    server = GrpcioServer(*files.server, files.authority.file)
    try:
        with trio.fail_after(10):
            async with channel_to(server.port, client_tls) as channel:
                assert (await call_unary(channel, UNARY, message(b"sealed"))).value == b"sealed"
    finally:
        server.close()


async def test_a_grpcio_server_of_another_ca_is_refused(files: Files, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    server = GrpcioServer(*other.issue("localhost"), files.authority.file)
    try:
        with trio.fail_after(10):
            refused = await refusal(server.port, ClientTls(*files.agent, files.authority.file))
        assert "from another CA" in refused.message
    finally:
        server.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl program is not installed")
@pytest.mark.parametrize(("version", "minimum"), [("-tls1_3", "1.3"), ("-tls1_2", "1.3"), ("-tls1_2", "1.2")])
async def test_openssl_s_client_agrees_on_the_version_and_on_h2(
    files: Files, version: str, minimum: str
) -> None:
    tls = ServerTls(*files.server, files.authority.file, min_version=minimum)  # type: ignore[arg-type]
    async with serving(tls) as server:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-alpn", "h2", version]
        command += ["-CAfile", str(files.authority.file), "-verify_return_error", "-servername", "localhost"]
        command += ["-cert", str(files.agent.cert), "-key", str(files.agent.key)]
        ended = await trio.run_process(
            command, stdin=b"", capture_stdout=True, capture_stderr=True, check=False
        )
    said = ended.stdout.decode(errors="replace")
    if (version, minimum) == ("-tls1_2", "1.3"):
        assert ended.returncode != 0
        assert "alert protocol version" in ended.stderr.decode()
    else:
        assert ended.returncode == 0
        assert "Verify return code: 0 (ok)" in said
        assert re.search(r"ALPN protocol: h2", said)


async def test_garbage_on_a_tls_port_is_refused(server_tls: ServerTls, logs: list[dict[str, object]]) -> None:
    async with serving(server_tls) as server:
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            await stream.send_all(b"\x00" * 100)
            while await stream.receive_some():
                pass
        assert "does not speak TLS" in await logged(logs, server)
