"""A real headend with its embedded PostgreSQL, and real agents under their launcher."""

import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from scripts.benchmarks.command import BenchmarkError, in_thread
from scripts.benchmarks.database import count_rows, server_version
from scripts.benchmarks.programs import Program, Usage, open_program, read_usage
from scripts.make_fleet import make_fleet
from trioder.domain.fleet import Fleet
from trioder.fleet import dump_fleet
from trioder.process.addresses import Address, parse_address
from trioder.store.embedded.layout import DataFolder

_READY_WITHIN_S = 90.0
_POLL_S = 0.05
_ANY_PORT = Address("127.0.0.1", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningHeadend:
    """A headend that is ready.

    Attributes:
        started_s: when its process was started, on `time.monotonic`'s clock.
        ready_s: when it reported that it is ready, measured at most 0.05 s later.
    """

    program: Program
    started_s: float
    ready_s: float
    folder: Path
    fleet: Fleet
    fleet_path: Path
    grpc: Address
    http: Address
    database_url: str
    postgres: str

    def usage(self, agents_pid: int | None = None) -> Usage:
        """Read the CPU seconds of the headend, its database and a launcher's agents."""
        pid = self.program.pid
        return read_usage(server_pid=pid, headend_pid=pid, agents_pid=agents_pid)

    async def count_rows(self, *, samples: int) -> dict[str, int]:
        """Return the rows in its database, and how many of the samples sent are lost or doubled."""
        return await in_thread(count_rows, self.database_url, samples)


def invented_fleet(assets: int) -> Fleet:
    """Return the fleet of so many assets that every benchmark uses."""
    return make_fleet(assets, random.Random(1))  # noqa: S311  # no secrets here


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that is removed at the end."""
    # A server that had to be killed may still be removing its files.
    with tempfile.TemporaryDirectory(prefix="trioder-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@asynccontextmanager
async def open_bench(fleet: Fleet) -> AsyncIterator[RunningHeadend]:
    """Run a headend in a temporary folder."""
    with temporary_folder() as folder:
        async with open_headend(folder, fleet) as headend:
            yield headend


@asynccontextmanager
async def open_headend(
    folder: Path, fleet: Fleet, *, grpc: Address = _ANY_PORT, http: Address = _ANY_PORT
) -> AsyncIterator[RunningHeadend]:
    """Run a headend without synthetic telemetry, on loopback.

    Everything that it writes is in `folder`, which is empty, or that of an earlier headend that has ended.

    Raises:
        BenchmarkError: it does not start.
    """
    fleet_path = write_fleet(fleet, folder / "fleet.json")
    env = {
        "ASSETS_PATH": str(fleet_path),
        "DATABASE_URL": "embedded",
        "STATE_DIR": str(folder / "state"),
        "TELEMETRY_RETENTION_DAYS": "0",
        "HEADEND_HTTP_ADDR": str(http),
        "HEADEND_GRPC_ADDR": str(grpc),
        "HEADEND_TICK_S": "0",
    }
    database = DataFolder.below(folder / "state")
    started_s = time.monotonic()
    try:
        log = folder / "headend.log"
        async with open_program("trioder.headend", log=log, env=_environment(env)) as program:
            ready = json.loads(await _logged(program, '"headend ready"', within_s=_READY_WITHIN_S))
            ready_s = time.monotonic()
            yield RunningHeadend(
                program=program,
                started_s=started_s,
                ready_s=ready_s,
                folder=folder,
                fleet=fleet,
                fleet_path=fleet_path,
                grpc=parse_address(ready["grpc_addr"]),
                http=parse_address(ready["http_addr"]),
                database_url=database.url,
                postgres=await in_thread(server_version, database.url),
            )
    finally:
        # It is outside the folder when its path there would be too long for a socket.
        shutil.rmtree(database.sockets, ignore_errors=True)


@asynccontextmanager
async def open_launcher(
    headend: RunningHeadend,
    fleet_path: Path,
    *,
    shard_size: int,
    tick_s: float,
    within_s: float = 60.0,
    log_level: str = "info",
) -> AsyncIterator[tuple[Program, float]]:
    """Run a fleet; yield its launcher and the seconds from its start until all assets were connected.

    Raises:
        BenchmarkError: not all were connected within `within_s`, or the launcher did not shut down cleanly.
    """
    env = {
        "ASSETS_PATH": str(fleet_path),
        "HEADEND_GRPC": str(headend.grpc),
        "SHARD_SIZE": str(shard_size),
        "STATE_DIR": str(headend.folder / "agents"),
        "TICK_S": str(tick_s),
        "LOG_LEVEL": log_level,
    }
    started_s = time.monotonic()
    log = headend.folder / "launcher.log"
    async with open_program("trioder.launcher", log=log, env=_environment(env)) as program:
        await _logged(program, '"fleet connected: ', within_s=within_s)
        yield program, time.monotonic() - started_s
    if program.process.returncode != 0:
        raise program.failure(f"ended with exit code {program.process.returncode}")


def write_fleet(fleet: Fleet, path: Path) -> Path:
    """Write a fleet file, and return its path."""
    path.write_text(dump_fleet(fleet, form="json"), encoding="utf-8")
    return path


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "LOG_LEVEL": "info", **variables, "LOG_FORMAT": "json"}


async def _logged(program: Program, words: str, *, within_s: float) -> str:
    """Return the first line of the program's log with these words."""
    with trio.move_on_after(within_s):
        while program.process.poll() is None:
            for line in program.log.read_text(errors="replace").splitlines():
                if words in line and line.endswith("}"):
                    return line
            await trio.sleep(_POLL_S)
        raise program.failure("did not start")
    raise BenchmarkError(f"no {words} in {program.log.name} within {within_s:g} s")
