"""Finds and ends a server that outlived its headend, and removes the lock files that a dead one left.

Only a process whose program is `postgres` and whose working folder is this cluster is taken for a server of
ours. What a PID file says proves nothing: the number may have been given to another process since.
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


async def end_stray_server(folder: DataFolder, *, patience_s: float) -> None:
    """Stop the server of this folder if one runs; the caller holds the lock, so it is nobody's.

    Args:
        folder: whose server it is.
        patience_s: for how long its guardian, if there is one, may be at it already.
    """
    steps = ((None, patience_s), (signal.SIGINT, 5.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 3.0))
    for signum, wait_s in steps:
        servers = _server_processes(folder)
        if not servers:
            return
        if signum is not None:
            _send(signum, servers)
        with trio.move_on_after(wait_s):
            while _server_processes(folder):  # noqa: ASYNC110  # another's child tells nobody when it ends
                await trio.sleep(_POLL_EVERY_S)


def remove_stale_lock_files(folder: DataFolder) -> None:
    """Remove the PID file and the socket's lock file of a server that is gone.

    The server itself refuses to start while either names a living process, whatever that is, or cannot be
    read at all. The caller holds the folder's lock and has called `end_stray_server`.

    Raises:
        StoreConfigurationError: a server of this folder is running after all, or a file cannot be removed.
    """
    found = [path for path in (folder.pid_file, folder.socket_lock) if path.exists() or path.is_symlink()]
    if not found:
        return
    if _server_processes(folder):
        raise StoreConfigurationError(
            f"a database server that runs in {folder.data} cannot be stopped; stop it, then start the headend"
        )
    if _socket_answers(folder):
        # In another container, say, with the folder mounted into both.
        raise StoreConfigurationError(
            f"a database server that is no process of this system runs in {folder.root}; stop it, "
            "or set STATE_DIR to a folder of its own"
        )
    for path in found:
        # Not ours by the checks above; the number is reported because an operator may know it.
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
    """The process that the folder's PID file names, alive or not, whatever it is."""
    return _pid_in(folder.pid_file)


def pid_file_lines(folder: DataFolder) -> list[str]:
    """The lines of the server's PID file; none when there is no such file."""
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
    # A postmaster ends its own children; children without one are signalled themselves.
    pids = {server.pid for server in servers}
    for server in servers:
        if server.parent not in pids:
            log.warning("stopping a database server that was left behind", pid=server.pid, signal=signum.name)
            with suppress(ProcessLookupError):
                os.kill(server.pid, signum)


def _server_processes(folder: DataFolder) -> list[_Process]:
    """Every process of a server of this cluster, without those that have ended."""
    try:
        cluster = folder.data.stat()
    except OSError:
        return []
    if not (_PROC / "self/exe").exists():
        return _listed_by_ps(folder)
    identity = (cluster.st_dev, cluster.st_ino)
    found = (
        _examined(int(entry), identity)
        for entry in os.listdir(_PROC)  # noqa: PTH208  # a path object for each process costs more than the rest
        if entry.isdecimal()
    )
    return [process for process in found if process is not None]


def _examined(pid: int, cluster: tuple[int, int]) -> _Process | None:
    """The process if it is a server of the cluster; what may not be examined is not ours."""
    try:
        # Deleted by an upgrade while it runs: Linux appends " (deleted)".
        program = str(Path(f"{_PROC}/{pid}/exe").readlink()).removesuffix(" (deleted)")
        if program.rpartition("/")[2] != _PROGRAM:
            return None
        # A server works in its cluster's folder, from its start to its end.
        there = os.stat(f"{_PROC}/{pid}/cwd")  # noqa: PTH116  # as above
        if (there.st_dev, there.st_ino) != cluster:
            return None
        state, parent = Path(f"{_PROC}/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else _Process(pid, int(parent))


def _listed_by_ps(folder: DataFolder) -> list[_Process]:
    """The same where there is no /proc (macOS): the command line has to prove it."""
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
