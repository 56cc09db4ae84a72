"""A real headend for a benchmark: a process with its embedded PostgreSQL, a fleet and folders of its own."""

import json
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from scripts.benchmarks.command import BenchmarkError
from scripts.benchmarks.programs import Program, open_program
from trioder.domain.fleet import Fleet
from trioder.fleet import dump_fleet
from trioder.process.addresses import Address, parse_address
from trioder.store.embedded.layout import DataFolder

_READY_WITHIN_S = 90.0
_LOOK_EVERY_S = 0.05
_ANY_PORT = Address("127.0.0.1", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningHeadend:
    """A headend that is ready.

    Attributes:
        fleet_path: the file that it has read.
        database_url: of its embedded server.
        started_s: when its process was started, on `time.monotonic`'s clock.
        ready_s: when it said that it is ready, seen 0.05 s later at most.
    """

    program: Program
    started_s: float
    ready_s: float
    fleet_path: Path
    grpc: Address
    http: Address
    database_url: str


@asynccontextmanager
async def open_headend(
    folder: Path, fleet: Fleet, *, grpc: Address = _ANY_PORT, http: Address = _ANY_PORT
) -> AsyncIterator[RunningHeadend]:
    """Run a headend that synthesizes nothing, on the loopback.

    Args:
        folder: for all that it writes; an empty one, or the one of a headend that is no more.
        fleet: what it serves.
        grpc: where agents connect; a free port unless given.
        http: where REST listens; likewise.

    Raises:
        BenchmarkError: it does not start.
    """
    fleet_path = folder / "fleet.json"
    fleet_path.write_text(dump_fleet(fleet, form="json"), encoding="utf-8")
    env = {
        **os.environ,
        "ASSETS_PATH": str(fleet_path),
        "DATABASE_URL": "embedded",
        "STATE_DIR": str(folder / "state"),
        "TELEMETRY_RETENTION_DAYS": "0",
        "HEADEND_HTTP_ADDR": str(http),
        "HEADEND_GRPC_ADDR": str(grpc),
        "HEADEND_TICK_S": "0",
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "json",
    }
    database = DataFolder.below(folder / "state")
    started_s = time.monotonic()
    try:
        async with open_program("trioder.headend", log=folder / "headend.log", env=env) as program:
            ready = await _until_ready(program)
            yield RunningHeadend(
                program=program,
                started_s=started_s,
                ready_s=time.monotonic(),
                fleet_path=fleet_path,
                grpc=parse_address(ready["grpc_addr"]),
                http=parse_address(ready["http_addr"]),
                database_url=database.url,
            )
    finally:
        # It lies elsewhere when the path in here were too long for a socket.
        shutil.rmtree(database.sockets, ignore_errors=True)


async def _until_ready(program: Program) -> dict[str, str]:
    with trio.move_on_after(_READY_WITHIN_S):
        while program.process.poll() is None:
            for line in program.log.read_text(errors="replace").splitlines():
                if '"headend ready"' in line and line.endswith("}"):
                    ready: dict[str, str] = json.loads(line)
                    return ready
            await trio.sleep(_LOOK_EVERY_S)
        raise program.failure("did not start")
    raise BenchmarkError(f"the headend was not ready within {_READY_WITHIN_S:g} s")
