"""The headend as a process: TLS on its ports, what it refuses to start with, rotation and revocation."""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPSConnection
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import trio

from tests.integration.headend.test_main import ROOT, refused, variables
from tests.unit.access.certificates import Authority, der_of
from tests.unit.headend.driver import registration
from tests.unit.headend.parts import make_fleet
from trioder.access.certificate_fields import read_certificate
from trioder.access.document import AccessDocument, AgentEntry, CertificateEntry, update_document
from trioder.access.tls import ClientTls
from trioder.access.tls_stream import TlsStream
from trioder.fleet import dump_fleet
from trioder.rpc import Channel, ClientCall, RpcError, StatusCode, connect, open_channel
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.service import AGENT_LINK_STREAM

AgentCall = ClientCall[pb.AgentToHeadend, pb.HeadendToAgent]
# The limit for a revocation; the file is examined every second.
REVOKED_WITHIN_S = 10.0


class Access:
    """An access file with one CA and two agents, and the variables that use it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        self.server = self.authority.issue("localhost", "127.0.0.1", file="server")
        self.agents = [
            self.authority.issue_identity(
                f"spiffe://fleet.example/tenant/default/agent/agent-{number}", file=f"agent-{number}"
            )
            for number in range(2)
        ]
        self.file = directory / "access.json"
        self.file.write_bytes(msgspec.json.encode(AccessDocument(trust_domain="fleet.example")))
        self.file.chmod(0o600)

    @property
    def variables(self) -> dict[str, str]:
        return {
            "ACCESS_DIR": str(self.directory),
            "HEADEND_TLS_CERT": str(self.server.cert),
            "HEADEND_TLS_KEY": str(self.server.key),
            "HEADEND_TLS_CLIENT_CA": str(self.authority.file),
            "HEADEND_HTTP_TLS_CERT": str(self.server.cert),
            "HEADEND_HTTP_TLS_KEY": str(self.server.key),
        }

    def client(self, number: int) -> ClientTls:
        return ClientTls(*self.agents[number], self.authority.file)

    def grant(self) -> None:
        def change(document: AccessDocument) -> AccessDocument:
            entries = [
                AgentEntry(
                    tenant="default",
                    agent=f"agent-{number}",
                    site_ids=(),
                    asset_ids=(asset,),
                    granted_by="test",
                )
                for number, asset in enumerate(ASSETS)
            ]
            return msgspec.structs.replace(document, agents=tuple(entries))

        update_document(self.file, change)

    def revoke(self, number: int) -> str:
        serial = read_certificate(der_of(self.agents[number].cert)).serial

        def change(document: AccessDocument) -> AccessDocument:
            entry = CertificateEntry(
                serial=serial,
                kind="agent",
                name=f"agent-{number}",
                tenant="default",
                issued_at="2026-01-01T00:00:00Z",
                issued_by="test",
                expires_at="2027-01-01T00:00:00Z",
                revoked_at="2026-01-02T00:00:00Z",
                revoked_by="test",
            )
            return msgspec.structs.replace(document, certificates=(entry,))

        update_document(self.file, change)
        return serial


FLEET = make_fleet(2)
ASSETS = [asset.id for asset in FLEET.assets]


@pytest.fixture
def fleet_file(tmp_path: Path) -> Path:
    path = tmp_path / "assets.yaml"
    path.write_text(dump_fleet(FLEET, form="yaml"))
    return path


@pytest.fixture
def access(tmp_path: Path) -> Access:
    directory = tmp_path / "access"
    directory.mkdir()
    return Access(directory)


# Options.


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "headend.example"])
@pytest.mark.parametrize("variable", ["HEADEND_GRPC_ADDR", "HEADEND_HTTP_ADDR"])
async def test_a_reachable_port_without_protection_is_refused_in_one_sentence(
    fleet_file: Path, tmp_path: Path, host: str, variable: str
) -> None:
    said = await refused(variables(fleet_file, STATE_DIR=str(tmp_path), **{variable: f"{host}:0"}))
    assert said.startswith("Error: other machines could reach the headend without protection")
    assert f"{variable} {host}:0 needs" in said
    assert said.count("\n") == 1
    assert "HEADEND_INSECURE=1" in said


async def test_an_open_headend_on_loopback_says_so_once(fleet_file: Path, tmp_path: Path) -> None:
    async with logging(variables(fleet_file, STATE_DIR=str(tmp_path))) as headend:
        assert headend.said().count("the headend is open to every program on this machine") == 1


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("HEADEND_TLS_KEY", "HEADEND_TLS_CERT is set without HEADEND_TLS_KEY"),
        ("HEADEND_TLS_CERT", "HEADEND_TLS_KEY is set without HEADEND_TLS_CERT"),
        ("HEADEND_HTTP_TLS_KEY", "HEADEND_HTTP_TLS_CERT is set without HEADEND_HTTP_TLS_KEY"),
    ],
)
async def test_half_a_pair_is_refused(fleet_file: Path, access: Access, without: str, said: str) -> None:
    env = {name: value for name, value in access.variables.items() if name != without}
    assert said in await refused(variables(fleet_file, **env))


async def test_a_client_ca_alone_is_refused(fleet_file: Path, access: Access) -> None:
    said = await refused(variables(fleet_file, HEADEND_TLS_CLIENT_CA=str(access.authority.file)))
    assert "HEADEND_TLS_CLIENT_CA is set without HEADEND_TLS_CERT and HEADEND_TLS_KEY" in said


async def test_a_client_ca_without_an_access_file_is_refused(fleet_file: Path, access: Access) -> None:
    access.file.unlink()
    assert "access.json does not exist" in await refused(variables(fleet_file, **access.variables))


async def test_the_key_of_another_certificate_is_refused(fleet_file: Path, access: Access) -> None:
    env = access.variables | {"HEADEND_TLS_KEY": str(access.agents[0].key)}
    assert "does not belong to the certificate" in await refused(variables(fleet_file, **env))


# TLS, rotation and revocation on running ports.


class Headend(NamedTuple):
    process: trio.Process
    output: bytearray
    http: str
    grpc: str

    def said(self) -> str:
        return self.output.decode()

    async def says(self, text: str, *, within_s: float = 10) -> None:
        with trio.fail_after(within_s):
            while text not in self.said():
                await trio.sleep(0.05)

    @property
    def http_port(self) -> int:
        return int(self.http.rpartition(":")[2])

    @property
    def grpc_port(self) -> int:
        return int(self.grpc.rpartition(":")[2])


@asynccontextmanager
async def logging(env: dict[str, str]) -> AsyncIterator[Headend]:
    """Yield a headend that is ready, and all that it logs."""
    output = bytearray()
    with trio.fail_after(60):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "trioder.headend"], env=env, cwd=ROOT, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        try:
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    assert process.stderr is not None
                    async for chunk in process.stderr:
                        output.extend(chunk)

                nursery.start_soon(read)
                with trio.fail_after(20):
                    while b"headend ready" not in output or not output.endswith(b"\n"):
                        assert process.returncode is None, output.decode()
                        await trio.sleep(0.05)
                addresses = dict(re.findall(r"(http|grpc)_addr=(\S+)", output.decode()))
                yield Headend(process, output, addresses["http"], addresses["grpc"])
                nursery.cancel_scope.cancel()
        finally:
            process.kill()
            with trio.move_on_after(5, shield=True):
                await process.wait()
                await process.stderr.aclose()


@asynccontextmanager
async def agent(headend: Headend, access: Access, number: int) -> AsyncIterator[AgentCall]:
    """An agent with a session; by the headend's knowledge of its certificate."""
    async with channel(headend, access.client(number)) as link, link.open_call(AGENT_LINK_STREAM) as call:
        await call.send(registration(number, agent_id=f"agent-{number}", outbox_id=f"box-{number}"))
        await call.receive()
        yield call


@asynccontextmanager
async def channel(headend: Headend, tls: ClientTls) -> AsyncIterator[Channel]:
    stream = await connect("localhost", headend.grpc_port, ssl_context=tls.context)
    async with open_channel(stream, authority="localhost") as opened:
        yield opened


async def ended(call: AgentCall) -> RpcError:
    try:
        while True:
            await call.receive()
    except RpcError as error:
        return error


async def refusal(headend: Headend, access: Access, number: int) -> RpcError:
    try:
        async with agent(headend, access, number):
            pass
    except RpcError as error:
        return error
    raise AssertionError("the agent was accepted")


def get_health(port: int, ca: Path) -> tuple[int, bytes]:
    """Ask over HTTPS; return the status, and the certificate that was shown."""
    connection = HTTPSConnection(
        "localhost", port, context=ssl.create_default_context(cafile=str(ca)), timeout=10
    )
    try:
        connection.connect()
        shown = connection.sock.getpeercert(binary_form=True)  # type: ignore[attr-defined]
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
        return answer.status, shown
    finally:
        connection.close()


async def test_python_s_http_client_is_answered_over_tls(fleet_file: Path, access: Access) -> None:
    async with logging(variables(fleet_file, **access.variables)) as headend:
        status, shown = await trio.to_thread.run_sync(get_health, headend.http_port, access.authority.file)
    assert (status, shown) == (200, der_of(access.server.cert))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_is_answered_with_the_ca_and_refuses_without_it(fleet_file: Path, access: Access) -> None:
    async with logging(variables(fleet_file, **access.variables)) as headend:
        url = f"https://localhost:{headend.http_port}/health"
        trusting = await trio.run_process(
            ["curl", "-sS", "--http2", "--noproxy", "*", "--cacert", str(access.authority.file), url],
            capture_stdout=True,
        )
        suspicious = await trio.run_process(
            ["curl", "-sS", "--noproxy", "*", url], capture_stderr=True, check=False
        )
        await headend.says("does not trust the CA of this side's certificate")
    assert b'"status"' in trusting.stdout
    assert suspicious.returncode == 60


async def test_certificates_are_rotated_without_a_restart_and_sessions_stay(
    fleet_file: Path, access: Access
) -> None:
    access.grant()
    async with logging(variables(fleet_file, **access.variables)) as headend, agent(headend, access, 0):
        before = der_of(access.server.cert)
        access.authority.issue("localhost", "127.0.0.1", file="server")
        await headend.says("TLS files were read again")
        await trio.sleep(1)
        _, shown = await trio.to_thread.run_sync(get_health, headend.http_port, access.authority.file)
        assert shown == der_of(access.server.cert) != before
        async with agent(headend, access, 1):
            pass
        assert "agent-0" not in "".join(re.findall("agent disconnected.*", headend.said()))


async def test_a_hangup_reads_certificates_again(fleet_file: Path, access: Access) -> None:
    async with logging(variables(fleet_file, **access.variables)) as headend:
        os.kill(headend.process.pid, signal.SIGHUP)
        await headend.says("TLS files were read again")


async def test_a_connection_without_a_session_of_a_revoked_certificate_ends_too(
    fleet_file: Path, access: Access
) -> None:
    async with logging(variables(fleet_file, **access.variables)) as headend:
        stream = await connect("localhost", headend.grpc_port, ssl_context=access.client(0).context)
        assert isinstance(stream, TlsStream)
        async with stream:
            await stream.do_handshake()
            # The headend's preface: it serves the connection.
            await stream.receive_some()
            access.revoke(0)
            # Sooner than for not registering.
            with trio.fail_after(8):
                while await stream.receive_some():
                    pass
            await headend.says("is revoked", within_s=2)


async def test_the_session_of_a_revoked_certificate_ends_and_others_stay(
    fleet_file: Path, access: Access
) -> None:
    access.grant()
    async with (
        logging(variables(fleet_file, **access.variables)) as headend,
        agent(headend, access, 0) as revoked,
        agent(headend, access, 1) as other,
    ):
        serial = access.revoke(0)
        with trio.fail_after(REVOKED_WITHIN_S):
            error = await ended(revoked)
        assert (error.status, error.message) == (
            StatusCode.UNAUTHENTICATED,
            f"the certificate {serial} is revoked: issue a new one",
        )
        await headend.says("agent.disconnect")
        assert (await refusal(headend, access, 0)).status is StatusCode.UNAUTHENTICATED
        with trio.move_on_after(1) as still_open:
            await ended(other)
        assert still_open.cancelled_caught
        disconnected = re.findall("agent disconnected.*", headend.said())
        assert len(disconnected) == 1
        assert "is revoked" in disconnected[0]


async def test_certificates_of_our_own_ca_work_on_both_ports(fleet_file: Path, tmp_path: Path) -> None:
    directory = tmp_path / "own"

    async def run(*arguments: str) -> None:
        await trio.run_process(
            [sys.executable, "-m", "trioder.access", *arguments],
            env={**os.environ, "ACCESS_DIR": str(directory), "ASSETS_PATH": str(fleet_file)},
            cwd=ROOT,
            capture_stdout=True,
        )

    await run("init")
    await run("issue-server", "localhost", "127.0.0.1")
    await run("issue-agent", "agent-0", "--tenant", "default", "--asset", ASSETS[0])
    server, ca = directory / "server" / "localhost", directory / "ca.crt"
    env = {
        "ACCESS_DIR": str(directory),
        "HEADEND_TLS_CERT": f"{server}.crt",
        "HEADEND_TLS_KEY": f"{server}.key",
        "HEADEND_TLS_CLIENT_CA": str(ca),
        "HEADEND_HTTP_TLS_CERT": f"{server}.crt",
        "HEADEND_HTTP_TLS_KEY": f"{server}.key",
    }
    agent_files = directory / "agents" / "agent-0"
    tls = ClientTls(agent_files.with_suffix(".crt"), agent_files.with_suffix(".key"), ca)
    async with logging(variables(fleet_file, **env)) as headend:
        status, _ = await trio.to_thread.run_sync(get_health, headend.http_port, ca)
        assert status == 200
        async with channel(headend, tls) as link, link.open_call(AGENT_LINK_STREAM) as call:
            await call.send(registration(0, agent_id="agent-0", outbox_id="box-0"))
            assert (await call.receive()).registered.session_id
