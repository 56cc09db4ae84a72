"""`python -m trioder.agent` as a process that connects over TLS, to a headend in this process."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from tests.integration.agent.test_executable import ONE_ASSET, environment, run
from tests.integration.agent.tls_headend import serving
from tests.unit.access.certificates import Authority, Pair, der_of
from tests.unit.agent.test_outbox_recovery import leave_behind
from trioder.access.tls import ServerTls
from trioder.launcher.process import LineSplitter


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@dataclass
class Agent:
    """A running agent, and the statuses that it has reported."""

    process: trio.Process
    statuses: list[dict[str, object]] = field(default_factory=list)
    reported: trio.Condition = field(default_factory=trio.Condition)

    async def status(self, state: str) -> str:
        """Return the reason of the first report of this state; fail if the agent ends."""
        async with self.reported:
            while True:
                for status in self.statuses:
                    if status["state"] == state:
                        return str(status.get("reason", ""))
                assert self.process.returncode is None
                await self.reported.wait()

    async def read_statuses(self) -> None:
        assert self.process.stdout is not None
        lines = LineSplitter()
        async for chunk in self.process.stdout:
            async with self.reported:
                self.statuses += map(json.loads, lines.feed(chunk))
                self.reported.notify_all()
        await self.process.wait()
        async with self.reported:
            self.reported.notify_all()


@asynccontextmanager
async def running(folder: Path, headend: str, client: Pair | None, ca: Path) -> AsyncIterator[Agent]:
    files = {} if client is None else {"AGENT_TLS_CERT": str(client.cert), "AGENT_TLS_KEY": str(client.key)}
    variables = {"HEADEND_GRPC": headend, "AGENT_TLS_CA": str(ca), "TICK_S": "0.2", "STATE_DIR": str(folder)}
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "trioder.agent"],
        env=environment(**ONE_ASSET | variables | files),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    agent = Agent(process)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.read_statuses)
            yield agent
            nursery.cancel_scope.cancel()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.sleep(0.02)


async def test_an_agent_delivers_over_tls_and_presents_its_certificate(
    authority: Authority, tmp_path: Path
) -> None:
    client = authority.issue("agent", file="agent")
    async with (
        serving(ServerTls(*authority.issue("localhost"), authority.file)) as headend,
        running(tmp_path, f"https://localhost:{headend.port}", client, authority.file) as agent,
    ):
        await agent.status("connected")
        await until(lambda: len(headend.batches) >= 2)
        assert headend.certificates == [der_of(client.cert)]


@pytest.mark.parametrize(
    ("hosts", "from_h", "to_h", "reason"),
    [
        (["localhost"], -2, -1, "the peer's certificate has expired"),
        (["localhost"], 1, 2, "not valid yet: set the clocks"),
        (["headend.example"], -1, 1, "for other names than the one connected to"),
    ],
)
async def test_a_headend_with_a_certificate_that_is_not_valid_is_not_used(
    *, hosts: list[str], from_h: float, to_h: float, reason: str, authority: Authority, tmp_path: Path
) -> None:
    server = authority.issue(*hosts, from_h=from_h, to_h=to_h)
    client = authority.issue("agent", file="agent")
    async with (
        serving(ServerTls(*server, authority.file)) as headend,
        running(tmp_path, f"https://localhost:{headend.port}", client, authority.file) as agent,
    ):
        assert reason in await agent.status("disconnected")
        assert headend.registrations == []


async def test_a_headend_of_another_ca_is_not_used(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    async with (
        serving(ServerTls(*other.issue("localhost"))) as headend,
        running(tmp_path, f"https://localhost:{headend.port}", None, authority.file) as agent,
    ):
        assert "from another CA" in await agent.status("disconnected")


async def test_a_plain_headend_is_not_used_for_https(authority: Authority, tmp_path: Path) -> None:
    async with (
        serving(None) as headend,
        running(tmp_path, f"https://localhost:{headend.port}", None, authority.file) as agent,
    ):
        assert "does not speak TLS" in await agent.status("disconnected")


async def test_a_certificate_that_the_headend_refuses_is_reported_as_refused(
    authority: Authority, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path, "other").issue("agent", file="agent")
    async with (
        serving(ServerTls(*authority.issue("localhost"), authority.file)) as headend,
        running(tmp_path, f"https://localhost:{headend.port}", foreign, authority.file) as agent,
    ):
        reason = await agent.status("refused")
        assert reason.startswith("UNAUTHENTICATED: ")
        assert "does not trust the CA of this side's certificate" in reason
        assert headend.registrations == []


async def test_an_agent_without_a_certificate_is_refused_where_one_is_required(
    authority: Authority, tmp_path: Path
) -> None:
    async with (
        serving(ServerTls(*authority.issue("localhost"), authority.file)) as headend,
        running(tmp_path, f"https://localhost:{headend.port}", None, authority.file) as agent,
    ):
        assert "set AGENT_TLS_CERT and AGENT_TLS_KEY" in await agent.status("refused")


async def test_an_expired_certificate_is_refused_until_it_is_renewed(
    authority: Authority, tmp_path: Path
) -> None:
    client = authority.issue("agent", file="agent", from_h=-2, to_h=-1)
    async with (
        serving(ServerTls(*authority.issue("localhost"), authority.file)) as headend,
        running(tmp_path, f"https://localhost:{headend.port}", client, authority.file) as agent,
    ):
        assert "this side's certificate has expired" in await agent.status("refused")
        authority.issue("agent", file="agent")
        await agent.status("connected")
        assert headend.certificates == [der_of(client.cert)]


async def test_a_session_goes_on_when_the_certificate_is_renewed_and_the_next_one_uses_it(
    authority: Authority, tmp_path: Path
) -> None:
    client = authority.issue("agent", file="agent")
    first = der_of(client.cert)
    async with (
        serving(ServerTls(*authority.issue("localhost"), authority.file)) as headend,
        running(tmp_path, f"https://localhost:{headend.port}", client, authority.file) as agent,
    ):
        await agent.status("connected")
        authority.issue("agent", file="agent")
        batches = len(headend.batches)
        # Longer than the agent leaves a changed file unread.
        await until(lambda: len(headend.batches) >= batches + 10)
        assert headend.certificates == [first]

        headend.cut_session.set()
        headend.cut_session = trio.Event()
        await until(lambda: len(headend.certificates) == 2)
        assert headend.certificates == [first, der_of(client.cert)]


def test_all_files_that_are_missing_are_reported_and_the_exit_code_is_2() -> None:
    files = {"AGENT_TLS_CERT": "no.crt", "AGENT_TLS_KEY": "no.key", "AGENT_TLS_CA": "no-ca.crt"}
    ended = run(env=environment(**ONE_ASSET | {"HEADEND_GRPC": "https://localhost:9"} | files))
    assert ended.returncode == 2
    for name, path in files.items():
        assert f"{name} is '{path}'; it must be a file that can be read: {os.strerror(2)}" in (
            ended.stderr.decode()
        )


async def test_outboxes_are_recovered_with_the_certificate_of_each_retired_agent(
    authority: Authority, tmp_path: Path
) -> None:
    files = [tmp_path / f"{name}.sqlite" for name in ("certified", "nameless")]
    for file in files:
        leave_behind(file, batches=3)
    certified = authority.issue("agent", file="certified")
    async with serving(ServerTls(*authority.issue("localhost"), authority.file)) as headend:
        document = {
            "headend": f"https://localhost:{headend.port}",
            "files": list(map(str, files)),
            "tls_cert": str(tmp_path / "ca-{agent}.crt"),
            "tls_key": str(tmp_path / "ca-{agent}.key"),
            "tls_ca": str(authority.file),
        }
        given = tmp_path / "document"
        given.write_text(json.dumps(document) + "\n")
        with given.open("rb") as stdin:
            ended = await trio.run_process(
                [sys.executable, "-m", "trioder.agent", "--drain"],
                env=environment(),
                stdin=stdin,
                capture_stdout=True,
                capture_stderr=True,
            )
        assert headend.certificates == [der_of(certified.cert)]
        assert [batch.batch_seq for batch in headend.batches if not batch.live_only] == [1, 2, 3]
    assert [file.exists() for file in files] == [False, True]
    [warning] = [line for line in ended.stderr.decode().splitlines() if "no usable certificate" in line]
    assert "AGENT_TLS_CERT is " in warning
    assert "ca-nameless.crt" in warning
