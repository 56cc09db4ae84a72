"""An agent's state on disk: batches and batteries in one SQLite file, saved in one transaction per pulse.

Opening, checking and locking the file is in `trioder.agent.persistence.state_file`.
"""

import sqlite3
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from trioder.agent.persistence.state_file import SELECT_AGENT, has_dispatches, locked, open_file
from trioder.agent.persistence.state_store import Losses, SavedBattery

log = structlog.stdlib.get_logger(__name__)

# Pages of acknowledged batches returned to the file system per save: 1 MiB.
_PAGES_FREED_AT_ONCE = 256
# Numbers of a battery. Dispatch ids are rows of their own, written when they change; the remaining lease
# follows from its end and the time of the save, which are of one clock.
_COLUMNS = 5
_COLUMNS_BEFORE_REVERSION = 4
_LEASE_END = SavedBattery._fields.index("lease_end_unix_s")


class SqliteBatchLog:
    """The `BatchLog` of a file. Batches not written yet, and the newest, are in memory as well."""

    def __init__(self, connection: sqlite3.Connection, *, last_seq: int) -> None:
        rows = connection.execute("SELECT seq, length(payload) FROM batches ORDER BY seq").fetchall()
        self.last_seq = self.durable_seq = max(last_seq, rows[-1][0] if rows else 0)
        self.first_seq = rows[0][0] if rows else self.last_seq + 1
        size_by_seq: dict[int, int] = dict(rows)
        self._sizes = deque(size_by_seq.get(seq, 0) for seq in range(self.first_seq, self.last_seq + 1))
        self.size_bytes = sum(self._sizes)
        self.losses = Losses(
            connection.execute("SELECT first_seq, last_seq FROM losses ORDER BY first_seq").fetchall()
        )
        self._losses_on_disk = self.losses.ranges
        self._connection = connection
        self._first_on_disk = self.first_seq
        self._in_memory: dict[int, bytes] = {}

    def append(self, payload: bytes) -> None:
        """See `BatchLog`."""
        self.last_seq += 1
        self._in_memory[self.last_seq] = payload
        self._sizes.append(len(payload))
        self.size_bytes += len(payload)

    def read(self, batch_seq: int) -> bytes | None:
        """See `BatchLog`."""
        if not self.first_seq <= batch_seq <= self.last_seq:
            raise KeyError(batch_seq)
        payload = self._in_memory.get(batch_seq)
        return payload if payload is not None else self._read_from_disk(batch_seq)

    def drop_first(self) -> None:
        """See `BatchLog`."""
        if not self._sizes:
            raise KeyError(self.first_seq)
        self.size_bytes -= self._sizes.popleft()
        self._in_memory.pop(self.first_seq, None)
        self.first_seq += 1

    def write(self) -> None:
        """Write all changes, within the connection's transaction."""
        if self._first_on_disk < self.first_seq:
            self._connection.execute("DELETE FROM batches WHERE seq < ?", (self.first_seq,))
        self._connection.executemany(
            "INSERT INTO batches VALUES (?, ?, ?)",
            (
                (seq, zlib.crc32(payload), payload)
                for seq, payload in self._in_memory.items()
                if seq > self.durable_seq
            ),
        )
        if self.losses.ranges != self._losses_on_disk:
            self._connection.execute("DELETE FROM losses")
            self._connection.executemany("INSERT INTO losses VALUES (?, ?)", self.losses.ranges)

    def written(self) -> None:
        """Record that the transaction was committed."""
        self._first_on_disk = self.first_seq
        self._losses_on_disk = self.losses.ranges
        self.durable_seq = self.last_seq
        newest = self._in_memory.get(self.last_seq)
        self._in_memory = {} if newest is None else {self.last_seq: newest}

    def _read_from_disk(self, batch_seq: int) -> bytes | None:
        try:
            row = self._connection.execute(
                "SELECT crc, payload FROM batches WHERE seq = ?", (batch_seq,)
            ).fetchone()
        except sqlite3.Error as error:
            log.warning("a batch cannot be read back", batch_seq=batch_seq, reason=str(error))
            return None
        if row is None or zlib.crc32(row[1]) != row[0]:
            log.warning("a batch is damaged", batch_seq=batch_seq)
            return None
        payload: bytes = row[1]
        return payload


class SqliteStateStore:
    """The `StateStore` of a file that was opened and checked.

    Attributes:
        agent_id: the file's.
        asset_ids: the file's.
        saved_ms: when the batteries were last saved; 0 before.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        row = connection.execute(SELECT_AGENT).fetchone()
        self._epoch: int
        self.agent_id, self.outbox_id, asset_ids, self._epoch, last_seq, self.saved_ms, blob = row
        self.asset_ids: tuple[str, ...] = tuple(asset_ids.split("\n"))
        self.failures = 0
        self.batches = SqliteBatchLog(connection, last_seq=last_seq)
        dispatch_ids = _read_dispatch_ids(connection, len(self.asset_ids))
        self._batteries = _unpack(self.asset_ids, blob, dispatch_ids, saved_ms=self.saved_ms)
        self._dispatch_ids: tuple[str, ...] = dispatch_ids
        self._connection = connection
        self._failing = False

    def begin_boot(self, now_ms: int) -> int:
        """See `StateStore`."""
        self._epoch = max(now_ms, self._epoch + 1)
        self._commit("UPDATE agent SET epoch = ?", (self._epoch,), self._dispatch_ids)
        return self._epoch

    def renew_outbox(self, outbox_id: str) -> None:
        """See `StateStore`."""
        self.outbox_id = outbox_id
        self._commit(
            "UPDATE agent SET outbox_id = ?, last_seq = ?",
            (outbox_id, self.batches.last_seq),
            self._dispatch_ids,
        )

    def adopt(self, states: Mapping[str, tuple[int, SavedBattery]]) -> None:
        """Replace batteries by the states that another agent's file has saved later than this one.

        Args:
            states: time of the save and battery, by asset id.
        """
        for asset_id, (saved_ms, battery) in states.items():
            if asset_id not in self._batteries or saved_ms > self.saved_ms:
                self._batteries[asset_id] = battery

    def batteries(self) -> Mapping[str, SavedBattery]:
        """See `StateStore`."""
        return self._batteries

    def save(self, batteries: Sequence[SavedBattery], *, now_ms: int) -> None:
        """See `StateStore`."""
        *columns, dispatch_ids, _ = zip(*batteries, strict=True)
        self._commit(
            # With the outbox's id, in case the save that should have renewed it failed.
            "UPDATE agent SET saved_ms = ?, batteries = ?, last_seq = ?, outbox_id = ?",
            (now_ms, _pack(columns), self.batches.last_seq, self.outbox_id),
            dispatch_ids,
        )

    def _commit(self, statement: str, values: tuple[object, ...], dispatch_ids: tuple[str, ...]) -> None:
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            execute(statement, values)
            self.batches.write()
            self._write_dispatch_ids(dispatch_ids)
            execute("COMMIT")
        except sqlite3.Error as error:
            self._record_failure(error)
            return
        self.batches.written()
        self._dispatch_ids = dispatch_ids
        if self._failing:
            self._failing = False
            log.warning("the agent's file is written again", agent_id=self.agent_id, failures=self.failures)
        self._shrink()

    def _write_dispatch_ids(self, dispatch_ids: tuple[str, ...]) -> None:
        # Almost always the same objects: comparing 100,000 takes a millisecond.
        if dispatch_ids == self._dispatch_ids:
            return
        pairs = enumerate(zip(dispatch_ids, self._dispatch_ids, strict=True))
        changed = [(position, new) for position, (new, old) in pairs if new != old]
        self._connection.executemany(
            "INSERT OR REPLACE INTO dispatches VALUES (?, ?)", ((at, new) for at, new in changed if new)
        )
        self._connection.executemany(
            "DELETE FROM dispatches WHERE position = ?", ((at,) for at, new in changed if not new)
        )

    def _record_failure(self, error: sqlite3.Error) -> None:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self.failures += 1
        if not self._failing:
            self._failing = True
            log.error("the agent's file cannot be written", agent_id=self.agent_id, reason=str(error))

    def _shrink(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection.execute("PRAGMA freelist_count").fetchone()[0] > _PAGES_FREED_AT_ONCE:
                # It returns a row per page, which `execute` would not step through.
                self._connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_FREED_AT_ONCE})")


@contextmanager
def open_state_store(
    path: Path, *, agent_id: str, asset_ids: Sequence[str], outbox_id: str
) -> Iterator[SqliteStateStore]:
    """Yield the store of an agent, exclusive to this process; the file is created, or replaced, if necessary.

    Args:
        path: of the file.
        agent_id: its owner.
        asset_ids: in the order of the batches' positions.
        outbox_id: for a new file.

    Raises:
        StateFileInUseError: another process has it.
        StateFileUnusableError: it can be neither used nor moved aside.
    """
    with locked(path):
        connection = open_file(path, agent_id=agent_id, asset_ids=asset_ids, outbox_id=outbox_id)
        try:
            yield SqliteStateStore(connection)
        finally:
            connection.close()


def read_batteries(connection: sqlite3.Connection) -> tuple[int, dict[str, SavedBattery]]:
    """Return when the batteries of a file were saved, and their states by asset id."""
    asset_ids, saved_ms, blob = connection.execute(
        "SELECT asset_ids, saved_ms, batteries FROM agent"
    ).fetchone()
    names = asset_ids.split("\n")
    dispatch_ids = _read_dispatch_ids(connection, len(names))
    return saved_ms, _unpack(names, blob, dispatch_ids, saved_ms=saved_ms)


def _read_dispatch_ids(connection: sqlite3.Connection, rows: int) -> tuple[str, ...]:
    """Return the dispatch in force of each battery; empty without one."""
    if not has_dispatches(connection):
        return ("",) * rows
    found = dict(connection.execute("SELECT position, dispatch_id FROM dispatches").fetchall())
    return tuple(str(found.get(position, "")) for position in range(rows))


def _pack(columns: Sequence[Sequence[float]]) -> bytes:
    return b"".join(struct.pack(f"<{len(column)}d", *column) for column in columns)


def _unpack(
    asset_ids: Sequence[str], blob: bytes | None, dispatch_ids: Sequence[str], *, saved_ms: int
) -> dict[str, SavedBattery]:
    if blob is None:
        return {}
    rows = len(asset_ids)
    count, rest = divmod(len(blob), rows * 8)
    if rest or count not in {_COLUMNS, _COLUMNS_BEFORE_REVERSION}:
        log.warning("the batteries' saved state is damaged; they start afresh", bytes=len(blob), assets=rows)
        return {}
    values = struct.unpack(f"<{count * rows}d", blob)
    columns = [values[start : start + rows] for start in range(0, count * rows, rows)]
    if count == _COLUMNS_BEFORE_REVERSION:
        columns.append((0.0,) * rows)
    remaining_s = (end_unix_s - saved_ms / 1000 for end_unix_s in columns[_LEASE_END])
    saved = map(SavedBattery, *columns, dispatch_ids, remaining_s)
    return dict(zip(asset_ids, saved, strict=True))
