"""A real fleet for a benchmark: launcher and agents; what they use, and what they tell at their end."""

import json
import math
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import trio

from scripts.benchmarks.command import BenchmarkError
from scripts.benchmarks.headend import RunningHeadend
from scripts.benchmarks.programs import Program, open_program

_LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentsUsage:
    """What all agents have used of the machine: CPU seconds, and resident memory now."""

    processes: int
    cpu_s: float
    rss_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEnd:
    """What one agent told when it stopped.

    Attributes:
        samples: rows that it made.
        unacknowledged: batches that the headend did not have by then.
        late_ms: of its last pulses, oldest first.
    """

    samples: int
    unacknowledged: int
    dropped: int
    pulses_skipped: int
    late_max_ms: float
    late_ms: tuple[float, ...]


class Agents:
    """The running launcher."""

    def __init__(self, program: Program, *, started_s: float) -> None:
        self.program = program
        self._started_s = started_s

    async def connected(self, *, within_s: float) -> float:
        """Wait until all assets are connected; return the seconds since the launcher's start.

        Raises:
            BenchmarkError: they are not.
        """
        with trio.move_on_after(within_s):
            while self.program.process.poll() is None:
                if '"fleet connected: ' in self.program.log.read_text(errors="replace"):
                    return time.monotonic() - self._started_s
                await trio.sleep(_LOOK_EVERY_S)
            raise self.program.failure("ended")
        raise BenchmarkError(f"not all assets were connected within {within_s:g} s")

    def usage(self) -> AgentsUsage:
        """Read the usage of the launcher's children."""
        processes, cpu_s, rss_bytes = 0, 0.0, 0
        for process in psutil.Process(self.program.pid).children():
            times = process.cpu_times()
            processes += 1
            cpu_s += times.user + times.system
            rss_bytes += process.memory_info().rss
        return AgentsUsage(processes=processes, cpu_s=cpu_s, rss_bytes=rss_bytes)

    def ends(self) -> list[AgentEnd]:
        """Return what the agents told at their ends, once the launcher has ended."""
        stops: dict[str, dict[str, Any]] = {}
        late_ms: dict[str, list[float]] = {}
        for line in self.program.log.read_text(errors="replace").splitlines():
            if '"agent stops"' in line:
                told = json.loads(line)
                stops[told["agent_id"]] = told
            elif '"lateness of the last pulses"' in line:
                told = json.loads(line)
                late_ms[told["agent_id"]] = told["late_ms"]
        return [
            AgentEnd(
                samples=told["samples"],
                unacknowledged=told["batches_unacknowledged"],
                dropped=told["batches_dropped"],
                pulses_skipped=told["pulses_skipped"],
                late_max_ms=told["late_max_ms"],
                late_ms=tuple(late_ms[agent_id]),
            )
            for agent_id, told in stops.items()
        ]


@asynccontextmanager
async def open_agents(
    folder: Path, headend: RunningHeadend, *, shard_size: int, tick_s: float
) -> AsyncIterator[Agents]:
    """Run the headend's fleet; on leaving, the launcher and its agents are stopped in good order.

    Raises:
        BenchmarkError: the launcher did not stop as asked.
    """
    env = {
        **os.environ,
        "ASSETS_PATH": str(headend.fleet_path),
        "HEADEND_GRPC": str(headend.grpc),
        "SHARD_SIZE": str(shard_size),
        "STATE_DIR": str(folder / "agents"),
        "TICK_S": str(tick_s),
        # The agents tell each pulse's lateness only then.
        "LOG_LEVEL": "debug",
        "LOG_FORMAT": "json",
    }
    started_s = time.monotonic()
    async with open_program("trioder.launcher", log=folder / "launcher.log", env=env) as program:
        yield Agents(program, started_s=started_s)
    if program.process.returncode != 0:
        raise program.failure(f"ended with exit code {program.process.returncode}")


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest of the sorted values that `share` of them do not exceed; 0 without any."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
