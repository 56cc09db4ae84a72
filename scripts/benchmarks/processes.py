"""The processes of a benchmark: a headend with its embedded PostgreSQL, its agents, and what all of them use.

Each is started in a session of its own, and ended with all its children. CPU and memory are psutil's.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import trio

from scripts.benchmarks.benchmark import BenchmarkError, Figures
from scripts.benchmarks.database import count_rows, in_thread, server_version
from scripts.make_fleet import make_fleet
from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet
from trioder.fleet import dump_fleet
from trioder.process.addresses import Address, parse_address
from trioder.store.embedded.layout import DataFolder

_ROOT = Path(__file__).parents[2]
_LOGGED_WITHIN_S = 300.0
_POLL_S = 0.05
# The headend shuts down within 10 s.
_STOP_WITHIN_S = 12.0
_CHILDREN_WITHIN_S = 10.0
_CLOSED_WITHIN_S = 15.0
_LAST_LINES = 5
_ANY_PORT = Address("127.0.0.1", 0)


class Program:
    """A running `python -m module`, whose output goes to the file `log`."""

    def __init__(self, module: str, process: trio.Process, log: Path) -> None:
        self._module = module
        self.process = process
        self.pid = process.pid
        self.log = log

    async def logged(self, words: str, holds: Callable[[Figures], bool] = lambda _: True) -> Figures:
        """Return the first entry of its log with these words for which `holds`.

        It is an error if there is none: the program has ended, or took too long.
        """
        with trio.move_on_after(_LOGGED_WITHIN_S):
            while True:
                has_ended = self.process.poll() is not None
                for entry in filter(holds, log_entries(self.log, words)):
                    return entry
                if has_ended:
                    raise self.failure(f"ended without {words}")
                await trio.sleep(_POLL_S)
        raise self.failure(f"has not logged {words} within {_LOGGED_WITHIN_S:g} s")

    async def address(self) -> Address:
        """Return where it listens on loopback, once it has logged its port."""
        return Address("127.0.0.1", (await self.logged('"port"'))["port"])

    def failure(self, what: str) -> BenchmarkError:
        """Return an error that says `what` the program did, with the end of its log."""
        last = self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        return BenchmarkError("\n".join([f"{self._module} {what}; the end of its log:", *last]))

    def peak_rss_mib(self) -> float:
        """Return the most memory that it ever had resident (Linux; elsewhere what it has now)."""
        status = Path(f"/proc/{self.pid}/status")
        peak = re.search(r"^VmHWM:\s+(\d+)", status.read_text(), re.MULTILINE) if status.exists() else None
        return int(peak[1]) / 1024 if peak else psutil.Process(self.pid).memory_info().rss / 2**20


def log_entries(log: Path, words: str) -> list[Figures]:
    """Return the entries of a log in JSON whose lines have these words and are complete."""
    lines = log.read_text(errors="replace").splitlines()
    return [json.loads(line) for line in lines if words in line and line.endswith("}")]


@asynccontextmanager
async def open_program(
    module: str, *arguments: object, log: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[Program]:
    """Run `python -m module`, with its standard input held open; `env` is added to this environment.

    *Resource handling*: it has a session of its own, so that a terminal's Ctrl-C reaches this process alone.
    On leaving it gets SIGTERM and 12 s, then SIGKILL; its children have 10 s more.
    """
    with log.open("wb") as output:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd=_ROOT,
            env={**os.environ, **(env or {})},
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
    if process.stdin is not None:
        await process.stdin.aclose()
    wait = partial(psutil.wait_procs, children, timeout=_CHILDREN_WITHIN_S)
    _ended, running = await trio.to_thread.run_sync(wait)
    for child in running:
        child.kill()


class Usage(NamedTuple):
    """CPU seconds up to an instant of Trio's clock, or between two: `at_s` is the time between them then.

    `headend_s` may be of a server in its place; `others_s` is of everything else on the machine.
    """

    at_s: float
    headend_s: float
    postgres_s: float
    agents_s: float
    others_s: float

    def since(self, earlier: "Usage") -> "Usage":
        """Return what was used since then."""
        return Usage(*(now - before for now, before in zip(self, earlier, strict=True)))

    def pcts(self) -> dict[str, float]:
        """Return all of them in percent of one core."""
        names = ("headend", "postgres", "agents", "others")
        return {f"{name}_cpu_pct": 100 * max(0.0, getattr(self, f"{name}_s")) / self.at_s for name in names}


def cpu_s(process: psutil.Process, *, children: bool = False) -> float:
    """Return the CPU seconds of a process, with those of its ended children if wanted; 0 if it has ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    ended_s = times.children_user + times.children_system if children else 0.0
    return float(times.user + times.system + ended_s)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


class Load:
    """The running generator; both methods raise BenchmarkError when it fails or takes too long."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def registered(self, *, after_s: float = 0.0) -> Figures:
        """Return when all agents were registered, not before an instant of `time.monotonic`'s clock."""
        return await self._program.logged('"registered"', lambda entry: entry["all_at_s"] > after_s)

    async def finish(self, *, one_session: bool = True) -> Figures:
        """Stop sending, and return the totals once everything sent is acknowledged.

        With `one_session` it is an error if an agent has lost its connection.
        """
        if self._program.process.stdin is not None:
            await self._program.process.stdin.aclose()
        totals = await self._program.logged('"settled"')
        if one_session and totals["attempts_failed"]:
            raise self._program.failure(f"lost {totals['attempts_failed']} connections")
        return totals


class RunningHeadend(NamedTuple):
    """A headend that is ready.

    Attributes:
        started_s: when its process was started, on `time.monotonic`'s clock.
        ready_s: when it reported that it is ready, measured at most 0.05 s later.
    """

    program: Program
    started_s: float
    ready_s: float
    fleet: Fleet
    fleet_path: Path
    grpc: Address
    http: Address
    database_url: str
    postgres: str

    @property
    def folder(self) -> Path:
        """Where it writes, and its agents."""
        return self.fleet_path.parent

    def usage(self, *, server_pid: int | None = None, agents_pid: int | None = None) -> Usage:
        """Read the CPU seconds of it, or of a server in its place, its database and a launcher's agents."""
        headend_s = cpu_s(psutil.Process(server_pid or self.program.pid))
        # One that has ended (an autovacuum worker) is in its parent's account, where the system keeps one.
        postgres_s = sum(cpu_s(process, children=True) for process in _descendants(self.program.pid))
        agents_s = sum(map(cpu_s, psutil.Process(agents_pid).children())) if agents_pid else 0.0
        machine = psutil.cpu_times()
        # On Linux, user and nice include the guests' time.
        counted_twice_s = getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)
        machine_s = sum(machine) - machine.idle - getattr(machine, "iowait", 0.0) - counted_twice_s
        others_s = machine_s - headend_s - postgres_s - agents_s
        return Usage(trio.current_time(), headend_s, postgres_s, agents_s, others_s)

    async def count_rows(self, *, samples: int) -> dict[str, int]:
        """Return the rows in its database, and how many of the samples sent are lost or doubled."""
        return await in_thread(count_rows, self.database_url, samples)

    def write_part(self, name: str, assets: Sequence[Asset]) -> Path:
        """Write a fleet file of some of its assets, and return its path."""
        return _write_fleet(Fleet(sites=self.fleet.sites, assets=assets), self.folder / name)

    @asynccontextmanager
    async def open_launcher(
        self, *, shard_size: int, tick_s: float, fleet_path: Path | None = None
    ) -> AsyncIterator[tuple[Program, float]]:
        """Run real agents of the fleet; yield their launcher, and the seconds until all were connected.

        It is an error if not all were connected in time, or if the launcher did not shut down cleanly.
        """
        env = {
            "ASSETS_PATH": str(fleet_path or self.fleet_path),
            "HEADEND_GRPC": str(self.grpc),
            "SHARD_SIZE": str(shard_size),
            "STATE_DIR": str(self.folder / "agents"),
            "TICK_S": str(tick_s),
            # Agents log the lateness of each pulse at this level only, when they stop.
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": "json",
        }
        started_s = time.monotonic()
        async with open_program("trioder.launcher", log=self.folder / "launcher.log", env=env) as program:
            await program.logged('"fleet connected: ')
            yield program, time.monotonic() - started_s
        if program.process.returncode != 0:
            raise program.failure(f"ended with exit code {program.process.returncode}")

    @asynccontextmanager
    async def open_load(self, *, shard_size: int, **options: object) -> AsyncIterator[Load]:
        """Run the generator as the agents of the fleet, one per shard, until `finish`.

        Further options: `pulse_s`, as fast as acknowledged without it; `single_samples`, the URL of the
        database that single samples are committed to; another `fleet`, or another server as `headend`.
        """
        options = {"headend": self.grpc, "fleet": self.fleet_path, "shard_size": shard_size, **options}
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        log = self.folder / "generator.log"
        async with open_program("scripts.benchmarks.generator", *arguments, log=log) as program:
            yield Load(program)
            # Its agents close their streams.
            with trio.move_on_after(_CLOSED_WITHIN_S):
                await program.process.wait()


def invented_fleet(assets: int) -> Fleet:
    """Return the fleet of so many assets that every benchmark uses."""
    return make_fleet(assets, random.Random(1))  # noqa: S311  # no secrets here


def _write_fleet(fleet: Fleet, path: Path) -> Path:
    """Write a fleet file, and return its path."""
    path.write_text(dump_fleet(fleet, form="json"), encoding="utf-8")
    return path


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that is removed at the end of its context."""
    # A server that had to be killed may still be removing its files.
    return tempfile.TemporaryDirectory(prefix="trioder-bench-", ignore_cleanup_errors=True)


@asynccontextmanager
async def open_headend(fleet: Fleet, *, after: RunningHeadend | None = None) -> AsyncIterator[RunningHeadend]:
    """Run a headend without synthetic telemetry, on loopback, with everything that it writes in one folder.

    The folder is a temporary one; or that of a headend that was killed, whose addresses it has as well.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(temporary_folder())) if after is None else after.folder
        fleet_path = _write_fleet(fleet, folder / "fleet.json")
        database = DataFolder.below(folder / "state")
        # It is outside the folder when its path there would be too long for a socket.
        stack.callback(shutil.rmtree, database.sockets, ignore_errors=True)
        env = {
            "ASSETS_PATH": str(fleet_path),
            "DATABASE_URL": "embedded",
            "STATE_DIR": str(folder / "state"),
            "TELEMETRY_RETENTION_DAYS": "0",
            "HEADEND_HTTP_ADDR": str(after.http if after else _ANY_PORT),
            "HEADEND_GRPC_ADDR": str(after.grpc if after else _ANY_PORT),
            "HEADEND_TICK_S": "0",
            "LOG_LEVEL": "info",
            "LOG_FORMAT": "json",
        }
        started_s = time.monotonic()
        run = open_program("trioder.headend", log=folder / "headend.log", env=env)
        program = await stack.enter_async_context(run)
        ready = await program.logged('"headend ready"')
        ready_s = time.monotonic()
        grpc, http = parse_address(ready["grpc_addr"]), parse_address(ready["http_addr"])
        postgres = await in_thread(server_version, database.url)
        yield RunningHeadend(
            program, started_s, ready_s, fleet, fleet_path, grpc, http, database.url, postgres
        )
