"""The processes of a test: stand-ins by the files that they leave, others by their environment."""

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio


def pids(folder: Path) -> list[int]:
    """Every stand-in that was ever started there."""
    return [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]


def running_pids(folder: Path) -> list[int]:
    """Those that still run."""
    return [pid for pid in pids(folder) if _is_alive(pid)]


def with_environment(text: str) -> list[tuple[int, str]]:
    """Every live process with this in its environment, and its command line."""
    if not Path("/proc/self/environ").exists():
        listing = subprocess.run(
            ["ps", "axeww", "-o", "pid=,command="], capture_output=True, check=True, text=True
        )
        rows = [line.split(None, 1) for line in listing.stdout.splitlines() if text in line]
        return [(int(pid), command) for pid, command in rows]
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and text.encode() in (folder / "environ").read_bytes():
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found.append((int(folder.name), command))
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found


async def until(condition: Callable[[], bool], *, every_s: float = 0.02) -> None:
    """Poll for something without an event: a process, a file; listing all processes takes long."""
    while True:
        if condition():
            return
        await trio.sleep(every_s)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        # An orphan that ended stays a zombie for as long as nobody reaps it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc/self").exists()


@asynccontextmanager
async def open_script(
    *command: str, variables: Mapping[str, str], output: Path, mark: str
) -> AsyncIterator[trio.Process]:
    """Run a script, bounded; at the end every process that inherited its variable `mark` is killed."""
    with trio.fail_after(150), output.open("wb") as stream:
        process = await trio.lowlevel.open_process(
            command,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with trio.CancelScope(shield=True):
                for pid, _ in with_environment(f"{mark}={variables[mark]}"):
                    os.kill(pid, signal.SIGKILL)
                await process.wait()
