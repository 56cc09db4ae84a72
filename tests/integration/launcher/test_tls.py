"""The launcher's agents over TLS: each process has a certificate of its own."""

import random
import sys
from pathlib import Path

import pytest
import trio

from tests.integration.agent.tls_headend import serving
from tests.integration.launcher.pids import until
from tests.unit.access.certificates import Authority, der_of
from tests.unit.launcher.fleets import fleet_of, shards_of
from trioder.access.agent_tls import AgentTlsFiles
from trioder.access.tls import ServerTls
from trioder.fleet import dump_fleet
from trioder.launcher.progress import FleetProgress
from trioder.launcher.shards import LaunchSettings
from trioder.launcher.supervisor import run_fleet


async def test_each_agent_process_presents_its_own_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    shards = shards_of(assets=4, size=2)
    issued = {der_of(authority.issue("agent", file=shard.agent_id).cert) for shard in shards}
    async with serving(ServerTls(*authority.issue("localhost"), authority.file)) as headend:
        settings = LaunchSettings(
            headend=f"https://localhost:{headend.port}",
            state_dir=str(tmp_path),
            tls=AgentTlsFiles(
                cert=str(tmp_path / "ca-{agent}.crt"),
                key=str(tmp_path / "ca-{agent}.key"),
                ca=str(authority.file),
            ),
        )
        progress = FleetProgress(shards, now_s=trio.current_time())

        async def run() -> None:
            await run_fleet(shards, settings, progress=progress, relay=lambda _: None, rng=random.Random(1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until(lambda: progress.snapshot().connected == 4)
            nursery.cancel_scope.cancel()
        assert len(issued) == 2
        assert set(headend.certificates) == issued


async def refused(folder: Path, *options: str, assets: int = 3) -> str:
    """Return what a launcher reports that refuses its options."""
    fleet = folder / "fleet.json"
    fleet.write_text(dump_fleet(fleet_of(assets), form="json"))
    command = [sys.executable, "-m", "trioder.launcher", "--assets-path", str(fleet), "--shard-size", "1"]
    with trio.fail_after(60):
        ended = await trio.run_process(
            [*command, "--state-dir", str(folder), *options], capture_stderr=True, check=False
        )
    assert ended.returncode == 2
    return ended.stderr.decode()


async def test_missing_files_of_all_agents_are_reported_before_one_starts(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    first, *others = shards_of(assets=3, size=1)
    pair = authority.issue("agent", file=first.agent_id)
    files = ["--agent-tls-cert", str(tmp_path / "ca-{agent}.crt"), "--agent-tls-key", str(pair.key)]
    ca = ["--agent-tls-ca", str(authority.file)]
    reported = await refused(tmp_path, "--headend-grpc", "https://localhost:9", *files, *ca)
    for shard in others:
        path = tmp_path / f"ca-{shard.agent_id}.crt"
        assert f"AGENT_TLS_CERT is '{path}'; it must be a file that can be read: No such file" in reported
    assert first.agent_id not in reported
    assert "python -m trioder.access issue-agents" in reported
    assert "launcher starts" not in reported


async def test_the_report_of_missing_files_is_bounded(tmp_path: Path) -> None:
    files = ["--agent-tls-cert", "no/{agent}.crt", "--agent-tls-key", "no/{agent}.key"]
    reported = await refused(tmp_path, "--headend-grpc", "https://localhost:9", *files, assets=60)
    assert reported.count("it must be a file that can be read") == 50
    assert "... and 70 more" in reported


@pytest.mark.parametrize("headend", ["localhost:9", "http://localhost:9"])
async def test_files_for_a_plain_headend_are_refused_once(headend: str, tmp_path: Path) -> None:
    files = ["--agent-tls-cert", "no/{agent}.crt", "--agent-tls-key", "no/{agent}.key"]
    reported = await refused(tmp_path, "--headend-grpc", headend, *files)
    assert reported.count("AGENT_TLS_CERT is 'no/{agent}.crt', but HEADEND_GRPC is localhost:9") == 1
    assert "it must be https://localhost:9 for TLS" in reported
