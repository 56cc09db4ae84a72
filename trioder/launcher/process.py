"""One run of one agent process: started, handed its shard, listened to, and never left behind."""

import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from trioder.launcher.lines import LineSplitter

log = structlog.stdlib.get_logger(__name__)

# Within the 10 s that a stop may take: the agent's own time to end, then SIGKILL's.
STOP_GRACE_S = 8.0
_KILL_GRACE_S = 1.0
# The pipes of a process that ended are read to their end, unless something else holds them open.
_LEFTOVERS_S = 0.5
_LAST_LINES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEnd:
    """How an agent process ended.

    Attributes:
        code: its exit code; negative for the signal that killed it.
        last_lines: the last that it wrote to its standard error.
    """

    code: int
    last_lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"killed by signal {-self.code}" if self.code < 0 else f"exit code {self.code}"


class AgentOutput:
    """Where the lines of an agent's two outputs go, kept across the steps of its end.

    Args:
        on_status: takes each line of its standard output.
        on_log: takes each line of its standard error.
    """

    def __init__(self, *, on_status: Callable[[str], None], on_log: Callable[[str], None]) -> None:
        self.take_status = on_status
        self._on_log = on_log
        self._out = LineSplitter()
        self._err = LineSplitter()
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)

    async def read_from(self, process: trio.Process) -> None:
        """Read both outputs to their end; may be cancelled and called again without loss."""
        assert process.stdout is not None  # noqa: S101 - for the type checker
        assert process.stderr is not None  # noqa: S101 - as above
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, process.stdout, self._out, self.take_status)
            nursery.start_soon(self._read, process.stderr, self._err, self.take_log)

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The end of the standard error so far."""
        return tuple(self._last_lines)

    def take_log(self, line: str) -> None:
        """Take one line of the standard error."""
        self._last_lines.append(line)
        self._on_log(line)

    async def _read(
        self, stream: trio.abc.ReceiveStream, splitter: LineSplitter, take: Callable[[str], None]
    ) -> None:
        # The stream stays open when this is cancelled: what ends the process reads on.
        while chunk := await stream.receive_some():
            for line in splitter.feed(chunk):
                take(line)
        for line in splitter.finish():
            take(line)


class RunProcess(Protocol):
    """`run_agent_process`, or what stands in for it."""

    async def __call__(
        self,
        command: Sequence[str],
        document: Iterable[bytes],
        output: AgentOutput,
        *,
        env: Mapping[str, str],
        on_start: Callable[[int], None],
    ) -> AgentEnd:
        """Run one agent process until it ends."""


async def run_agent_process(
    command: Sequence[str],
    document: Iterable[bytes],
    output: AgentOutput,
    *,
    env: Mapping[str, str],
    on_start: Callable[[int], None],
) -> AgentEnd:
    """Run one agent process until it ends.

    The agent's standard input stays open for as long as this process lives: its end tells the agent
    that the launcher is gone, however it went. No other child holds a copy of it, as every pipe is
    closed on exec. (Linux's parent-death signal would follow the thread that forked, not the process.)

    *Resource handling*: when this returns or raises, the process is gone: on cancellation it gets
    SIGTERM, then SIGKILL after `STOP_GRACE_S`, and what it writes meanwhile is still read.

    Args:
        command: the program and its arguments.
        document: pieces of what is written to its standard input.
        output: takes what it writes.
        env: its environment.
        on_start: takes its process id.

    Raises:
        OSError: it could not be started.
    """
    process = await trio.lowlevel.open_process(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        start_new_session=True,  # a terminal's Ctrl-C is for the launcher, who then ends its agents
    )
    try:
        on_start(process.pid)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_hand_over, process, document)
            nursery.start_soon(output.read_from, process)
            await process.wait()
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await _end(process, output)
    code = process.returncode
    assert code is not None  # noqa: S101 - for the type checker; it was waited for
    return AgentEnd(code=code, last_lines=output.last_lines)


async def _hand_over(process: trio.Process, document: Iterable[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - for the type checker
    # A process that dies halfway breaks the pipe; its exit code tells the rest.
    with suppress(trio.BrokenResourceError):
        for piece in document:
            await process.stdin.send_all(piece)


async def _end(process: trio.Process, output: AgentOutput) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.read_from, process)
        if process.returncode is None:
            process.terminate()
            with trio.move_on_after(STOP_GRACE_S):
                await process.wait()
        if process.returncode is None:
            log.warning("agent did not stop when asked; killing it", pid=process.pid)
            process.kill()
            with trio.move_on_after(_KILL_GRACE_S) as killing:
                await process.wait()
            if killing.cancelled_caught:
                log.error("agent survives SIGKILL so far", pid=process.pid)
        nursery.cancel_scope.deadline = trio.current_time() + _LEFTOVERS_S
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            await stream.aclose()
