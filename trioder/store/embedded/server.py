"""The life of the bundled PostgreSQL server: started, watched, started again, stopped.

It listens on a Unix socket only, in a folder that nobody else enters. What is said to it lives in
`trioder.store.postgres`.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import structlog
import trio

from trioder.store.embedded.binaries import Installation, find_installation
from trioder.store.embedded.cluster import make_cluster
from trioder.store.embedded.environment import pg_variables_hidden, server_environment
from trioder.store.embedded.layout import DataFolder
from trioder.store.embedded.orphan_process import (
    end_stray_server,
    pid_file_lines,
    remove_stale_lock_files,
    server_pid,
)
from trioder.store.interface import StoreConfigurationError

log = structlog.stdlib.get_logger(__name__)

_GUARDIAN = Path(__file__).with_name("watchdog.py")
_START_WITHIN_S = 60.0  # a recovery after a crash replays its log first
_GUARDIAN_STOPS_WITHIN_S = 8.0
_STOP_WITHIN_S = 15.0
_LOOK_EVERY_S = 0.01
# The guardian of a headend that was killed is given its time to stop the server.
_GUARDIAN_AT_IT_S = 6.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 10.0
_HEALTHY_AFTER_S = 30.0
# The processes of a server that was killed may hold its memory for a moment: the next one refuses to start.
_FIRST_ATTEMPTS = 5

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
    """Run the bundled server below `state_dir` and yield its URL once it takes connections.

    *Resource handling*: the server is a child of a guardian process that stops it when this process is
    gone, however that went; a server that died is started again for as long as the context lasts. Meanwhile
    the environment of this process has no PG* variables: see `pg_variables_hidden`.

    Raises:
        StoreConfigurationError: it cannot run here, or another headend runs it already.
    """
    installation = find_installation()
    folder = DataFolder.below(state_dir)
    folder.make(installation)
    error: Exception | None = None
    with pg_variables_hidden(), _held_lock(folder):
        await end_stray_server(folder, patience_s=_GUARDIAN_AT_IT_S)
        remove_stale_lock_files(folder)
        await make_cluster(folder, installation)
        guardian = await _start(folder, installation)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep_running, guardian, folder, installation)
            try:
                yield folder.url
            except Exception as caught:  # noqa: BLE001  # raised below, outside of the nursery that would wrap it
                error = caught
            nursery.cancel_scope.cancel()
    if error is not None:
        raise error


@contextmanager
def _held_lock(folder: DataFolder) -> Iterator[None]:
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


async def _start(folder: DataFolder, installation: Installation) -> trio.Process:
    """Start the server, with patience for what is left of one before it."""
    for attempt in range(_FIRST_ATTEMPTS):
        await trio.sleep(attempt * 0.5)
        guardian = await _spawn(folder, installation)
        ready = False
        try:
            ready = await _until_ready(folder, guardian)
        finally:
            if not ready:
                with trio.move_on_after(_STOP_WITHIN_S, shield=True):
                    await _stop(guardian, folder)
        if ready:
            return guardian
    raise StoreConfigurationError(
        f"the database server does not start in {folder.data}: {_last_words(folder)}"
    )


async def _keep_running(guardian: trio.Process, folder: DataFolder, installation: Installation) -> None:
    pause_s = _SHORTEST_PAUSE_S
    while True:
        started_s = trio.current_time()
        try:
            code = await guardian.wait()
        finally:
            # Cancelled: the headend stops. Otherwise it has ended already.
            with trio.move_on_after(_STOP_WITHIN_S, shield=True):
                await _stop(guardian, folder)
        log.error("database server ended; it is started again", exit_code=code, reason=_last_words(folder))
        if trio.current_time() - started_s > _HEALTHY_AFTER_S:
            pause_s = _SHORTEST_PAUSE_S
        await end_stray_server(folder, patience_s=0.0)
        await trio.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        try:
            # The number of the ended one may have been given to another process by now.
            remove_stale_lock_files(folder)
            guardian = await _spawn(folder, installation)
        except StoreConfigurationError as error:
            log.error("database server cannot be started", reason=str(error))  # noqa: TRY400  # no bug to trace
            continue
        except OSError as error:
            # A table of processes or files that is full: the ended guardian stands for another failure.
            log.error("database server cannot be started", reason=str(error))  # noqa: TRY400  # no bug to trace
            continue
        log.info("database server started", pid=guardian.pid)


async def _spawn(folder: DataFolder, installation: Installation) -> trio.Process:
    # A list of folders: quoted, so that no character of the path separates.
    sockets = '"' + str(folder.sockets).replace('"', '""') + '"'
    settings = _SETTINGS | {"unix_socket_directories": sockets}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    server = installation.command("postgres", "-D", str(folder.data), *options)
    if folder.log.exists():
        folder.log.replace(folder.log.with_suffix(".log.1"))
    with folder.log.open("wb") as output:
        return await trio.lowlevel.open_process(
            # -I -S: nothing of the environment or of installed packages gets into it; it starts in 20 ms.
            [sys.executable, "-I", "-S", str(_GUARDIAN), *server],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder.root,
            env=server_environment(),
            **installation.account,
        )


async def _stop(guardian: trio.Process, folder: DataFolder) -> None:
    if guardian.stdin is not None:
        await guardian.stdin.aclose()
    with trio.move_on_after(_GUARDIAN_STOPS_WITHIN_S):
        await guardian.wait()
    if guardian.returncode is None:
        guardian.kill()
        await end_stray_server(folder, patience_s=0.0)


async def _until_ready(folder: DataFolder, guardian: trio.Process) -> bool:
    with trio.move_on_after(_START_WITHIN_S):
        while guardian.poll() is None:
            # Line 8 is the state that pg_ctl waits for too. The file of a server that was killed says
            # ready as well: it names another process.
            lines = pid_file_lines(folder)
            if lines[7:8] == ["ready"] and _is_child_of(guardian, server_pid(folder)):
                log.info("database server ready", pid=server_pid(folder), path=str(folder.root))
                return True
            await trio.sleep(_LOOK_EVERY_S)
    return False


def _is_child_of(guardian: trio.Process, pid: int | None) -> bool:
    # The guardian leads a session of its own (start_new_session), which the server shares.
    try:
        return pid is not None and os.getsid(pid) == guardian.pid
    except OSError:
        return False


def _last_words(folder: DataFolder) -> str:
    try:
        lines = folder.log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "it said nothing"
    return " | ".join(lines[-3:])[-500:] or "it said nothing"
