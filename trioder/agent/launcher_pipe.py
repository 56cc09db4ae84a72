"""Standard input as the launcher's pipe: one line with the shard, then open while the launcher lives."""

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trioder.agent.config import MEBIBYTE, ConfigError

MAX_LINE_BYTES = 512 * MEBIBYTE
STDIN_RULE = "with --stdin it must be the launcher's pipe: the shard document as one JSON line, then open"


class LauncherPipe:
    """The reading end.

    Args:
        stream: None when the descriptor is a file.
        descriptor: of the file.
    """

    def __init__(self, stream: trio.lowlevel.FdStream | None, descriptor: int) -> None:
        self._stream = stream
        self._descriptor = descriptor

    async def read_line(self) -> bytes:
        """Return the first line; what follows is ignored.

        Raises:
            ConfigError: the input ended before the line did, or the line is too long.
        """
        pieces: list[bytes] = []
        size_bytes = 0
        while True:
            piece = await self._read()
            line, end, _rest = piece.partition(b"\n")
            size_bytes += len(line)
            if size_bytes > MAX_LINE_BYTES:
                raise ConfigError([f"the line on standard input is longer than {MAX_LINE_BYTES} bytes"])
            pieces.append(line)
            if end:
                return b"".join(pieces)
            if not piece:
                raise ConfigError([f"standard input ended after {size_bytes} bytes; {STDIN_RULE}"])

    async def wait_closed(self) -> None:
        """Wait until the other end is closed; a file's end does not count."""
        if self._stream is None:
            await trio.sleep_forever()
        while await self._read():
            pass

    async def _read(self) -> bytes:
        if self._stream is None:
            await trio.lowlevel.checkpoint()
            return os.read(self._descriptor, MEBIBYTE)
        try:
            return bytes(await self._stream.receive_some(MEBIBYTE))
        except trio.BrokenResourceError:
            return b""


@asynccontextmanager
async def open_launcher_pipe(descriptor: int = 0) -> AsyncIterator[LauncherPipe]:
    """Yield standard input, without a thread, which would delay the exit.

    A pipe is non-blocking meanwhile, for all who share it; the launcher's is not shared.

    Raises:
        ConfigError: it is a terminal.
    """
    mode = os.fstat(descriptor).st_mode
    if os.isatty(descriptor):
        raise ConfigError([f"standard input is a terminal; {STDIN_RULE}"])
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        yield LauncherPipe(None, descriptor)
        return
    async with trio.lowlevel.FdStream(os.dup(descriptor)) as stream:
        yield LauncherPipe(stream, descriptor)
