"""`scripts/run --secure` as a user starts it: TLS, certificates and tokens in one command."""

import json
import os
import re
import shutil
import signal
import ssl
import sys
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import trio

from tests.integration.agent.test_tls import running as running_agent
from tests.integration.launcher.pids import until
from tests.integration.launcher.test_run_script import ROOT, Script, response, running
from tests.ports import free_port
from tests.unit.launcher.fleets import fleet_of
from trioder.fleet import dump_fleet

ROLES = {"viewer", "operator", "admin"}


async def started(script: Script) -> None:
    await script.until_up()
    await until(lambda: "Ctrl-C stops everything." in script.output())


async def stop(script: Script) -> None:
    script.process.send_signal(signal.SIGTERM)
    with trio.fail_after(40):
        assert await script.process.wait() == 0


def secrets(folder: Path) -> dict[str, bytes]:
    access = folder / "access"
    files = [*access.rglob("*.crt"), *access.rglob("*.key"), *(access / "tokens").iterdir()]
    return {str(file.relative_to(access)): file.read_bytes() for file in files}


async def test_the_lines_to_try_work_as_printed_and_a_second_start_keeps_everything(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    async with running(tmp_path, "--secure") as script:
        await started(script)
        lines = script.lines_to_try()
        assert len(lines) == 12
        for line in lines:
            assert await response(line), line
        (console,) = re.findall(r"^Console: (https://\S+)$", script.output(), re.MULTILINE)
        (file,) = re.findall(r"log in with the token in (\S+)", script.output())
        (ca,) = re.findall(r"browsers trust it once (\S+) is", script.output())
        headers = f"-H 'Origin: {console}' -H 'content-type: application/json'"
        body = json.dumps({"token": Path(file).read_text().strip()})
        caller = await response(f"curl -s --cacert {ca} {console}/session {headers} -d '{body}'")
        assert json.loads(caller)["role"] == "operator"
        # 2 agents, and the server.
        assert "3 certificates issued, 0 kept; 3 tokens created, 0 kept" in script.output()
        await stop(script)
    before = secrets(tmp_path)
    agents = [name for name in before if name.startswith("agents/") and name.endswith(".crt")]
    assert len(agents) == 2
    (tmp_path / "output").unlink()
    async with running(tmp_path, "--secure") as script:
        await started(script)
        assert "0 certificates issued, 3 kept; 0 tokens created, 3 kept" in script.output()
        await stop(script)
    assert secrets(tmp_path) == before


async def test_nothing_is_served_without_a_token_or_a_certificate(tmp_path: Path) -> None:
    grpc, http = free_port(), free_port()
    addresses = {"HEADEND_GRPC_ADDR": f"127.0.0.1:{grpc}", "HEADEND_HTTP_ADDR": f"127.0.0.1:{http}"}
    ca = tmp_path / "access" / "ca.crt"
    async with running(tmp_path, "--secure", **addresses) as script:
        await started(script)
        context = ssl.create_default_context(cafile=ca)
        request = partial(urlopen, f"https://localhost:{http}/fleet", context=context, timeout=10)
        with pytest.raises(HTTPError) as refusal:
            await trio.to_thread.run_sync(request)
        refusal.value.close()
        assert refusal.value.code == 401
        async with running_agent(tmp_path / "other", f"https://localhost:{grpc}", None, ca) as agent:
            assert "requires a client certificate" in await agent.status("refused")
        await stop(script)


class Access:
    """`scripts/_secure_access.py` for a fleet, without starting it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "access"
        fleet = folder / "fleet.json"
        fleet.write_text(dump_fleet(fleet_of(4), form="json"))
        self._env = {
            **os.environ,
            "ACCESS_DIR": str(self.folder),
            "ASSETS_PATH": str(fleet),
            "HEADEND_GRPC_ADDR": "0.0.0.0:50051",
            "HEADEND_HTTP_ADDR": "127.0.0.1:3001",
            "SHARD_SIZE": "2",
            "STATE_DIR": str(folder),
        }

    async def prepare(self) -> str:
        return await self._run(str(ROOT / "scripts" / "_secure_access.py"))

    async def command(self, *arguments: str) -> str:
        return await self._run("-m", "trioder.access", *arguments)

    async def _run(self, *arguments: str) -> str:
        with trio.fail_after(60):
            done = await trio.run_process(
                [sys.executable, *arguments], env=self._env, capture_stdout=True, capture_stderr=True
            )
        return (done.stdout + done.stderr).decode()


async def test_what_cannot_be_used_any_more_is_made_again(tmp_path: Path) -> None:
    access = Access(tmp_path)
    await access.prepare()
    viewer = access.folder / "tokens" / "viewer"
    former = viewer.read_text()
    await access.command("token", "revoke", "scripts-run-viewer")
    (access.folder / "tokens" / "admin").unlink()
    certificate = min((access.folder / "agents").glob("*.crt"))
    certificate.unlink()
    assert "1 certificates issued, 2 kept; 2 tokens created, 1 kept" in await access.prepare()
    assert certificate.exists()
    assert viewer.read_text() != former


async def test_tokens_and_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    access = Access(tmp_path)
    await access.prepare()
    private = [*access.folder.rglob("*.key"), *(access.folder / "tokens").iterdir()]
    assert {file.name for file in private} >= ROLES
    assert {oct(file.stat().st_mode & 0o777) for file in private} == {"0o600"}
    assert oct((access.folder / "tokens").stat().st_mode & 0o777) == "0o700"


async def test_each_agent_is_granted_its_own_assets(tmp_path: Path) -> None:
    access = Access(tmp_path)
    await access.prepare()
    agents = json.loads(await access.command("list", "--json"))["agents"]
    assets = [asset.id for asset in fleet_of(4).assets]
    assert [agent["asset_ids"] for agent in agents] == [assets[:2], assets[2:]]
