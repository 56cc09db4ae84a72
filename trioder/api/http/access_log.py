"""The request log: a line for each request, formatted and written in batches, beside the requests.

A request only appends a tuple. `request_log` adds what Quart answers.
"""

import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal

import structlog
import trio

from trioder.domain.text import shorten
from trioder.process.log_lines import LogLines
from trioder.process.logs import LogOutput
from trioder.process.nurseries import open_background_nursery
from trioder.process.queued_output import QueuedText

AccessLogScope = Literal["all", "errors"]

# The logger of these lines since there are any.
_LOGGER = "trioder.api.http.request_log"
_EVENT = "request"
_MAX_PATH_LENGTH = 256
_WRITE_EVERY_S = 0.05
# Formatting so many takes about 3 ms.
_MAX_PENDING = 500

log = structlog.stdlib.get_logger(_LOGGER)

# Unix time in s, method, raw path, status, duration in s, client, request id, name of the principal.
_Entry = tuple[float, str, bytes, int, float, tuple[str, int] | None, str, str | None]


class AccessLog:
    """Collects the requests that have ended, and writes a line for each, in the order of their end.

    By default each is written at once; `open_access_log` gives one that writes in batches.

    Args:
        scope: ``errors`` leaves out all but responses with 4xx and 5xx.
        write: writes the lines of some requests.
        max_pending: with so many waiting they are written at once.
    """

    def __init__(
        self,
        scope: AccessLogScope = "all",
        *,
        write: Callable[[Sequence[_Entry]], None] | None = None,
        max_pending: int = 1,
    ) -> None:
        self._write = write or _log_each
        self._least_status = 400 if scope == "errors" else 0
        self._max_pending = max_pending
        self._pending: list[_Entry] = []
        self._added = trio.Event()

    def add(
        self,
        *,
        method: str,
        raw_path: bytes,
        status: int,
        duration_s: float,
        client: tuple[str, int] | None,
        request_id: str,
        principal: str | None = None,
    ) -> None:
        """Add a request that has ended just now; takes about 1 us, never waits.

        Args:
            method: of the request.
            raw_path: percent-encoded, without the query; cut in the line.
            status: of the response; 0 if the client disconnected before it.
            duration_s: from the request's head to the end of its response.
            client: the address and port of the connection.
            request_id: as in the response.
            principal: the name, where there is one.
        """
        if status < self._least_status:
            return
        pending = self._pending
        pending.append((time.time(), method, raw_path, status, duration_s, client, request_id, principal))
        if len(pending) >= self._max_pending:
            self.flush()
        elif len(pending) == 1:
            self._added.set()

    def flush(self) -> None:
        """Write what is pending; before the process ends, also in a signal handler."""
        pending, self._pending = self._pending, []
        if pending:
            self._write(pending)

    async def run(self) -> None:
        """Write what is pending 50 ms after it was added, until cancelled."""
        while True:
            await self._added.wait()
            self._added = trio.Event()
            await trio.sleep(_WRITE_EVERY_S)
            self.flush()


@asynccontextmanager
async def open_access_log(output: LogOutput, scope: AccessLogScope) -> AsyncIterator[AccessLog]:
    """Open a log that writes in batches to the process's log.

    *Resource handling*: what is pending is written at the end, however the block ends, and when standard
    error is flushed before the process ends itself.
    """
    lines = LogLines(output, logger=_LOGGER, event=_EVENT)
    access_log = AccessLog(scope, write=partial(_write_lines, lines), max_pending=_MAX_PENDING)
    if isinstance(sys.stderr, QueuedText):
        sys.stderr.queue.before_flush = access_log.flush
    try:
        async with open_background_nursery() as nursery:
            nursery.start_soon(access_log.run)
            yield access_log
    finally:
        access_log.flush()


def _write_lines(lines: LogLines, entries: Sequence[_Entry]) -> None:
    if lines.are_wanted:
        lines.output.write("".join([lines.format(entry[0], _fields(entry)) for entry in entries]))


def _log_each(entries: Sequence[_Entry]) -> None:
    for entry in entries:
        log.info(_EVENT, **_fields(entry))


def _fields(entry: _Entry) -> dict[str, str | int | float]:
    _, method, raw_path, status, duration_s, client, request_id, principal = entry
    fields: dict[str, str | int | float] = {
        "method": method,
        # The raw path is percent-encoded ASCII: it contains no line breaks.
        "path": shorten(raw_path.decode("ascii", "backslashreplace"), _MAX_PATH_LENGTH),
        "status": status or "client left",
        "duration_ms": round(duration_s * 1000, 1),
        "peer": f"{client[0]}:{client[1]}" if client else "",
        "request_id": request_id,
    }
    if principal is not None:
        fields["principal"] = principal
    return fields
