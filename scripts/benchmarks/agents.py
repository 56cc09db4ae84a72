"""Real agents for a benchmark: each a process that is handed its shard as the launcher does it.

Those that only make load are in `load`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from scripts.benchmarks.command import BenchmarkError
from scripts.benchmarks.headend import RunningHeadend
from scripts.benchmarks.programs import Program, open_program
from trioder.launcher.shards import Shard, shard_document

_CONNECTED_WITHIN_S = 60.0


@asynccontextmanager
async def open_agents(
    shards: Sequence[Shard], headend: RunningHeadend, folder: Path, *, tick_s: float
) -> AsyncIterator[list[Program]]:
    """Run one agent a shard, all connected.

    Args:
        shards: with different agent ids.
        headend: where they dial.
        folder: for their logs and files.
        tick_s: seconds from one pulse to the next.

    Raises:
        BenchmarkError: one does not connect.
    """
    async with AsyncExitStack() as stack:
        programs: list[Program] = []
        for number, shard in enumerate(shards, 1):
            agent = open_program("trioder.agent", "--stdin", log=folder / f"agent-{number}.log")
            programs.append(await stack.enter_async_context(agent))
            document = shard_document(
                shard, headend=str(headend.grpc), tick_s=tick_s, state_dir=str(folder / "agents")
            )
            await _hand_over(programs[-1], b"".join(document))
        with trio.move_on_after(_CONNECTED_WITHIN_S) as patience:
            for program in programs:
                while '"connected"' not in await program.line():
                    pass
        if patience.cancelled_caught:
            raise BenchmarkError(f"not every agent was connected within {_CONNECTED_WITHIN_S:g} s")
        yield programs


async def _hand_over(program: Program, document: bytes) -> None:
    stdin = program.process.stdin
    if stdin is None:
        raise RuntimeError("its standard input is not written here")
    try:
        await stdin.send_all(document)
    except trio.BrokenResourceError:
        raise program.failure("did not take its shard") from None
