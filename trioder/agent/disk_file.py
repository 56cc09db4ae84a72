"""The file that an agent's memory is in: locked, opened, checked, made anew or put aside. Not what it says.

One sqlite3 database an agent. `trioder.agent.disk` reads and writes it.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import structlog

log = structlog.stdlib.get_logger(__name__)

_APPLICATION_ID = 0x54724F42
_FORMAT = 2
# Without the table of dispatches, and the batteries without their reversion: 4 columns.
_FORMAT_BEFORE_DISPATCHES = 1
_BUSY_S = 5.0
SELECT_AGENT = "SELECT agent_id, outbox_id, asset_ids, epoch, last_seq, saved_ms, batteries FROM agent"
_KEPT_LOG_BYTES = 4 * 1024 * 1024
_SIDE_FILES = ("-wal", "-shm")
_MAKE_DISPATCHES = """
    CREATE TABLE dispatches (
        position INTEGER PRIMARY KEY,  -- of the battery
        dispatch_id TEXT NOT NULL  -- whose setpoint is in force; batteries without one are not here
    )
"""
# An addition that an older agent passes over: it needs no format of its own.
_MAKE_LOSSES = """
    CREATE TABLE IF NOT EXISTS losses (
        first_seq INTEGER PRIMARY KEY,  -- of batches that were dropped unacknowledged
        last_seq INTEGER NOT NULL
    )
"""
_MAKE = f"""
    BEGIN;
    CREATE TABLE agent (
        agent_id TEXT NOT NULL,
        outbox_id TEXT NOT NULL,
        asset_ids TEXT NOT NULL,  -- one a line, in the order of the batches' positions
        epoch INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        saved_ms INTEGER NOT NULL,
        batteries BLOB  -- 5 columns of little-endian doubles
    );
    CREATE TABLE batches (seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, payload BLOB NOT NULL);
    {_MAKE_DISPATCHES};
    {_MAKE_LOSSES};
"""


class MemoryInUseError(Exception):
    """Another process has the file; its text says which file."""


class MemoryUnusableError(Exception):
    """The file can be neither used nor put aside; its text says why."""


class BrokenFileError(Exception):
    """The file's contents cannot be used; its text says why."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the file at `path`, which need not exist; its folder is made.

    The lock is a file of its own, and the kernel's: it goes with the process, however that ends. (On the
    database itself, closing any other descriptor of it would let go of sqlite's own locks.)

    Raises:
        MemoryInUseError: another process holds it.
        MemoryUnusableError: the folder or the lock cannot be made.
    """
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(lock_path)
    except BlockingIOError:
        raise MemoryInUseError(f"{path} is in use by another agent; two must not share an outbox") from None
    except OSError as error:
        raise MemoryUnusableError(f"{lock_path} cannot be used: {error.strerror}") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have removed it before letting go.
            with suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def open_file(path: Path, *, agent_id: str, asset_ids: Sequence[str], outbox_id: str) -> sqlite3.Connection:
    """Open the file of an agent; one that is not there is made, one that is not to be used is put aside.

    Args:
        path: locked by the caller.
        agent_id: whose it must be.
        asset_ids: what it must be about, in this order.
        outbox_id: for a new one.

    Raises:
        MemoryUnusableError: it cannot be opened, made or put aside.
    """
    try:
        if path.exists():
            try:
                return open_existing(path, agent_id=agent_id, asset_ids=asset_ids)
            except BrokenFileError as error:
                aside = put_aside(path)
                log.warning(
                    "the agent's file cannot be used; it is put aside, and a new one made",
                    agent_id=agent_id,
                    path=str(path),
                    aside=str(aside),
                    reason=str(error),
                )
        return _make(path, agent_id=agent_id, asset_ids=asset_ids, outbox_id=outbox_id)
    except (OSError, sqlite3.Error) as error:
        raise MemoryUnusableError(f"{path} cannot be used: {error}") from error


def open_existing(
    path: Path,
    *,
    agent_id: str | None = None,
    asset_ids: Sequence[str] | None = None,
    read_only: bool = False,
) -> sqlite3.Connection:
    """Open a file that is there and check it; None stands for whatever it says.

    Raises:
        BrokenFileError: it is damaged, of another program or format, or about something else.
        sqlite3.Error: it could not be read at all.
    """
    connection = _connect(path, mode="ro" if read_only else "rw")
    try:
        # A quarter of a second for 256 MB: less than what damage found later would cost.
        _check(connection, agent_id, asset_ids, thoroughly=not read_only)
        if not read_only:
            _tune(connection)
            _migrate(connection)
    except sqlite3.Error as error:
        connection.close()
        if is_damage(error):
            raise BrokenFileError(str(error)) from None
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error says that the file is broken, not that the disk or the system is."""
    # An error without a code is the module's own: a value that is not what it should be.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}


def put_aside(path: Path) -> Path:
    """Rename a file, and what sqlite keeps beside it, out of the way; return its new name."""
    aside = path.with_name(f"{path.name}.broken-{time.time_ns() // 1_000_000}")
    path.rename(aside)
    for side in _SIDE_FILES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + side).rename(aside.with_name(aside.name + side))
    return aside


def delete_file(path: Path) -> None:
    """Delete a file that is closed, what sqlite keeps beside it, and its lock, which the caller holds."""
    for name in (path.name, *(path.name + side for side in _SIDE_FILES), path.name + ".lock"):
        path.with_name(name).unlink(missing_ok=True)


def _make(path: Path, *, agent_id: str, asset_ids: Sequence[str], outbox_id: str) -> sqlite3.Connection:
    # Nothing that a crash left half made is ever found under the name.
    fresh = path.with_name(path.name + ".new")
    delete_file(fresh)
    with closing(_connect(fresh, mode="rwc")) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.executescript(_MAKE)
        connection.execute(
            "INSERT INTO agent VALUES (?, ?, ?, 0, 0, 0, NULL)", (agent_id, outbox_id, "\n".join(asset_ids))
        )
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute("COMMIT")
    # A log that another file left behind would be taken for this one's.
    for side in _SIDE_FILES:
        path.with_name(path.name + side).unlink(missing_ok=True)
    fresh.rename(path)
    _sync_folder(path.parent)
    return open_existing(path, agent_id=agent_id, asset_ids=asset_ids)


def _connect(path: Path, *, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None)


def _tune(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    # What is committed is on the disk: no power loss makes a sequence number be used twice.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_KEPT_LOG_BYTES}")


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the file of an older agent to the present format, its batches untouched, in one transaction.

    The batteries stay as they are until they are saved again: their form tells itself by its length.
    """
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] < _FORMAT:
        connection.execute(_MAKE_DISPATCHES)
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
    connection.execute(_MAKE_LOSSES)
    connection.execute("COMMIT")


def has_dispatches(connection: sqlite3.Connection) -> bool:
    """Whether the file names the dispatches in force; an older one that is only read does not."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0]) >= _FORMAT


def _check(
    connection: sqlite3.Connection,
    agent_id: str | None,
    asset_ids: Sequence[str] | None,
    *,
    thoroughly: bool,
) -> None:
    found = connection.execute("PRAGMA application_id").fetchone()[0]
    if found != _APPLICATION_ID:
        raise BrokenFileError(f"it is not an agent's: its application_id is {found}")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if not _FORMAT_BEFORE_DISPATCHES <= found <= _FORMAT:
        raise BrokenFileError(
            f"its format is {found}; this agent reads {_FORMAT_BEFORE_DISPATCHES}..{_FORMAT}"
        )
    if found >= _FORMAT:
        connection.execute("SELECT position, dispatch_id FROM dispatches LIMIT 0")
    if thoroughly:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise BrokenFileError(f"it is damaged: {found}")
    connection.execute("SELECT seq, crc, payload FROM batches LIMIT 0")
    rows = connection.execute(SELECT_AGENT).fetchall()
    if len(rows) != 1:
        raise BrokenFileError(f"it names {len(rows)} agents")
    its_agent_id, _, its_asset_ids, *_ = rows[0]
    if agent_id is not None and its_agent_id != agent_id:
        raise BrokenFileError(f"it is of the agent {its_agent_id}")
    if asset_ids is not None and its_asset_ids != "\n".join(asset_ids):
        raise BrokenFileError("it is about other assets, or the same in another order")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
