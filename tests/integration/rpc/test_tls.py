"""TLS on the gRPC port: our client and server, grpcio, openssl, and certificates that are replaced."""

import re
import shutil
from pathlib import Path

import grpc
import pytest
import trio
from google.protobuf.wrappers_pb2 import BytesValue

from tests.integration.rpc.conftest import GrpcioServer
from tests.integration.rpc.grpcio_peer import Stubs
from tests.integration.rpc.tls_rig import Files, channel_to, refusal, serving
from tests.unit.access.certificates import Authority, der_of
from tests.unit.rpc.probe import UNARY, call_unary, message
from trioder.access.tls import ClientTls, ServerTls
from trioder.rpc import (
    connect,
    open_channel,
)

# Between the write of a file and the first look at it.
CHECK_EVERY_S = 1.0


async def test_a_handler_sees_the_certificate_of_its_client(
    files: Files, server_tls: ServerTls, client_tls: ClientTls
) -> None:
    async with serving(server_tls) as server, channel_to(server.port, client_tls) as channel:
        assert (await call_unary(channel, UNARY, message(b"sealed"))).value == b"sealed"

    assert server.probe.last_call is not None
    assert server.probe.last_call.peer.certificate == der_of(files.agent.cert)


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
