"""Standard streams that never block their writer: a bounded queue of lines and a writing thread.

A terminal stopped with Ctrl-S, or a pipe that nobody reads, blocks `write` and with it the event loop.
O_NONBLOCK is no solution: it belongs to the open file, which other processes share.
"""

import atexit
import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

# Some 8,000 log lines; beyond this the oldest are dropped and counted.
MAX_QUEUED_BYTES = 1024 * 1024
_BYTES_PER_WRITE = 64 * 1024
# At exit: within 10 s of SIGTERM, most of which may be used up.
_FLUSH_WITHIN_S = 2.0
_STALLED_AFTER_S = 0.3
_POLL_S = 0.002
_CLEAR_LINE = b"\r\x1b[K"


class OutputQueue:
    """Writes to a file descriptor from its own thread; beyond its bound the oldest chunks are dropped.

    The data of one `put` is written or dropped as a whole, and dropped if its write fails (no reader, no
    space). A notice replaces dropped lines as soon as the descriptor accepts data.

    Args:
        descriptor: must stay open; its flags are not changed.
        max_bytes: the bound, besides the write in progress (64 KiB or one chunk).

    Attributes:
        lines_dropped: since the start, including failed writes.
        describe: returns the notice, a whole line or nothing, for a number of dropped lines. Called on
            the writing thread.
        before_flush: puts what others still buffer; called by `flush`, also in a signal handler.

    Raises:
        RuntimeError: the thread cannot be started.
    """

    def __init__(self, descriptor: int, *, max_bytes: int = MAX_QUEUED_BYTES) -> None:
        self.descriptor = descriptor
        self.lines_dropped = 0
        self.describe: Callable[[int], str] = lambda lines: f"{lines} log lines dropped\n"
        self.before_flush: Callable[[], None] = lambda: None
        self._max_bytes = max_bytes
        self._chunks: deque[bytes] = deque()
        self._queued_bytes = 0
        self._lines_reported = 0
        self._writing = False
        self._written_bytes = 0
        # Both may be used in a signal handler that interrupts their holder.
        self._lock = threading.RLock()
        self._wakeups: SimpleQueue[None] = SimpleQueue()
        self._woken = False
        threading.Thread(target=self._run, name=f"write-{descriptor}", daemon=True).start()

    def put(self, data: bytes) -> None:
        """Queue data; returns at once."""
        if not data:
            return
        with self._lock:
            self._chunks.append(data)
            self._queued_bytes += len(data)
            while self._queued_bytes > self._max_bytes:
                oldest = self._chunks.popleft()
                self._queued_bytes -= len(oldest)
                self.lines_dropped += oldest.count(b"\n")
            if self._woken:
                return
            self._woken = True
        self._wakeups.put(None)

    def flush(self, *, within_s: float = _FLUSH_WITHIN_S, stalled_after_s: float = _STALLED_AFTER_S) -> bool:
        """Wait until everything is written; return whether it is.

        Blocks; takes no lock, so that a signal handler may call it. For the end of a process.

        Args:
            within_s: gives up after this long ...
            stalled_after_s: ... or after this long without any progress.
        """
        self.before_flush()
        started_s = moved_s = time.monotonic()
        written_bytes = self._written_bytes
        while self._chunks or self._writing:
            now_s = time.monotonic()
            if self._written_bytes != written_bytes:
                written_bytes, moved_s = self._written_bytes, now_s
            if now_s - started_s >= within_s or now_s - moved_s >= stalled_after_s:
                return False
            time.sleep(_POLL_S)
        return True

    def _run(self) -> None:
        while True:
            self._wakeups.get()
            # Before the queue is read: whoever adds to it from now on wakes this thread again.
            self._woken = False
            while True:
                chunks, dropped = self._take()
                if not chunks:
                    break
                self._write(chunks, dropped)
                self._writing = False

    def _take(self) -> tuple[list[bytes], int]:
        """Return the next chunks to write, and the number of lines dropped before them."""
        chunks: list[bytes] = []
        size = 0
        with self._lock:
            # First: `flush` reads without the lock, and must see either chunks or `_writing`.
            self._writing = True
            while self._chunks and (not chunks or size + len(self._chunks[0]) <= _BYTES_PER_WRITE):
                chunk = self._chunks.popleft()
                size += len(chunk)
                chunks.append(chunk)
            self._queued_bytes -= size
            self._writing = bool(chunks)
            return chunks, self.lines_dropped

    def _write(self, chunks: list[bytes], dropped: int) -> None:
        notice = self._notice(dropped - self._lines_reported) if dropped > self._lines_reported else b""
        data = b"".join(chunks)
        try:
            self._write_all(notice + data)
        except OSError:
            with self._lock:
                self.lines_dropped += data.count(b"\n")
        else:
            self._lines_reported = dropped

    def _notice(self, lines: int) -> bytes:
        try:
            text = self.describe(lines)
        except Exception:  # noqa: BLE001  # the thread must survive any formatter
            text = f"{lines} log lines dropped\n"
        # On a terminal the last line may be a live display.
        return _CLEAR_LINE * (text != "" and os.isatty(self.descriptor)) + text.encode(errors="replace")

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                written = os.write(self.descriptor, rest)
            except BlockingIOError:
                # Another process that shares the open file has made it non-blocking.
                poll = select.poll()
                poll.register(self.descriptor, select.POLLOUT)
                poll.poll()
                continue
            self._written_bytes += written
            rest = rest[written:]


class QueuedText(io.TextIOBase):
    """A text stream over an `OutputQueue`; may replace `sys.stderr`."""

    def __init__(self, queue: OutputQueue, *, encoding: str = "utf-8") -> None:
        self.queue = queue
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream that it replaces."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Unencodable characters are escaped, so that no log line fails."""
        return "backslashreplace"

    def write(self, text: str) -> int:
        """Queue the text."""
        self.queue.put(text.encode(self._encoding, "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Do nothing: writing starts at once. See `OutputQueue.flush`."""

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.queue.descriptor

    def isatty(self) -> bool:
        """Return whether the descriptor is a terminal."""
        return os.isatty(self.queue.descriptor)


def queue_standard_error() -> None:
    """Replace `sys.stderr` so that writing to it (logs, usage errors, tracebacks) never blocks.

    For the `__main__` modules, first thing. The queue is written before the process exits, within 2 s, or
    0.3 s if nobody reads; call `flush_standard_error` before `os._exit`. If standard error is closed, its
    descriptor, which the next opened file gets, is never written to.
    """
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # as long as the process
    if isinstance(sys.stderr, QueuedText):
        return
    before = sys.stderr
    try:
        stream = QueuedText(OutputQueue(before.fileno()), encoding=before.encoding)
    except RuntimeError:
        # Not even one thread: the process is about to fail, and its errors must be readable.
        return
    sys.stderr = stream

    def finish() -> None:
        # Messages of the interpreter's shutdown are written directly, unless that would block.
        if stream.queue.flush():
            sys.stderr = before

    atexit.register(finish)


def flush_standard_error(*, within_s: float) -> None:
    """Write the queue of `sys.stderr`, for a limited time; before `os._exit`, in signal handlers too."""
    if isinstance(sys.stderr, QueuedText):
        sys.stderr.queue.flush(within_s=within_s)


def log_lines_dropped() -> int:
    """Return the number of lines for `sys.stderr` dropped since the start."""
    return sys.stderr.queue.lines_dropped if isinstance(sys.stderr, QueuedText) else 0
