"""The process of `paced`, as a benchmark uses it: what it tells, and its end."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from scripts.benchmarks.command import BenchmarkError
from scripts.benchmarks.headend import RunningHeadend
from scripts.benchmarks.programs import Program, open_program


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """All streams are registered; instants are on `time.monotonic`'s clock.

    Attributes:
        attempts_failed: connections that were lost or never came about, since the start.
    """

    half_at_s: float
    p99_at_s: float
    all_at_s: float
    attempts_failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What was sent, and is acknowledged.

    Attributes:
        samples: one a battery and batch.
        batches_dropped: those that an outbox had no room for; they are among the others.
        late_p99_s: of the pulses: far above 0, the generator itself was what was slow.
    """

    batches: int
    samples: int
    batches_dropped: int
    pulses_skipped: int
    late_p99_s: float


class Generator:
    """The running process."""

    def __init__(self, program: Program) -> None:
        self.program = program

    async def registered(self, *, after_s: float = 0.0, within_s: float) -> Registered:
        """Wait until all streams are registered.

        Args:
            after_s: what was told of an instant before this one is passed over.
            within_s: how long to wait.

        Raises:
            BenchmarkError: they are not.
        """
        with trio.move_on_after(within_s):
            while True:
                told = json.loads(await self.program.line())
                told.pop("state")
                registered = Registered(**told)
                if registered.all_at_s > after_s:
                    return registered
        raise BenchmarkError(f"not all streams were registered within {within_s:g} s")

    async def finish(self, *, within_s: float) -> Totals:
        """Have it send what is left, and return the totals.

        Raises:
            BenchmarkError: not everything was acknowledged in time.
        """
        stdin = self.program.process.stdin
        if stdin is not None:
            await stdin.aclose()
        with trio.move_on_after(within_s):
            while True:
                told = json.loads(await self.program.line())
                if told.pop("state") == "settled":
                    await self.program.process.wait()
                    return Totals(**told)
        raise self.program.failure(f"was not done within {within_s:g} s")


@asynccontextmanager
async def open_generator(
    folder: Path, headend: RunningHeadend, *, shard_size: int, pulse_s: float
) -> AsyncIterator[Generator]:
    """Run the agents of the headend's fleet, one a shard."""
    load = open_program(
        "scripts.benchmarks.paced",
        *("--headend", str(headend.grpc), "--fleet", str(headend.fleet_path)),
        *("--shard-size", str(shard_size), "--pulse-s", str(pulse_s)),
        log=folder / "paced.log",
    )
    async with load as program:
        yield Generator(program)
