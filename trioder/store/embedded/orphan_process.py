"""Stops a server that outlived its headend, and removes the lock files of a dead one.

Only a process whose program is `postgres` and whose working folder is this cluster counts as such a server. A
PID file proves nothing: its number may belong to another process by now.
"""

import os
import re
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from trioder.store.embedded.layout import DataFolder
from trioder.store.interface import StoreConfigurationError

log = structlog.stdlib.get_logger(__name__)

_PROC = Path("/proc")
_PROGRAM = "postgres"
_POLL_EVERY_S = 0.05
_MAX_PID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int


async def stop_orphan_server(folder: DataFolder, *, patience_s: float) -> None:
    """Stop the server of this folder if one runs; the caller holds the lock, so no headend owns it.

    Args:
        folder: the server's.
        patience_s: how long its watchdog, which may be stopping it already, is given.
    """
    steps = ((None, patience_s), (signal.SIGINT, 5.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 3.0))
    for signum, wait_s in steps:
        servers = _server_processes(folder)
        if not servers:
            return
        if signum is not None:
            _send(signum, servers)
        with trio.move_on_after(wait_s):
            while _server_processes(folder):  # noqa: ASYNC110  # only its parent is notified of its end
                await trio.sleep(_POLL_EVERY_S)


def remove_stale_lock_files(folder: DataFolder) -> None:
    """Remove the PID file and the socket's lock file of a dead server.

    The server refuses to start while either names any running process, or is unreadable. The caller holds
    the folder's lock and has called `stop_orphan_server`.

    Raises:
        StoreConfigurationError: a server of this folder still runs, or a file cannot be removed.
    """
    found = [path for path in (folder.pid_file, folder.socket_lock) if path.exists() or path.is_symlink()]
    if not found:
        return
    if _server_processes(folder):
        raise StoreConfigurationError(
            f"a database server that runs in {folder.data} cannot be stopped; stop it, then start the headend"
        )
    if _socket_answers(folder):
        # For example in another container, with the folder mounted into both.
        raise StoreConfigurationError(
            f"a database server that is no process of this system runs in {folder.root}; stop it, "
            "or set STATE_DIR to a folder of its own"
        )
    for path in found:
        # By the checks above it is no server of ours; an operator may recognize the process id.
        pid = _pid_in(path)
        if pid is not None and _is_alive(pid):
            log.warning("stale lock file names another process; removed", path=str(path), pid=pid)
        try:
            path.unlink()
        except OSError as error:
            raise StoreConfigurationError(
                f"{path}, left by a database server that is gone, cannot be removed: {error.strerror}"
            ) from None


def server_pid(folder: DataFolder) -> int | None:
    """Return the process id in the PID file; that process may be dead or another program."""
    return _pid_in(folder.pid_file)


def pid_file_lines(folder: DataFolder) -> list[str]:
    """Return the lines of the PID file; none if there is no such file."""
    return _lines_of(folder.pid_file)


def _pid_in(path: Path) -> int | None:
    lines = _lines_of(path)
    if not lines or not re.fullmatch(r"[0-9]{1,10}", lines[0]):
        return None
    pid = int(lines[0])
    return pid if 0 < pid <= _MAX_PID else None


def _lines_of(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return []


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _socket_answers(folder: DataFolder) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fsencode(folder.socket))
        except OSError:
            return False
        return True


def _send(signum: signal.Signals, servers: list[_Process]) -> None:
    # A postmaster stops its own children; children without one are signalled directly.
    pids = {server.pid for server in servers}
    for server in servers:
        if server.parent not in pids:
            log.warning("stopping a database server that was left behind", pid=server.pid, signal=signum.name)
            with suppress(ProcessLookupError):
                os.kill(server.pid, signum)


def _server_processes(folder: DataFolder) -> list[_Process]:
    """Return every running process of a server of this cluster."""
    try:
        cluster = folder.data.stat()
    except OSError:
        return []
    if not (_PROC / "self/exe").exists():
        return _list_with_ps(folder)
    identity = (cluster.st_dev, cluster.st_ino)
    found = (
        _examine(int(entry), identity)
        for entry in os.listdir(_PROC)  # noqa: PTH208  # a path object for each process costs more than the rest
        if entry.isdecimal()
    )
    return [process for process in found if process is not None]


def _examine(pid: int, cluster: tuple[int, int]) -> _Process | None:
    """Return the process if it is a server of the cluster; one that we may not examine is not ours."""
    try:
        # Linux appends " (deleted)" if an upgrade has removed the program.
        program = str(Path(f"{_PROC}/{pid}/exe").readlink()).removesuffix(" (deleted)")
        if program.rpartition("/")[2] != _PROGRAM:
            return None
        # A server's working folder is always its cluster.
        cwd = os.stat(f"{_PROC}/{pid}/cwd")  # noqa: PTH116  # as above
        if (cwd.st_dev, cwd.st_ino) != cluster:
            return None
        state, parent = Path(f"{_PROC}/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else _Process(pid, int(parent))


def _list_with_ps(folder: DataFolder) -> list[_Process]:
    """The same without /proc (macOS): by the command line."""
    listing = subprocess.run(
        ["ps", "-axww", "-o", "pid=,ppid=,args="],  # noqa: S607  # wherever the system has it
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    found = []
    for line in listing.stdout.splitlines():
        pid, parent, arguments = [*line.split(None, 2), "", "", ""][:3]
        program, separator, _ = arguments.partition(f" -D {folder.data} -c ")
        if separator and program.rpartition("/")[2] == _PROGRAM:
            found.append(_Process(int(pid), int(parent)))
    return found
