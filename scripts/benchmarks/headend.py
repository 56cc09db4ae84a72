"""A real headend for a benchmark: a process with its embedded PostgreSQL, a fleet and folders of its own."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from scripts.benchmarks.command import BenchmarkError
from scripts.benchmarks.programs import Program, open_program
from trioder.fleet import Fleet, dump_fleet
from trioder.process.addresses import Address, parse_address
from trioder.store.embedded.layout import DataFolder

_READY_WITHIN_S = 90.0
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningHeadend:
    """A headend that is ready.

    Attributes:
        fleet_path: the file that it has read.
        database_url: of its embedded server.
    """

    program: Program
    fleet_path: Path
    grpc: Address
    http: Address
    database_url: str


@asynccontextmanager
async def open_headend(folder: Path, fleet: Fleet) -> AsyncIterator[RunningHeadend]:
    """Run a headend that synthesizes nothing, on free ports of the loopback.

    Args:
        folder: an empty one, for all that it writes.
        fleet: what it serves.

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
        "HEADEND_HTTP_ADDR": "127.0.0.1:0",
        "HEADEND_GRPC_ADDR": "127.0.0.1:0",
        "HEADEND_TICK_S": "0",
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "json",
    }
    database = DataFolder.below(folder / "state")
    try:
        async with open_program("trioder.headend", log=folder / "headend.log", env=env) as program:
            ready = await _until_ready(program)
            yield RunningHeadend(
                program=program,
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
