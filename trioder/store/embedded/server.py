"""Runs the bundled PostgreSQL server: creates its cluster, starts, supervises, restarts and stops it.

It listens only on a Unix socket in a private folder.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import structlog
import trio

from trioder.process.backoff import Backoff
from trioder.process.nurseries import open_background_nursery
from trioder.store.embedded.binaries import (
    Installation,
    find_installation,
    pg_variables_hidden,
    server_environment,
)
from trioder.store.embedded.layout import DATABASE, USER, DataFolder
from trioder.store.embedded.orphan_process import (
    pid_file_lines,
    remove_stale_lock_files,
    server_pid,
    stop_orphan_server,
)
from trioder.store.interface import StoreConfigurationError

log = structlog.stdlib.get_logger(__name__)

_WATCHDOG = Path(__file__).with_name("watchdog.py")
_START_WITHIN_S = 60.0  # includes replaying the log after a crash
_WATCHDOG_STOP_WITHIN_S = 8.0
_STOP_WITHIN_S = 15.0
_POLL_EVERY_S = 0.01
# The watchdog of a killed headend gets this long to stop the server.
_WATCHDOG_GRACE_S = 6.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 10.0
_HEALTHY_AFTER_S = 30.0
# The processes of a killed server may hold its shared memory for a moment: the next one refuses to start.
_START_ATTEMPTS = 5

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "max_connections": "40",
    "shared_buffers": "128MB",
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "jit": "off",
}


@asynccontextmanager
async def open_embedded_server(state_dir: Path) -> AsyncIterator[str]:
    """Run the bundled server below `state_dir` and yield its URL once it accepts connections.

    *Resource handling*: the server is a child of a watchdog process that stops it when this process ends in
    any way; a server that dies is restarted while the block runs. Meanwhile this process's environment has
    no PG* variables.

    Raises:
        StoreConfigurationError: it cannot run here, or another headend runs it already.
    """
    installation = find_installation()
    folder = DataFolder.below(state_dir)
    folder.make(installation)
    with pg_variables_hidden(), _locked(folder):
        await stop_orphan_server(folder, patience_s=_WATCHDOG_GRACE_S)
        remove_stale_lock_files(folder)
        await _create_cluster(folder, installation)
        watchdog = await _start(folder, installation)
        async with open_background_nursery() as nursery:
            nursery.start_soon(_keep_running, watchdog, folder, installation)
            yield folder.url


@contextmanager
def _locked(folder: DataFolder) -> Iterator[None]:
    try:
        lock = folder.lock.open("ab")
    except OSError as error:
        raise StoreConfigurationError(
            f"the database's lock {folder.lock} cannot be opened: {error.strerror}"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreConfigurationError(
                f"another headend runs the database in {folder.root}; set STATE_DIR to a folder of its own, "
                "or DATABASE_URL to a server that both may use"
            ) from None
        yield


async def _create_cluster(folder: DataFolder, installation: Installation) -> None:
    """Run initdb in a temporary place, create the database, and move the whole to its place; once.

    Raises:
        StoreConfigurationError: it failed; the text is the server's own.
    """
    if (folder.data / "PG_VERSION").exists():
        return

    async def run(program: str, *arguments: str, stdin: bytes = b"") -> None:
        done = await trio.run_process(
            installation.command(program, *arguments),
            check=False,
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            cwd=folder.root,
            env=server_environment(),
            **installation.account,
        )
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise StoreConfigurationError(
                f"no database could be made in {folder.root}: {' '.join(lines[-3:])}"
            )

    log.info("making the database", path=str(folder.data))
    unfinished = folder.data.with_name(folder.data.name + ".new")
    if unfinished.exists():
        await trio.to_thread.run_sync(shutil.rmtree, unfinished)
    options = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions")
    # Trust: only the owner can enter the socket's folder.
    await run("initdb", f"--pgdata={unfinished}", f"--username={USER}", *options)
    create = f"CREATE DATABASE {DATABASE}\n".encode()
    await run("postgres", "--single", "-D", str(unfinished), "postgres", stdin=create)
    try:
        unfinished.rename(folder.data)
    except OSError as error:
        raise StoreConfigurationError(
            f"{folder.data} is no database of ours and in its way: {error.strerror}"
        ) from None


async def _start(folder: DataFolder, installation: Installation) -> trio.Process:
    """Start the server, with retries: processes of a previous one may still be ending."""
    for attempt in range(_START_ATTEMPTS):
        await trio.sleep(attempt * 0.5)
        watchdog = await _spawn(folder, installation)
        ready = False
        try:
            ready = await _until_ready(folder, watchdog)
        finally:
            if not ready:
                with trio.move_on_after(_STOP_WITHIN_S, shield=True):
                    await _stop(watchdog, folder)
        if ready:
            return watchdog
    raise StoreConfigurationError(f"the database server does not start in {folder.data}: {_log_tail(folder)}")


async def _keep_running(watchdog: trio.Process, folder: DataFolder, installation: Installation) -> None:
    backoff = Backoff(first_s=_SHORTEST_PAUSE_S, max_s=_LONGEST_PAUSE_S)
    while True:
        started_s = trio.current_time()
        try:
            code = await watchdog.wait()
        finally:
            # If cancelled, the headend stops; otherwise the watchdog has ended already.
            with trio.move_on_after(_STOP_WITHIN_S, shield=True):
                await _stop(watchdog, folder)
        log.error("database server ended; it is started again", exit_code=code, reason=_log_tail(folder))
        if trio.current_time() - started_s > _HEALTHY_AFTER_S:
            backoff.reset()
        await stop_orphan_server(folder, patience_s=0.0)
        await trio.sleep(backoff.next_delay_s())
        try:
            # Its process id may belong to another process by now.
            remove_stale_lock_files(folder)
            watchdog = await _spawn(folder, installation)
        except (StoreConfigurationError, OSError) as error:
            # Also a full process or file table: the loop sees the ended watchdog and retries.
            log.error("database server cannot be started", reason=str(error))  # noqa: TRY400  # no bug to trace
            continue
        log.info("database server started", pid=watchdog.pid)


async def _spawn(folder: DataFolder, installation: Installation) -> trio.Process:
    # The setting is a list of folders: quoted, so that no character of the path separates.
    sockets = '"' + str(folder.sockets).replace('"', '""') + '"'
    settings = _SETTINGS | {"unix_socket_directories": sockets}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    server = installation.command("postgres", "-D", str(folder.data), *options)
    if folder.log.exists():
        folder.log.replace(folder.log.with_suffix(".log.1"))
    with folder.log.open("wb") as output:
        return await trio.lowlevel.open_process(
            # -I -S: isolated from the environment and installed packages; it starts in 20 ms.
            [sys.executable, "-I", "-S", str(_WATCHDOG), *server],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder.root,
            env=server_environment(),
            **installation.account,
        )


async def _stop(watchdog: trio.Process, folder: DataFolder) -> None:
    if watchdog.stdin is not None:
        await watchdog.stdin.aclose()
    with trio.move_on_after(_WATCHDOG_STOP_WITHIN_S):
        await watchdog.wait()
    if watchdog.returncode is None:
        watchdog.kill()
        await stop_orphan_server(folder, patience_s=0.0)


async def _until_ready(folder: DataFolder, watchdog: trio.Process) -> bool:
    with trio.move_on_after(_START_WITHIN_S):
        while watchdog.poll() is None:
            # Line 8 is the state, which pg_ctl waits for too. The file of a killed server says ready as well,
            # but names another process.
            lines = pid_file_lines(folder)
            if lines[7:8] == ["ready"] and _is_child_of(watchdog, server_pid(folder)):
                log.info("database server ready", pid=server_pid(folder), path=str(folder.root))
                return True
            await trio.sleep(_POLL_EVERY_S)
    return False


def _is_child_of(watchdog: trio.Process, pid: int | None) -> bool:
    # The watchdog leads a session (start_new_session), which the server belongs to.
    try:
        return pid is not None and os.getsid(pid) == watchdog.pid
    except OSError:
        return False


def _log_tail(folder: DataFolder) -> str:
    try:
        lines = folder.log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "it said nothing"
    return " | ".join(lines[-3:])[-500:] or "it said nothing"
