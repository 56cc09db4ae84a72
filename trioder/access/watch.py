"""Reads the access file again when it changes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
import trio

from trioder.access.document import AccessFileError, read_document
from trioder.access.table import AccessChange, AccessTable, PreparedAccess

log = structlog.stdlib.get_logger(__name__)

_PERIOD_S = 1.0

# Modification time, size and inode; None for a file that cannot be examined.
_Signature = tuple[int, int, int] | None


class AccessWatch:
    """Keeps a table as the access file is. A file with errors changes nothing; it may be made later.

    Args:
        table: changed in place.
        path: of the access file.
        changed: receives what a newer file has changed, before the next checkpoint.

    Attributes:
        reads: counts how often the file was read, also with errors.
    """

    def __init__(
        self, table: AccessTable, path: Path, changed: Callable[[Sequence[AccessChange]], None]
    ) -> None:
        self._table = table
        self._path = path
        self._changed = changed
        self._lock = trio.Lock()
        self._signature: _Signature = None
        self._has_been = False
        self._logged = ""
        self.reads = 0

    async def run(self) -> None:
        """Examine the file every second, and read it if it differs; runs until cancelled.

        It is read once at the start: it may have changed since the table was made.
        """
        while True:
            if _signature(self._path) != self._signature:
                await self._read()
            await trio.sleep(_PERIOD_S)

    async def reload(self) -> None:
        """Read the file now, whether it differs or not, as SIGHUP asks; an error is logged again.

        Nothing happens while it has not been made.
        """
        self._logged = ""
        if self._has_been or _signature(self._path) is not None:
            await self._read()

    async def _read(self) -> None:
        async with self._lock:
            # Before reading: what changes afterwards differs at the next examination.
            signature = _signature(self._path)
            self._has_been = True
            try:
                prepared = await trio.to_thread.run_sync(self._prepare, abandon_on_cancel=True)
            except AccessFileError as error:
                self.reads += 1
                self._signature = signature
                if str(error) != self._logged:
                    self._logged = str(error)
                    log.warning("access file not reloaded: nothing has changed", reason=str(error))
                return
            self.reads += 1
            self._signature, self._logged = signature, ""
            changes = self._table.apply(prepared)
            if changes:
                log.info("access file reloaded", changes=len(changes))
                self._changed(changes)

    def _prepare(self) -> PreparedAccess:
        return self._table.prepare(read_document(self._path))


def _signature(path: Path) -> _Signature:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
