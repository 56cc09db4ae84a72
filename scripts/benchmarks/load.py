"""The generator's process, as a benchmark uses it: what it reports, and its end."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from scripts.benchmarks.programs import Program, open_program

_REPORT_WITHIN_S = 180.0
_CLOSED_WITHIN_S = 15.0


class Load:
    """The running generator; both methods raise BenchmarkError when it fails or takes too long."""

    def __init__(self, program: Program) -> None:
        self._program = program

    async def registered(self, *, after_s: float = 0.0) -> dict[str, Any]:
        """Return when all agents were registered, not before an instant of `time.monotonic`'s clock."""
        while (report := await self._report())["all_at_s"] <= after_s:
            pass
        return report

    async def finish(self, *, one_session: bool = True) -> dict[str, Any]:
        """Stop sending, and return the totals once everything sent is acknowledged.

        With `one_session` it is an error if an agent has lost its connection.
        """
        if self._program.process.stdin is not None:
            await self._program.process.stdin.aclose()
        while (totals := await self._report())["state"] != "settled":
            pass
        if one_session and totals["attempts_failed"]:
            raise self._program.failure(f"lost {totals['attempts_failed']} connections")
        return totals

    async def _report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(await self._program.line(within_s=_REPORT_WITHIN_S))
        return report


@asynccontextmanager
async def open_load(
    address: object,
    fleet_path: Path,
    *,
    shard_size: int,
    pulse_s: float = 0.0,
    singles_url: str | None = None,
) -> AsyncIterator[Load]:
    """Run the agents of a fleet, one per shard, until `finish`.

    They send a batch every `pulse_s`, or as fast as they are acknowledged if that is 0; or single samples, if
    there is a `singles_url`: the database that these are committed to.
    """
    arguments = ["--headend", str(address), "--fleet", str(fleet_path), "--shard-size", str(shard_size)]
    arguments += ["--pulse-s", str(pulse_s), *(["--single-samples", singles_url] if singles_url else [])]
    log = fleet_path.with_name("generator.log")
    async with open_program("scripts.benchmarks.generator", *arguments, log=log) as program:
        yield Load(program)
        # Its agents close their streams.
        with trio.move_on_after(_CLOSED_WITHIN_S):
            await program.process.wait()
