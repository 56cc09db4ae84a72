"""Finds and ends a server that outlived its headend; tells it from any other process of the same number."""

import os
import signal
import subprocess
from pathlib import Path

import structlog
import trio

from trioder.store.embedded.layout import DataFolder

log = structlog.stdlib.get_logger(__name__)

_LOOK_EVERY_S = 0.02


async def end_stray_server(folder: DataFolder, *, patience_s: float) -> None:
    """Stop the server of this folder if one runs; the caller holds the lock, so it is nobody's.

    Args:
        folder: whose server it is.
        patience_s: for how long its guardian, if there is one, may be at it already.
    """
    steps = ((None, patience_s), (signal.SIGINT, 5.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 3.0))
    for signum, wait_s in steps:
        pid = server_pid(folder)
        if pid is None or not _is_server(pid, folder):
            return
        if signum is not None:
            log.warning("stopping a database server that was left behind", pid=pid, signal=signum.name)
            os.kill(pid, signum)
        with trio.move_on_after(wait_s):
            while _is_server(pid, folder):  # noqa: ASYNC110  # another's child tells nobody when it ends
                await trio.sleep(_LOOK_EVERY_S)


def server_pid(folder: DataFolder) -> int | None:
    """The process that the folder's pid file names, alive or not."""
    lines = pid_file_lines(folder)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def pid_file_lines(folder: DataFolder) -> list[str]:
    """The lines of the server's pid file; none when there is no such file."""
    try:
        return [line.strip() for line in folder.pid_file.read_text().splitlines()]
    except OSError:
        return []


def _is_server(pid: int, folder: DataFolder) -> bool:
    return str(folder.data) in _command_line(pid)


def _command_line(pid: int) -> str:
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    listing = subprocess.run(  # noqa: S603  # a fixed command
        ["ps", "-ww", "-o", "args=", "-p", str(pid)],  # noqa: S607  # wherever the system has it
        capture_output=True,
        text=True,
        check=False,
    )
    return listing.stdout
