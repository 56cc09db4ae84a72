"""`scripts/run` as a user starts it, but for the set-up of the environment, which is here already."""

import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import trio

from tests.integration.launcher.pids import open_script, until, with_environment
from tests.ports import free_port
from tests.unit.launcher.fleets import fleet_of
from trioder.fleet import dump_fleet

ROOT = Path(__file__).parents[3]


@dataclass
class Script:
    process: trio.Process
    folder: Path

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def pids(self, part: str = "") -> list[int]:
        """The processes that the script started and that still run."""
        return [pid for pid, command in with_environment(f"STATE_DIR={self.folder}") if part in command]

    def lines_to_try(self) -> list[str]:
        return re.findall(r"^  (curl .*)$", self.output(), re.MULTILINE)

    async def until_up(self) -> None:
        text = "4 of 4 batteries are connected"
        await until(lambda: text in self.output() or self.process.returncode is not None)
        assert text in self.output(), self.output()


@asynccontextmanager
async def running(folder: Path, *options: str, **variables: str) -> AsyncIterator[Script]:
    """Yield the script, run from a folder of its own; bounded, and ended whatever the test does."""
    (folder / "scripts").mkdir(exist_ok=True)
    for name in ("run", "_ask_headend.py", "_secure_access.py"):
        shutil.copy(ROOT / "scripts" / name, folder / "scripts" / name)
    (folder / "scripts" / "_environment.sh").write_text("prepare_environment() { :; }\n")
    if not (folder / ".venv").exists():
        (folder / ".venv").symlink_to(sys.prefix)
    (folder / "assets.json").write_text(dump_fleet(fleet_of(4), form="json"))
    env = {
        "ASSETS_PATH": str(folder / "assets.json"),
        "DATABASE_URL": "none",
        "HEADEND_HTTP_ADDR": f"127.0.0.1:{free_port()}",
        "HEADEND_GRPC_ADDR": f"127.0.0.1:{free_port()}",
        "CONSOLE_HTTP_ADDR": f"127.0.0.1:{free_port()}",
        "SHARD_SIZE": "2",
        "STATE_DIR": str(folder),
    }
    command, output = [str(folder / "scripts" / "run"), *options], folder / "output"
    async with open_script(*command, variables=env | variables, output=output, mark="STATE_DIR") as process:
        yield Script(process, folder)


async def response(line: str) -> bytes:
    """Run a line in a shell; return what it prints."""
    done = await trio.run_process(["bash", "-c", f"{line} --fail"], capture_stdout=True, check=False)
    assert done.returncode == 0, line
    return done.stdout


@pytest.mark.parametrize(
    ("number", "variables"), [(signal.SIGINT, {}), (signal.SIGTERM, {"CONSOLE_HTTP_ADDR": "none"})]
)
async def test_a_stop_leaves_nothing_behind(
    number: signal.Signals, variables: dict[str, str], tmp_path: Path
) -> None:
    async with running(tmp_path, **variables) as script:
        await script.until_up()
        assert len(script.pids("trioder.console")) == (0 if variables else 1)
        assert ("Console: " in script.output()) != bool(variables)
        # A terminal's Ctrl-C goes to the whole group.
        os.killpg(script.process.pid, number)
        with trio.fail_after(40):
            assert await script.process.wait() == 0
        assert script.pids() == []
        assert script.output().endswith("trioder: stopped\n")


async def test_the_lines_to_try_work_as_printed(tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl here")
    async with running(tmp_path) as script:
        await script.until_up()
        await until(lambda: "Ctrl-C stops everything." in script.output())
        lines = script.lines_to_try()
        assert len(lines) == 10
        for line in lines:
            assert await response(line), line
        (console,) = re.findall(r"^\nConsole: (http://\S+)$", script.output(), re.MULTILINE)
        assert b"<!doctype html>" in await response(f"curl -s {console}/assets")
        fleet = msgspec.json.decode(await response(f"curl -s {console}/api/fleet"))
        assert fleet["assets"] == 4


@pytest.mark.parametrize("name", ["headend", "launcher", "console"])
async def test_if_one_dies_the_others_are_stopped_and_the_script_fails(name: str, tmp_path: Path) -> None:
    async with running(tmp_path) as script:
        await script.until_up()
        (pid,) = script.pids(f"trioder.{name}")
        os.kill(pid, signal.SIGKILL)
        with trio.fail_after(40):
            assert await script.process.wait() == 128 + signal.SIGKILL
            # Agents whose launcher was killed end by themselves, a moment later.
            await until(lambda: script.pids() == [], every_s=0.2)
        assert f"trioder: the {name} ended with exit code 137; stopping the rest" in script.output()


@pytest.mark.parametrize("variable", ["HEADEND_HTTP_ADDR", "HEADEND_GRPC_ADDR", "CONSOLE_HTTP_ADDR"])
async def test_a_port_in_use_is_reported_by_its_program(variable: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        async with running(tmp_path, **{variable: address}) as script:
            assert await script.process.wait() == 2
            assert script.pids() == []
            assert f"{variable} {address} cannot be listened on" in script.output()
            # The console is not waited for.
            assert variable == "CONSOLE_HTTP_ADDR" or "launcher starts" not in script.output()


async def test_a_faulty_fleet_is_reported_by_the_headend(tmp_path: Path) -> None:
    async with running(tmp_path, ASSETS_PATH="missing.yaml") as script:
        assert await script.process.wait() == 2
        assert script.pids() == []
        assert "missing.yaml" in script.output()


async def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, "--secured") as script:
        assert await script.process.wait() == 2
        assert script.output() == "usage: scripts/run [--secure]\n"
