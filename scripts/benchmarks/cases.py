"""One case of `scripts/bench ingest`: the same load at the headend and at the grpcio peer, and raw COPY.

What it comes to as a table is in `ingest`.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from scripts.benchmarks.copying import copy_rows, count_distinct, count_rows, make_database, warm_up
from scripts.benchmarks.headend import RunningHeadend
from scripts.benchmarks.programs import Program, open_program
from scripts.benchmarks.threads import in_thread
from scripts.benchmarks.usage import Usage, peak_rss_bytes, read_usage

# Beyond the seconds of sending: registration, and what is under way at the end.
_LOAD_SLACK_S = 150.0
_READY_WITHIN_S = 60.0
_COPY_WITHIN_S = 600.0
# As much as is then measured, or somewhat less.
_WARM_UP_ROWS_PER_S = 300_000
_PEER_DATABASE = "bench_grpcio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is sent, by how many agents; single samples are messages that nobody acknowledges.

    Attributes:
        assets: a multiple of `assets_per_stream`.
    """

    assets: int
    assets_per_stream: int
    single_samples: bool
    seconds: float

    @property
    def streams(self) -> int:
        """How many agents there are."""
        return self.assets // self.assets_per_stream

    @property
    def samples_per_message(self) -> int:
        """How many samples one message carries."""
        return 1 if self.single_samples else self.assets_per_stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one server came to; shares of CPU are of one core, in percent.

    Attributes:
        acknowledged_p50_ms: None where nothing is acknowledged, as of single samples.
        acknowledged_p99_ms: as well.
    """

    elapsed_s: float
    messages: int
    rows: int
    rows_per_s: float
    rows_lost: int
    rows_doubled: int
    replays: int
    acknowledged_p50_ms: float | None
    acknowledged_p99_ms: float | None
    server_cpu_pct: float
    postgres_cpu_pct: float
    generator_cpu_pct: float
    others_cpu_pct: float
    peak_rss_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFigures:
    """What one case came to."""

    case: Case
    headend: Served
    grpcio: Served
    copy_rows_per_s: float
    headend_per_copy: float
    headend_per_grpcio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """A server that agents connect to, and the database that it writes to."""

    program: Program
    address: str
    database_url: str


async def measure_case(headend: RunningHeadend, folder: Path, case: Case) -> CaseFigures:
    """Measure one case over a headend that nothing was sent to yet.

    Raises:
        BenchmarkError: something does not start, or does not come to its end in time.
    """
    warm_up_rows = math.ceil(case.seconds * _WARM_UP_ROWS_PER_S)
    check = trio.from_thread.check_cancelled
    warm_up_s = await in_thread(
        partial(warm_up, headend.database_url, rows=warm_up_rows, assets=case.assets, check=check),
        within_s=_COPY_WITHIN_S,
    )
    target = _Target(program=headend.program, address=str(headend.grpc), database_url=headend.database_url)
    served = await _measure_server(target, headend, folder, case)
    grpcio = await _measure_grpcio(headend, folder, case)
    copy_s = await in_thread(
        partial(copy_rows, headend.database_url, rows=served.rows, assets=case.assets, check=check),
        within_s=_COPY_WITHIN_S,
    )
    # The better of the two: it is to be the limit.
    copy_rows_per_s = max(served.rows / copy_s, warm_up_rows / warm_up_s)
    return CaseFigures(
        case=case,
        headend=served,
        grpcio=grpcio,
        copy_rows_per_s=copy_rows_per_s,
        headend_per_copy=served.rows_per_s / copy_rows_per_s,
        headend_per_grpcio=served.rows_per_s / grpcio.rows_per_s,
    )


async def _measure_grpcio(headend: RunningHeadend, folder: Path, case: Case) -> Served:
    """Measure the peer, on the headend's database server while the headend has nothing to do."""
    database_url = await in_thread(partial(make_database, headend.database_url, _PEER_DATABASE))
    peer = open_program(
        "scripts.benchmarks.grpcio_peer",
        *("--fleet", str(headend.fleet_path), "--database", database_url),
        log=folder / "grpcio.log",
    )
    async with peer as program:
        with trio.move_on_after(_READY_WITHIN_S) as patience:
            port = int(await program.line())
        if patience.cancelled_caught:
            raise program.failure(f"was not ready after {_READY_WITHIN_S:g} s")
        target = _Target(program=program, address=f"127.0.0.1:{port}", database_url=database_url)
        return await _measure_server(target, headend, folder, case)


async def _measure_server(target: _Target, headend: RunningHeadend, folder: Path, case: Case) -> Served:
    before = await in_thread(partial(count_rows, target.database_url))
    load = open_program(
        "scripts.benchmarks.load",
        *("--headend", target.address, "--fleet", str(headend.fleet_path)),
        *("--shard-size", str(case.assets_per_stream), "--seconds", str(case.seconds)),
        *(("--single-samples", target.database_url) if case.single_samples else ()),
        log=folder / "load.log",
    )
    read = partial(read_usage, server_pid=target.program.pid, headend_pid=headend.program.pid)
    async with load as generator:
        with trio.move_on_after(case.seconds + _LOAD_SLACK_S) as patience:
            told, used, wall_s = await _watch(generator, read)
        if patience.cancelled_caught:
            raise generator.failure(f"was not done after {case.seconds + _LOAD_SLACK_S:g} s")
    peak_bytes = peak_rss_bytes(target.program.pid)
    counts = await in_thread(partial(count_distinct, target.database_url))
    messages = int(told["messages"])
    others_s = used.machine_s - used.server_s - used.postgres_s - told["cpu_s"]
    return Served(
        elapsed_s=told["elapsed_s"],
        messages=messages,
        rows=counts.rows - before,
        rows_per_s=(counts.rows - before) / told["elapsed_s"],
        rows_lost=before + messages * case.samples_per_message - counts.distinct,
        rows_doubled=counts.rows - counts.distinct,
        replays=int(told["replays"]),
        acknowledged_p50_ms=_in_ms(told["p50_s"]),
        acknowledged_p99_ms=_in_ms(told["p99_s"]),
        server_cpu_pct=100 * used.server_s / wall_s,
        postgres_cpu_pct=100 * used.postgres_s / wall_s,
        generator_cpu_pct=100 * told["cpu_s"] / told["elapsed_s"],
        others_cpu_pct=100 * max(0.0, others_s) / wall_s,
        peak_rss_mib=peak_bytes / 2**20,
    )


async def _watch(generator: Program, read: Callable[[], Usage]) -> tuple[dict[str, float], Usage, float]:
    """Return what the generator tells, and what was used meanwhile, in how many seconds."""
    await generator.line()
    began_s, began = trio.current_time(), read()
    told: dict[str, float] = json.loads(await generator.line())
    ended_s, ended = trio.current_time(), read()
    await generator.process.wait()
    if generator.process.returncode != 0:
        raise generator.failure(f"ended with exit code {generator.process.returncode}")
    return told, ended.since(began), ended_s - began_s


def _in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
