"""Programs that are not ours against a headend, with certificates and a token of `trioder.access`."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest
import trio

from tests.integration.headend.test_main import variables
from tests.integration.headend.test_security import ASSETS, FLEET, logging
from tests.unit.headend.driver import registration
from trioder.access.directory import AccessDirectory
from trioder.access.grants import AgentRequest
from trioder.fleet import dump_fleet
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.service import AGENT_LINK_STREAM

Ended = subprocess.CompletedProcess[bytes]

AGENT = "agent-0"


@dataclass(frozen=True, kw_only=True)
class Secured:
    """What a headend and its clients are configured with."""

    fleet_file: Path
    directory: Path
    token: str

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def agent(self) -> tuple[Path, Path]:
        """The agent's certificate and key."""
        stem = self.directory / "agents" / AGENT
        return stem.with_suffix(".crt"), stem.with_suffix(".key")

    @property
    def variables(self) -> dict[str, str]:
        server = self.directory / "server" / "localhost"
        pair = {"TLS_CERT": f"{server}.crt", "TLS_KEY": f"{server}.key"}
        return variables(
            self.fleet_file,
            ACCESS_DIR=str(self.directory),
            HEADEND_TLS_CLIENT_CA=str(self.ca),
            **{f"HEADEND_{name}": path for name, path in pair.items()},
            **{f"HEADEND_HTTP_{name}": path for name, path in pair.items()},
        )


@pytest.fixture
def secured(tmp_path: Path) -> Secured:
    fleet_file = tmp_path / "assets.yaml"
    fleet_file.write_text(dump_fleet(FLEET, form="yaml"))
    directory = AccessDirectory(tmp_path / "access", user="test", fleet=FLEET)
    directory.initialise("fleet.example")
    directory.issue_server(["localhost", "127.0.0.1"])
    directory.issue_agents([AgentRequest(agent=AGENT, asset_ids=(ASSETS[0],))])
    token = directory.create_token("outsider", role="viewer", tenant="default")
    return Secured(fleet_file=fleet_file, directory=directory.folder, token=token)


def register_by_grpcio(secured: Secured, port: int, key: int) -> pb.HeadendToAgent:
    """Register an asset as the agent; return the headend's first message."""
    certificate, private_key = secured.agent
    credentials = grpc.ssl_channel_credentials(
        secured.ca.read_bytes(), private_key.read_bytes(), certificate.read_bytes()
    )
    messages: SimpleQueue[pb.AgentToHeadend | None] = SimpleQueue()
    messages.put(registration(key, agent_id=AGENT, outbox_id="box"))
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        stream = channel.stream_stream(
            AGENT_LINK_STREAM.path,
            request_serializer=pb.AgentToHeadend.SerializeToString,
            response_deserializer=pb.HeadendToAgent.FromString,
        )
        received: Iterator[pb.HeadendToAgent] = stream(iter(messages.get, None), timeout=10)
        try:
            return next(received)
        finally:
            messages.put(None)


async def test_an_agent_over_grpcio_registers_its_own_asset_and_no_other(secured: Secured) -> None:
    async with logging(secured.variables) as headend:
        first = await trio.to_thread.run_sync(register_by_grpcio, secured, headend.grpc_port, 0)
        assert first.registered.session_id
        with pytest.raises(grpc.RpcError) as refusal:
            await trio.to_thread.run_sync(register_by_grpcio, secured, headend.grpc_port, 1)
    assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED  # type: ignore[attr-defined]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_openssl_verifies_both_ports_and_is_refused_without_a_certificate(secured: Secured) -> None:
    certificate, private_key = secured.agent

    async def connect(port: int, *options: str, sent: bytes = b"no HTTP/2") -> Ended:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(secured.ca)]
        command += ["-verify_return_error", "-verify_hostname", "localhost", *options]
        # The refusal of a certificate arrives after the handshake: the connection is read until its end.
        return await trio.run_process(
            [*command, "-ign_eof"], stdin=sent, capture_stdout=True, capture_stderr=True, check=False
        )

    async with logging(secured.variables) as headend:
        with trio.fail_after(30):
            request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            rest = await connect(headend.http_port, sent=request)
            agents = await connect(
                headend.grpc_port, "-alpn", "h2", "-cert", str(certificate), "-key", str(private_key)
            )
            anonymous = await connect(headend.grpc_port, "-alpn", "h2")
    assert b"HTTP/1.1 200" in rest.stdout
    for verified in (rest, agents):
        assert b"Verify return code: 0 (ok)" in verified.stdout
        assert b"alert" not in verified.stderr
    assert b"alert certificate required" in anonymous.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_with_the_ca_and_a_token_is_answered(secured: Secured) -> None:
    async with logging(secured.variables) as headend:
        command = ["curl", "-sS", "--noproxy", "*", "--cacert", str(secured.ca), "-w", "%{http_code}"]
        url = f"https://localhost:{headend.http_port}/whoami"
        known = await trio.run_process(
            [*command, "-H", f"Authorization: Bearer {secured.token}", url], capture_stdout=True
        )
        unknown = await trio.run_process([*command, url], capture_stdout=True)
    assert b'"outsider"' in known.stdout
    assert known.stdout.endswith(b"200")
    assert unknown.stdout.endswith(b"401")
