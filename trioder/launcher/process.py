"""One run of one agent process: started, given its shard, its output read, and always terminated."""

import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

log = structlog.stdlib.get_logger(__name__)

# Within the 10 s of a shutdown: the agent's own, then SIGKILL's.
STOP_GRACE_S = 8.0
_KILL_GRACE_S = 1.0
# The pipes of a terminated process are read to their end, unless something else holds them open.
_READ_REST_S = 0.5
_LAST_LINES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEnd:
    """How an agent process ended.

    Attributes:
        code: its exit code; negative for the signal that killed it.
        last_lines: of its standard error.
    """

    code: int
    last_lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"killed by signal {-self.code}" if self.code < 0 else f"exit code {self.code}"


class LineSplitter:
    """Splits chunks into lines; longer ones than `longest` are cut short and marked."""

    def __init__(self, *, longest: int = 64 * 1024) -> None:
        self._longest = longest
        self._rest = bytearray()
        self._skipping = False

    def feed(self, chunk: bytes | bytearray) -> list[str]:
        """Return the lines that this chunk completes, without their ends."""
        *whole, rest = chunk.split(b"\n")
        lines = []
        for part in whole:
            self._take(part)
            lines.append(self._pop())
        self._take(rest)
        return lines

    def finish(self) -> list[str]:
        """Return the last line, if it has no end."""
        return [self._pop()] if self._rest else []

    def _take(self, part: bytes | bytearray) -> None:
        room = self._longest - len(self._rest)
        self._rest += part[:room]
        self._skipping |= len(part) > room

    def _pop(self) -> str:
        line = self._rest.decode(errors="replace").rstrip("\r") + (" [cut short]" if self._skipping else "")
        self._rest.clear()
        self._skipping = False
        return line


class AgentOutput:
    """Reads the lines of an agent's two outputs.

    Args:
        on_status: receives each line of its standard output.
        on_log: receives each line of its standard error.
    """

    def __init__(self, *, on_status: Callable[[str], None], on_log: Callable[[str], None]) -> None:
        self.handle_status = on_status
        self._on_log = on_log
        self._out = LineSplitter()
        self._err = LineSplitter()
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)

    async def read_from(self, process: trio.Process) -> None:
        """Read both outputs to their end; may be cancelled and called again without loss."""
        assert process.stdout is not None  # noqa: S101 - for the type checker
        assert process.stderr is not None  # noqa: S101 - as above
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, process.stdout, self._out, self.handle_status)
            nursery.start_soon(self._read, process.stderr, self._err, self.handle_log)

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines of the standard error so far."""
        return tuple(self._last_lines)

    def handle_log(self, line: str) -> None:
        """Handle one line of the standard error."""
        self._last_lines.append(line)
        self._on_log(line)

    async def _read(
        self, stream: trio.abc.ReceiveStream, splitter: LineSplitter, take: Callable[[str], None]
    ) -> None:
        # The stream stays open when this is cancelled; the shutdown continues to read.
        while chunk := await stream.receive_some():
            for line in splitter.feed(chunk):
                take(line)
        for line in splitter.finish():
            take(line)


class RunProcess(Protocol):
    """`run_agent_process`, or a substitute."""

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

    The agent's standard input stays open for as long as this process lives: its end signals the launcher's
    death to the agent. No other child holds a copy of it, as every pipe is closed on exec. (Linux's
    parent-death signal is bound to the thread that forked, not to the process.)

    *Resource handling*: when this returns or raises, the process is gone: on cancellation it gets
    SIGTERM, then SIGKILL after `STOP_GRACE_S`, and what it writes meanwhile is still read.

    Args:
        command: the program and its arguments.
        document: pieces of its standard input.
        output: reads its outputs.
        env: its environment.
        on_start: receives its process id.

    Raises:
        OSError: it could not be started.
    """
    process = await trio.lowlevel.open_process(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        start_new_session=True,  # a terminal's Ctrl-C is for the launcher, which then terminates its agents
    )
    try:
        on_start(process.pid)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_write_document, process, document)
            nursery.start_soon(output.read_from, process)
            await process.wait()
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await _terminate(process, output)
    code = process.returncode
    assert code is not None  # noqa: S101 - for the type checker; it was waited for
    return AgentEnd(code=code, last_lines=output.last_lines)


async def _write_document(process: trio.Process, document: Iterable[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - for the type checker
    # A process that dies meanwhile breaks the pipe; its exit code is reported.
    with suppress(trio.BrokenResourceError):
        for piece in document:
            await process.stdin.send_all(piece)


async def _terminate(process: trio.Process, output: AgentOutput) -> None:
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
        nursery.cancel_scope.deadline = trio.current_time() + _READ_REST_S
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            await stream.aclose()
