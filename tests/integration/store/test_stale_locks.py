"""Lock files that a power cut left behind: the server starts, and no process that is not ours is touched."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.integration.store.servers import run_sql
from trioder.store.embedded import server as server_module
from trioder.store.embedded.binaries import find_installation
from trioder.store.embedded.layout import DataFolder
from trioder.store.embedded.orphan_process import remove_stale_lock_files, server_pid, stop_orphan_server
from trioder.store.embedded.server import open_embedded_server
from trioder.store.interface import StoreConfigurationError


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """A database that was made and stopped; the tests of this module start it again, one after the other."""
    state_dir = tmp_path_factory.mktemp("stopped") / "state"

    async def make() -> None:
        async with open_embedded_server(state_dir):
            pass

    trio.run(make)
    return DataFolder.below(state_dir)


@pytest.fixture(params=["the same user", "another user"])
def bystander(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    another = request.param == "another user" and os.geteuid() == 0
    process = start(
        "sleep", "600", cwd="/", **({"user": 65534, "group": 65534, "extra_groups": []} if another else {})
    )
    yield process
    assert process.poll() is None, "a process that is not ours was ended"
    process.kill()
    process.wait()


def start(*command: str | Path, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)


def left_behind(folder: DataFolder, pid: int | str) -> str:
    return f"{pid}\n{folder.data}\n1700000000\n5432\n{folder.sockets}\n\n  5432001        12\nready   \n"


async def starts(folder: DataFolder) -> None:
    with trio.fail_after(30):
        async with open_embedded_server(folder.root.parent) as url:
            assert run_sql(url, "SELECT 1") == [(1,)]


async def test_the_files_name_a_foreign_process(
    stopped: DataFolder, bystander: subprocess.Popen[bytes]
) -> None:
    stopped.pid_file.write_text(left_behind(stopped, bystander.pid))
    stopped.socket_lock.write_text(left_behind(stopped, bystander.pid))
    await starts(stopped)


@pytest.mark.parametrize("of", ["own", "parent", "init"])
async def test_the_pid_file_names_a_process_that_must_live(stopped: DataFolder, of: str) -> None:
    pid = {"own": os.getpid(), "parent": os.getppid(), "init": 1}[of]
    stopped.pid_file.write_text(left_behind(stopped, pid))
    await starts(stopped)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"12",
        b"-1\n/x\n",
        b"0\n",
        b"99999999999\n",
        b"\xff\xfe\0\0",
        b"no number\n",
        "²\n".encode(),
    ],
)
async def test_the_pid_file_is_empty_cut_off_or_garbage(stopped: DataFolder, content: bytes) -> None:
    stopped.pid_file.write_bytes(content)
    await starts(stopped)


async def test_a_process_that_only_names_the_cluster_or_the_program_is_not_ours(
    stopped: DataFolder, tmp_path: Path
) -> None:
    # One that has the program's name but another working folder, and one the other way round.
    impostor = tmp_path / "postgres"
    shutil.copy(shutil.which("sleep"), impostor)
    named = start(impostor, "600", cwd=tmp_path)
    inside = start(
        sys.executable, "-c", "input()", "-D", stopped.data, cwd=stopped.data, stdin=subprocess.PIPE
    )
    try:
        for process in (named, inside):
            stopped.pid_file.write_text(left_behind(stopped, process.pid))
            await starts(stopped)
            assert process.poll() is None
    finally:
        for process in (named, inside):
            process.kill()
            process.communicate()


async def test_the_pid_file_names_the_server_of_another_cluster(stopped: DataFolder, server_url: str) -> None:
    [(data,)] = run_sql(server_url, "SHOW data_directory")
    other = int((Path(data) / "postmaster.pid").read_text().splitlines()[0])
    stopped.pid_file.write_text(left_behind(stopped, other))
    await starts(stopped)
    assert run_sql(server_url, "SELECT 1") == [(1,)]


async def test_a_server_of_ours_is_found_though_its_pid_file_is_cut_off(stopped: DataFolder) -> None:
    installation = find_installation()
    orphan_process = start(
        *installation.command(
            "postgres",
            *("-D", str(stopped.data), "-c", "listen_addresses="),
            *("-c", f"unix_socket_directories={stopped.sockets}"),
        ),
        cwd=stopped.root,
        **installation.account,
    )
    with trio.fail_after(20):
        while server_pid(stopped) is None or not stopped.socket.exists():
            await trio.sleep(0.02)
    stopped.pid_file.write_text("")
    with trio.fail_after(30):
        await stop_orphan_server(stopped, patience_s=0.0)
    assert orphan_process.wait(10) == 0
    stopped.pid_file.write_text("")
    await starts(stopped)


async def test_a_server_that_cannot_be_seen_keeps_its_files(stopped: DataFolder) -> None:
    stopped.pid_file.write_text(left_behind(stopped, 4_000_000))
    with socket.socket(socket.AF_UNIX) as elsewhere:
        elsewhere.bind(str(stopped.socket))
        elsewhere.listen()
        with pytest.raises(StoreConfigurationError, match="no process of this system"):
            async with open_embedded_server(stopped.root.parent):
                pass
    stopped.socket.unlink()
    assert stopped.pid_file.exists()
    await starts(stopped)


async def test_a_file_that_cannot_be_removed_is_reported(stopped: DataFolder) -> None:
    stopped.pid_file.mkdir()
    with pytest.raises(StoreConfigurationError, match=r"postmaster\.pid.* cannot be removed"):
        remove_stale_lock_files(stopped)
    stopped.pid_file.rmdir()


async def test_a_restart_after_a_crash_passes_over_a_reused_number(
    stopped: DataFolder, bystander: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ended_and_reused(folder: DataFolder, *, patience_s: float) -> None:
        await stop_orphan_server(folder, patience_s=patience_s)
        folder.pid_file.write_text(left_behind(folder, bystander.pid))

    async with open_embedded_server(stopped.root.parent) as url:
        monkeypatch.setattr(server_module, "stop_orphan_server", ended_and_reused)
        os.kill(server_pid(stopped), signal.SIGKILL)
        with trio.fail_after(20):
            while server_pid(stopped) == bystander.pid or not is_answered(url):
                await trio.sleep(0.05)


def is_answered(url: str) -> bool:
    try:
        return run_sql(url, "SELECT 1") == [(1,)]
    except Exception:  # noqa: BLE001  # whatever it is: not yet
        return False
