"""Certificates are rotated and one agent is revoked while the default fleet runs: nothing else notices."""

import os
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.processes import ROOT, Api, Processes, Program, open_api, open_processes
from tests.e2e.test_chaos import all_is_kept, made_by_asset, stored_by_asset, until_equal
from trioder.access.certificate_fields import read_certificate
from trioder.store.embedded.layout import DataFolder

ASSETS = 152
AGENTS = 7
# Five batches a second of each agent: whatever interrupts it for a moment would lose some.
TICK_S = "0.2"
START_WITHIN_S = 60
# What is promised.
REVOKED_WITHIN_S = 10
# The access file and certificates are examined every second.
NOTICED_WITHIN_S = 10

Sessions = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class SecureFleet:
    """The default fleet as `scripts/run --secure` sets it up.

    Attributes:
        env: the variables of its commands.
        ports: of REST and of gRPC, each with the protocol that it negotiates.
    """

    env: Mapping[str, str]
    state_dir: Path
    processes: Processes
    headend: Program
    launcher: Program
    api: Api
    ports: Mapping[int, str]

    async def command(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run a module of Python and return its output."""
        return await run_python(self.env, "-m", *arguments, stdin=stdin)

    async def issue_all(self, *options: str) -> None:
        """Issue the certificates of all agents."""
        shards = await self.command("trioder.launcher", "--print-shards")
        await self.command("trioder.access", "issue-agents", *options, stdin=shards)

    async def sessions(self) -> tuple[Sessions, Sessions]:
        """The sessions on record by id, with their agents: the open ones and the ended ones."""
        rows: list[dict[str, Any]] = await self.api.get("/agents/sessions", limit=1000)
        by_end: tuple[Sessions, Sessions] = {}, {}
        for row in rows:
            by_end[row["disconnected_at"] is not None][row["session_id"]] = row["agent_id"]
        return by_end

    async def sessions_on_record(self, *, opened: int, ended: int) -> tuple[Sessions, Sessions]:
        """Wait until so many are, which is a moment after they have opened and ended."""
        with trio.fail_after(NOTICED_WITHIN_S):
            while tuple(map(len, sessions := await self.sessions())) != (opened, ended):
                await trio.sleep(0.1)
        return sessions

    async def reason_of_refusal(self, agent_id: str) -> str:
        """Wait until a connection of the agent is in the audit as refused, and return the reason."""
        while True:
            for row in await self.api.get("/audit"):
                if row["action"] == "agent.connect" and row["principal"].endswith(f"/agent/{agent_id}"):
                    return str(row["reason"])
            await trio.sleep(0.1)

    async def shown_serials(self) -> list[str]:
        """The certificates that new connections to both ports are shown."""
        return [await self._shown_serial(port, protocol) for port, protocol in self.ports.items()]

    async def _shown_serial(self, port: int, protocol: str) -> str:
        context = ssl.create_default_context(cafile=self.env["AGENT_TLS_CA"])
        context.set_alpn_protocols([protocol])
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)
        async with stream:
            await stream.do_handshake()
            der = stream.getpeercert(binary_form=True)
            await trio.aclose_forcefully(stream)
        assert der is not None
        return read_certificate(der).serial


async def run_python(env: Mapping[str, str], *arguments: str, stdin: bytes = b"") -> bytes:
    done = await trio.run_process(
        [sys.executable, *arguments],
        env={**os.environ, **env},
        cwd=ROOT,
        stdin=stdin,
        capture_stdout=True,
        capture_stderr=True,
    )
    return done.stdout


@asynccontextmanager
async def open_secure_fleet(state_dir: Path) -> AsyncIterator[SecureFleet]:
    """Start it, and yield it with every asset connected."""
    access = state_dir / "access"
    server = access / "server" / "localhost"
    pair = {"TLS_CERT": f"{server}.crt", "TLS_KEY": f"{server}.key"}
    env = {
        "ACCESS_DIR": str(access),
        "STATE_DIR": str(state_dir),
        "DATABASE_URL": "embedded",
        "HEADEND_HTTP_ADDR": "127.0.0.1:0",
        "HEADEND_GRPC_ADDR": "127.0.0.1:0",
        "HEADEND_TICK_S": "0",
        **{f"HEADEND_{name}": path for name, path in pair.items()},
        **{f"HEADEND_HTTP_{name}": path for name, path in pair.items()},
        "HEADEND_TLS_CLIENT_CA": str(access / "ca.crt"),
        "AGENT_TLS_CERT": str(access / "agents" / "{agent}.crt"),
        "AGENT_TLS_KEY": str(access / "agents" / "{agent}.key"),
        "AGENT_TLS_CA": str(access / "ca.crt"),
        "TICK_S": TICK_S,
        "HEADEND_GRPC": "https://127.0.0.1:1",
    }
    with trio.fail_after(START_WITHIN_S):
        await run_python(env, str(ROOT / "scripts" / "_secure_access.py"))
    token = (access / "tokens" / "admin").read_text().strip()
    async with open_processes() as processes:
        with trio.fail_after(START_WITHIN_S):
            headend = await processes.start("trioder.headend", env=env)
            ready = await headend.logged("^headend ready$")
        async with open_api(ready["http_addr"], ca=access / "ca.crt", token=token) as api:
            launcher = await processes.start(
                "trioder.launcher", env={**env, "HEADEND_GRPC": f"https://{ready['grpc_addr']}"}
            )
            with trio.fail_after(START_WITHIN_S):
                await api.until_connected(ASSETS)
            ports = {port_of(ready["http_addr"]): "http/1.1", port_of(ready["grpc_addr"]): "h2"}
            yield SecureFleet(
                env=env,
                state_dir=state_dir,
                processes=processes,
                headend=headend,
                launcher=launcher,
                api=api,
                ports=ports,
            )


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


async def rotate(fleet: SecureFleet) -> None:
    """Replace the certificates of both ports and of all agents."""
    before = await fleet.shown_serials()
    await fleet.command("trioder.access", "issue-server", "localhost", "127.0.0.1", "::1")
    await fleet.issue_all()
    with trio.fail_after(NOTICED_WITHIN_S):
        while not set(before).isdisjoint(await fleet.shown_serials()):
            await trio.sleep(0.2)


async def revoke(fleet: SecureFleet, agent_id: str) -> None:
    """Revoke an agent, and wait until its session has ended and it was refused."""
    logged = len(fleet.headend.log)
    await fleet.command("trioder.access", "revoke", agent_id)
    with trio.fail_after(REVOKED_WITHIN_S):
        ended = await fleet.headend.logged("^agent disconnected$", after=logged)
        assert ended["agent_id"] == agent_id
        # It connects again with the certificate that it has.
        assert "is revoked" in await fleet.reason_of_refusal(agent_id)


@pytest.mark.timeout(240)
async def test_certificates_are_rotated_and_one_is_revoked_without_a_lost_sample(tmp_path: Path) -> None:
    async with open_secure_fleet(tmp_path) as fleet:
        before, _ = await fleet.sessions_on_record(opened=AGENTS, ended=0)
        victim = next(iter(before))

        await rotate(fleet)
        assert await fleet.sessions() == (before, {})

        await revoke(fleet, before[victim])
        others = {session: agent for session, agent in before.items() if session != victim}
        after = await fleet.sessions_on_record(opened=AGENTS - 1, ended=1)
        assert after == (others, {victim: before[victim]})

        # Its samples were kept; with a certificate again it delivers them.
        await fleet.issue_all("--if-needed")
        with trio.fail_after(START_WITHIN_S):
            await fleet.api.until_connected(ASSETS)
            await all_is_kept(tmp_path)
        opened, ended = await fleet.sessions_on_record(opened=AGENTS, ended=1)
        assert others.items() <= opened.items()
        assert ended == {victim: before[victim]}

        with trio.fail_after(START_WITHIN_S):
            assert await fleet.launcher.stop() == 0
            await until_equal(fleet.api, tmp_path)
        made, stored = made_by_asset(tmp_path), stored_by_asset(DataFolder.below(tmp_path).url)
        assert len(made) == ASSETS
        assert stored == {asset_id: (count, count) for asset_id, count in made.items()}
        with trio.fail_after(START_WITHIN_S):
            assert await fleet.headend.stop() == 0
            await fleet.processes.none_left()
