"""Processes of a benchmark: started apart from the terminal, and gone at the end, with all their children."""

import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import trio

from scripts.benchmarks.command import BenchmarkError

ROOT = Path(__file__).parents[2]
# The headend stops in order within 10 s.
_STOP_WITHIN_S = 12.0
_CHILDREN_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.02
_LAST_LINES = 5


class Program:
    """A running `python -m module`.

    Attributes:
        log: the file that its standard error goes to.
    """

    def __init__(self, module: str, process: trio.Process, log: Path) -> None:
        self._module = module
        self.process = process
        self.log = log
        self._said = b""

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    async def line(self) -> str:
        """Return the next line of its standard output.

        Raises:
            BenchmarkError: there is none, for the program has ended.
        """
        stdout = self.process.stdout
        if stdout is None:
            raise RuntimeError("its standard output is not read here")
        while b"\n" not in self._said:
            some = await stdout.receive_some()
            if not some:
                raise self.failure("ended")
            self._said += some
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def failure(self, what: str) -> BenchmarkError:
        """Return an error that tells `what` it did, and its last words."""
        last = self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        return BenchmarkError("\n".join([f"{self._module} {what}; its last words:", *last]))


@asynccontextmanager
async def open_program(
    module: str,
    *arguments: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
) -> AsyncIterator[Program]:
    """Run `python -m module`; whoever writes lines to be read holds its standard input open until the end.

    Args:
        module: what to run.
        arguments: for it.
        log: the file for its standard error.
        env: the whole environment; this process's unless given.
        options: for Python.

    *Resource handling*: it is a session of its own, so that a terminal's Ctrl-C reaches this process alone.
    On leaving it gets SIGTERM and 12 s, then SIGKILL; its children have 10 s more to follow.
    """
    with log.open("wb") as stderr:
        process = await trio.lowlevel.open_process(
            [sys.executable, *options, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=ROOT,
            env=env,
            start_new_session=True,
        )
    try:
        yield Program(module, process, log)
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)


async def _end(process: trio.Process) -> None:
    children = _children_of(process.pid)
    if process.poll() is None:
        process.terminate()
    with trio.move_on_after(_STOP_WITHIN_S):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            await pipe.aclose()
    with trio.move_on_after(_CHILDREN_WITHIN_S):
        while any(child.is_running() for child in children):  # noqa: ASYNC110  # they are not ours to wait for
            await trio.sleep(_LOOK_EVERY_S)
    for child in children:
        if child.is_running():
            child.kill()


def _children_of(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []
