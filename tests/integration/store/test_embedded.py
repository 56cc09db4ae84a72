"""The bundled server: it starts fast, recovers, and is never left behind."""

import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
import trio

from tests.integration.store.servers import run_sql
from trioder.store.embedded import binaries
from trioder.store.embedded.layout import DataFolder
from trioder.store.embedded.orphan_process import server_pid
from trioder.store.embedded.server import open_embedded_server
from trioder.store.interface import StoreConfigurationError

ROOT = Path(__file__).parents[3]
_OWNER = """
import sys, trio
from pathlib import Path
from trioder.store.embedded.server import open_embedded_server

async def main():
    async with open_embedded_server(Path(sys.argv[1])) as url:
        print(url, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until_gone(pid: int) -> None:
    with trio.fail_after(15):
        while is_running(pid):
            await trio.sleep(0.02)


async def until_it_answers(url: str) -> None:
    with trio.fail_after(20):
        while True:
            try:
                run_sql(url, "SELECT 1")
            except psycopg.OperationalError:
                await trio.sleep(0.05)
            else:
                return


def start_owner(state_dir: Path, *, python: str = sys.executable, **options: object) -> subprocess.Popen:
    owner = subprocess.Popen(
        [python, "-c", _OWNER, str(state_dir)], stdout=subprocess.PIPE, cwd=ROOT, **options
    )
    # Its log is quoted first.
    assert any(line.startswith(b"postgresql:///") for line in owner.stdout)
    return owner


async def test_it_is_made_once_and_starts_again_within_a_second(state_dir: Path) -> None:
    async with open_embedded_server(state_dir) as url:
        run_sql(url, "CREATE TABLE kept AS SELECT 1 AS number")
    started = time.monotonic()
    async with open_embedded_server(state_dir) as url:
        took = time.monotonic() - started
        assert run_sql(url, "SELECT number FROM kept") == [(1,)]
        pid = server_pid(DataFolder.below(state_dir))
    assert not is_running(pid)
    # A second on an idle machine is 0.1; this is for a busy one.
    assert took < 5


async def test_nobody_else_can_enter_and_no_network_reaches_it(state_dir: Path) -> None:
    async with open_embedded_server(state_dir) as url:
        assert run_sql(url, "SHOW listen_addresses") == [("",)]
        folder = DataFolder.below(state_dir)
        assert {path.stat().st_mode & 0o777 for path in (folder.root, folder.data, folder.sockets)} == {0o700}


async def test_a_killed_server_is_started_again(state_dir: Path) -> None:
    async with open_embedded_server(state_dir) as url:
        run_sql(url, "CREATE TABLE kept AS SELECT 1 AS number")
        first = server_pid(DataFolder.below(state_dir))
        os.kill(first, signal.SIGKILL)
        await until_gone(first)
        await until_it_answers(url)
        assert run_sql(url, "SELECT number FROM kept") == [(1,)]
        assert server_pid(DataFolder.below(state_dir)) != first


async def test_a_killed_watchdog_is_replaced_and_its_server_with_it(state_dir: Path) -> None:
    async with open_embedded_server(state_dir) as url:
        first = server_pid(DataFolder.below(state_dir))
        os.kill(os.getsid(first), signal.SIGKILL)
        await until_gone(first)
        await until_it_answers(url)


async def test_the_server_ends_with_its_owner_however_that_ends(state_dir: Path) -> None:
    owner = start_owner(state_dir)
    pid = server_pid(DataFolder.below(state_dir))
    watchdog = os.getsid(pid)
    owner.kill()
    owner.communicate()
    await until_gone(pid)
    await until_gone(watchdog)


async def test_what_a_killed_owner_and_watchdog_left_behind_is_ended_at_the_next_start(
    state_dir: Path,
) -> None:
    owner = start_owner(state_dir)
    orphan_pid = server_pid(DataFolder.below(state_dir))
    os.kill(os.getsid(orphan_pid), signal.SIGSTOP)
    owner.kill()
    owner.communicate()
    os.kill(os.getsid(orphan_pid), signal.SIGKILL)
    assert is_running(orphan_pid)
    with trio.fail_after(30):
        async with open_embedded_server(state_dir) as url:
            assert not is_running(orphan_pid)
            await until_it_answers(url)


async def test_a_second_owner_is_refused_and_harms_nothing(state_dir: Path) -> None:
    async with open_embedded_server(state_dir) as url:
        with pytest.raises(
            StoreConfigurationError, match=r"another headend runs the database in .*STATE_DIR"
        ):
            async with open_embedded_server(state_dir):
                pass
        assert run_sql(url, "SELECT 1") == [(1,)]


async def test_a_half_initialized_database_is_initialized_again(state_dir: Path) -> None:
    half_made = DataFolder.below(state_dir).root / f"{binaries.MAJOR_VERSION}.new"
    half_made.mkdir(parents=True)
    half_made.parent.chmod(0o700)
    (half_made / "PG_VERSION").write_text("18\n")
    (half_made / "base").mkdir()
    async with open_embedded_server(state_dir) as url:
        assert run_sql(url, "SELECT 1") == [(1,)]
    assert not half_made.exists()


async def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    state_dir = tmp_path / ("a long folder's name " * 4) / ("and another one " * 4)
    async with open_embedded_server(state_dir) as url:
        assert run_sql(url, "SELECT 1") == [(1,)]
        assert str(tmp_path) not in url
    DataFolder.below(state_dir).sockets.rmdir()


async def test_a_folder_that_others_may_enter_is_refused_and_not_changed(state_dir: Path) -> None:
    folder = DataFolder.below(state_dir)
    folder.root.mkdir(parents=True)
    folder.root.chmod(0o755)
    with pytest.raises(StoreConfigurationError, match=r"mode 0700.* 0755"):
        async with open_embedded_server(state_dir):
            pass
    assert folder.root.stat().st_mode & 0o777 == 0o755


async def test_an_error_inside_is_raised_as_itself(state_dir: Path) -> None:
    with pytest.raises(LookupError):
        async with open_embedded_server(state_dir):
            raise LookupError


async def test_its_url_is_printed_on_the_command_line(state_dir: Path) -> None:
    command = [sys.executable, "-m", "trioder.store", "url", "--state-dir", str(state_dir)]
    before = await trio.run_process(command, cwd=ROOT, capture_stdout=True, capture_stderr=True, check=False)
    assert before.returncode == 1
    assert "there is no database in" in before.stderr.decode()
    async with open_embedded_server(state_dir) as url:
        printed = await trio.run_process(command, cwd=ROOT, capture_stdout=True, capture_stderr=True)
        assert printed.stdout.decode().strip() == url
        psql = printed.stderr.decode().split()[0]
        asked = await trio.run_process([psql, url, "-Atc", "SELECT current_user"], capture_stdout=True)
        assert asked.stdout == b"trioder\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_an_ordinary_user_can_own_it() -> None:
    user = {"user": 65534, "group": 65534, "extra_groups": []}
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), *site.getsitepackages()])}
    for python in (sys.executable, "/usr/bin/python3"):
        check = [python, "-c", "import trio, trioder.store.embedded.server"]
        try:
            await trio.run_process(check, cwd="/", env=environment, capture_stderr=True, **user)
        except (OSError, subprocess.CalledProcessError):
            continue
        break
    else:
        pytest.skip(f"user 65534 can run neither {sys.executable} nor the system's Python with its packages")
    state_dir = Path(tempfile.mkdtemp(prefix="trioder-test-"))
    os.chown(state_dir, 65534, 65534)
    owner = start_owner(state_dir, python=python, env=environment, **user)
    pid = server_pid(DataFolder.below(state_dir))
    assert Path(f"/proc/{pid}").stat().st_uid == 65534  # no disk
    owner.kill()
    owner.communicate()
    await until_gone(pid)
    await trio.to_thread.run_sync(shutil.rmtree, state_dir)
