"""The processes of a benchmark, and what they use: CPU seconds and memory, by psutil.

Each is started in a session of its own, and ended with all its children.
"""

import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import trio

from scripts.benchmarks.command import BenchmarkError

_ROOT = Path(__file__).parents[2]
# The headend shuts down within 10 s.
_STOP_WITHIN_S = 12.0
_CHILDREN_WITHIN_S = 10.0
_POLL_S = 0.02
_LAST_LINES = 5


class Program:
    """A running `python -m module`, whose standard error goes to the file `log`."""

    def __init__(self, module: str, process: trio.Process, log: Path) -> None:
        self._module = module
        self._read = b""
        self.process = process
        self.pid = process.pid
        self.log = log

    async def line(self, *, within_s: float = 60.0) -> str:
        """Return the next line of its standard output.

        Raises:
            BenchmarkError: there is none: the program has ended, or took too long.
        """
        stdout = self.process.stdout
        if stdout is None:
            raise RuntimeError("its standard output is not read here")
        with trio.move_on_after(within_s):
            while b"\n" not in self._read:
                some = await stdout.receive_some()
                if not some:
                    raise self.failure("ended")
                self._read += some
            line, _, self._read = self._read.partition(b"\n")
            return line.decode()
        raise self.failure(f"wrote nothing within {within_s:g} s")

    def failure(self, what: str) -> BenchmarkError:
        """Return an error that says `what` the program did, with the end of its log."""
        last = self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        return BenchmarkError("\n".join([f"{self._module} {what}; the end of its log:", *last]))


@asynccontextmanager
async def open_program(
    module: str, *arguments: str, log: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[Program]:
    """Run `python -m module`, with its standard input held open.

    Its standard error goes to the file `log`; `env` is the whole environment, this process's by default.

    *Resource handling*: it has a session of its own, so that a terminal's Ctrl-C reaches this process alone.
    On leaving it gets SIGTERM and 12 s, then SIGKILL; its children have 10 s more.
    """
    with log.open("wb") as stderr:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=_ROOT,
            env=env,
            start_new_session=True,
        )
    try:
        yield Program(module, process, log)
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)


async def _end(process: trio.Process) -> None:
    children = _descendants(process.pid)
    if process.poll() is None:
        process.terminate()
    with trio.move_on_after(_STOP_WITHIN_S):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            await pipe.aclose()
    with trio.move_on_after(_CHILDREN_WITHIN_S):
        while any(child.is_running() for child in children):  # noqa: ASYNC110  # they are not our children
            await trio.sleep(_POLL_S)
    for child in children:
        if child.is_running():
            child.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """CPU seconds up to an instant of Trio's clock, or between two: `at_s` is the time between them then.

    Attributes:
        headend_s: of the headend, or of the server in its place.
        others_s: of everything else on the machine.
    """

    at_s: float
    headend_s: float
    postgres_s: float
    agents_s: float
    others_s: float

    def since(self, earlier: "Usage") -> "Usage":
        """Return what was used since then."""
        return Usage(**{name: getattr(self, name) - getattr(earlier, name) for name in self.__slots__})

    def pcts(self) -> dict[str, float]:
        """Return all of them in percent of one core."""
        names = ("headend", "postgres", "agents", "others")
        return {f"{name}_cpu_pct": 100 * max(0.0, getattr(self, f"{name}_s")) / self.at_s for name in names}


def read_usage(*, server_pid: int, headend_pid: int, agents_pid: int | None = None) -> Usage:
    """Read the CPU seconds of a server, of the database below the headend, and of a launcher's agents."""
    headend_s = cpu_s(psutil.Process(server_pid))
    # One that has ended (an autovacuum worker) is in its parent's account, where the system keeps one.
    postgres_s = sum(cpu_s(process, children=True) for process in _descendants(headend_pid))
    agents_s = 0.0 if agents_pid is None else sum(map(cpu_s, agents_of(agents_pid)))
    machine = psutil.cpu_times()
    # On Linux, user and nice include the guests' time.
    counted_twice_s = getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)
    machine_s = sum(machine) - machine.idle - getattr(machine, "iowait", 0.0) - counted_twice_s
    return Usage(
        at_s=trio.current_time(),
        headend_s=headend_s,
        postgres_s=postgres_s,
        agents_s=agents_s,
        others_s=machine_s - headend_s - postgres_s - agents_s,
    )


def cpu_s(process: psutil.Process, *, children: bool = False) -> float:
    """Return the CPU seconds of a process, with those of its ended children if wanted; 0 if it has ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    ended_s = times.children_user + times.children_system if children else 0.0
    return float(times.user + times.system + ended_s)


def agents_of(launcher_pid: int) -> list[psutil.Process]:
    """Return a launcher's agents."""
    return list(psutil.Process(launcher_pid).children())


def rss_bytes(pid: int) -> int:
    """Return how much memory a process has resident."""
    return int(psutil.Process(pid).memory_info().rss)


def peak_rss_mib(pid: int) -> float:
    """Return the most memory that a process ever had resident (Linux; elsewhere what it has now)."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return rss_bytes(pid) / 2**20


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []
