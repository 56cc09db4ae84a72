"""Standard streams that never block their writer: a bounded queue of lines and one thread that writes.

A terminal stopped with Ctrl-S, or a pipe that nobody reads, blocks `write`; on an event loop that stops
everything else as well. O_NONBLOCK would not do: it belongs to the open file, which other processes share.
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

# Some 8,000 log lines; what is beyond, the oldest of them, is dropped and counted.
MAX_QUEUED_BYTES = 1024 * 1024
_BYTES_A_WRITE = 64 * 1024
# At the exit: SIGTERM promises it within 10 s, most of which others may have used already.
_FLUSH_WITHIN_S = 2.0
_STALLED_AFTER_S = 0.3
_POLL_S = 0.002
_CLEAR_LINE = b"\r\x1b[K"


class OutputQueue:
    """Writes to a file descriptor from a thread of its own; beyond its bound the oldest is dropped.

    What one `put` takes is written or dropped as a whole. A failed write (no reader, no space) drops what it
    was to write. Where lines are missing, a note takes their place as soon as the descriptor accepts data.

    Args:
        descriptor: open for as long as the process lives; its flags stay as they are.
        max_bytes: held for it at most, besides the one write that is under way (64 KiB or one chunk).

    Attributes:
        lines_dropped: since the start, those of failed writes included.
        describe: returns the note, a whole line or nothing, for a number of lines dropped. It runs on
            the writing thread.

    Raises:
        RuntimeError: the system has no room for a thread.
    """

    def __init__(self, descriptor: int, *, max_bytes: int = MAX_QUEUED_BYTES) -> None:
        self.descriptor = descriptor
        self.lines_dropped = 0
        self.describe: Callable[[int], str] = lambda lines: f"{lines} log lines dropped\n"
        self._max_bytes = max_bytes
        self._chunks: deque[bytes] = deque()
        self._queued_bytes = 0
        self._lines_noted = 0
        self._writing = False
        self._written_bytes = 0
        # Both are safe in a signal handler that interrupts their holder.
        self._lock = threading.RLock()
        self._wakeups: SimpleQueue[None] = SimpleQueue()
        self._woken = False
        self._closed = False
        threading.Thread(target=self._run, name=f"write-{descriptor}", daemon=True).start()

    def put(self, data: bytes) -> None:
        """Have this written; returns at once."""
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
        """Wait for all of it to be written; return whether it is.

        It takes no lock, so that a signal handler may call it, and blocks: for the end of a process.

        Args:
            within_s: gives up after this long ...
            stalled_after_s: ... or after this long without any progress.
        """
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

    def close(self) -> None:
        """End the thread once it has written what is queued; the descriptor stays open."""
        self._closed = True
        self._wakeups.put(None)

    def _run(self) -> None:
        while not self._closed:
            self._wakeups.get()
            # Before the queue is looked at: whoever adds to it from now on wakes this up again.
            self._woken = False
            while True:
                chunks, dropped = self._take()
                if not chunks:
                    break
                self._write(chunks, dropped)
                self._writing = False

    def _take(self) -> tuple[list[bytes], int]:
        """Return what to write next, and how many lines were dropped before it."""
        chunks: list[bytes] = []
        size = 0
        with self._lock:
            # First of all: `flush` looks without the lock, and must not find neither of the two.
            self._writing = True
            while self._chunks and (not chunks or size + len(self._chunks[0]) <= _BYTES_A_WRITE):
                chunk = self._chunks.popleft()
                size += len(chunk)
                chunks.append(chunk)
            self._queued_bytes -= size
            self._writing = bool(chunks)
            return chunks, self.lines_dropped

    def _write(self, chunks: list[bytes], dropped: int) -> None:
        note = self._note(dropped - self._lines_noted) if dropped > self._lines_noted else b""
        data = b"".join(chunks)
        try:
            self._write_all(note + data)
        except OSError:
            with self._lock:
                self.lines_dropped += data.count(b"\n")
        else:
            self._lines_noted = dropped

    def _note(self, lines: int) -> bytes:
        try:
            text = self.describe(lines)
        except Exception:  # noqa: BLE001  # whatever a formatter may raise, this thread goes on
            text = f"{lines} log lines dropped\n"
        # On a terminal the last line may be one that is shown live.
        return _CLEAR_LINE * (text != "" and os.isatty(self.descriptor)) + text.encode(errors="replace")

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                written = os.write(self.descriptor, rest)
            except BlockingIOError:
                # Somebody who shares the open file has made it non-blocking.
                poll = select.poll()
                poll.register(self.descriptor, select.POLLOUT)
                poll.poll()
                continue
            self._written_bytes += written
            rest = rest[written:]


class QueuedText(io.TextIOBase):
    """A text stream over an `OutputQueue`; may stand in for `sys.stderr`."""

    def __init__(self, queue: OutputQueue, *, encoding: str = "utf-8") -> None:
        self.queue = queue
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As of the stream that it stands in for."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What cannot be encoded is escaped: no log line fails."""
        return "backslashreplace"

    def write(self, text: str) -> int:
        """Queue the text."""
        self.queue.put(text.encode(self._encoding, "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Do nothing: writing begins at once. See `OutputQueue.flush`."""

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Return the descriptor below."""
        return self.queue.descriptor

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self.queue.descriptor)


def queue_standard_error() -> None:
    """Let nothing that this process writes to `sys.stderr` block it: logs, usage errors, tracebacks.

    For the `__main__` modules, first thing. What is queued is written before the process exits, within 2 s,
    and 0.3 s if nobody reads it; `os._exit` needs `flush_standard_error` before it. A closed standard error
    stays without effect, and its descriptor, which the next file takes, is never written to.
    """
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # as long as the process
    if isinstance(sys.stderr, QueuedText):
        return
    before = sys.stderr
    try:
        stream = QueuedText(OutputQueue(before.fileno()), encoding=before.encoding)
    except RuntimeError:
        # Not even one thread: what this process does will fail in its own way, which is to be read.
        return
    sys.stderr = stream

    def finish() -> None:
        # What the interpreter says while it finishes is written by itself, unless that would block.
        if stream.queue.flush():
            sys.stderr = before

    atexit.register(finish)


def flush_standard_error(*, within_s: float) -> None:
    """Write what is queued for `sys.stderr`, for a limited time; for `os._exit`, in signal handlers too."""
    if isinstance(sys.stderr, QueuedText):
        sys.stderr.queue.flush(within_s=within_s)


def log_lines_dropped() -> int:
    """Return how many lines for `sys.stderr` were dropped since the start."""
    return sys.stderr.queue.lines_dropped if isinstance(sys.stderr, QueuedText) else 0
