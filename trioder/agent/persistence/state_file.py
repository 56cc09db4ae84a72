"""An agent's state file, one SQLite database: locked, opened, checked, migrated, or moved aside.

`trioder.agent.persistence.sqlite_store` reads and writes its contents.
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
# Has no table of dispatches, and batteries of 4 columns, without the reversion.
_FORMAT_BEFORE_DISPATCHES = 1
_BUSY_S = 5.0
SELECT_AGENT = "SELECT agent_id, outbox_id, asset_ids, epoch, last_seq, saved_ms, batteries FROM agent"
_WAL_SIZE_LIMIT = 4 * 1024 * 1024
_SIDE_FILES = ("-wal", "-shm")
_CREATE_DISPATCHES = """
    CREATE TABLE dispatches (
        position INTEGER PRIMARY KEY,  -- of the battery
        dispatch_id TEXT NOT NULL  -- whose setpoint is in force; batteries without one are not here
    )
"""
# Ignored by older agents, so that it needs no format of its own.
_CREATE_LOSSES = """
    CREATE TABLE IF NOT EXISTS losses (
        first_seq INTEGER PRIMARY KEY,  -- of batches that were dropped unacknowledged
        last_seq INTEGER NOT NULL
    )
"""
_CREATE = f"""
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
    {_CREATE_DISPATCHES};
    {_CREATE_LOSSES};
"""


class StateFileInUseError(Exception):
    """Another process has locked the file; the text names it."""


class StateFileUnusableError(Exception):
    """The file can be neither used nor moved aside; the text gives the reason."""


class StateFileInvalidError(Exception):
    """The file's contents cannot be used; the text gives the reason."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the file at `path`, which need not exist; its folder is created.

    The lock is `flock` on a separate file: the kernel releases it with the process. (On the database itself,
    closing any other descriptor would release SQLite's own locks.)

    Raises:
        StateFileInUseError: another process holds it.
        StateFileUnusableError: the folder or the lock cannot be created.
    """
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _lock(lock_path)
    except BlockingIOError:
        message = f"{path} is in use by another agent; two must not share an outbox"
        raise StateFileInUseError(message) from None
    except OSError as error:
        raise StateFileUnusableError(f"{lock_path} cannot be used: {error.strerror}") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder may have removed the file before releasing it.
            with suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def open_file(path: Path, *, agent_id: str, asset_ids: Sequence[str], outbox_id: str) -> sqlite3.Connection:
    """Open the file of an agent; create it if missing, and move it aside if its contents cannot be used.

    Args:
        path: locked by the caller.
        agent_id: its required owner.
        asset_ids: its required assets, in this order.
        outbox_id: for a new file.

    Raises:
        StateFileUnusableError: it cannot be opened, created or moved aside.
    """
    try:
        if path.exists():
            try:
                return open_existing(path, agent_id=agent_id, asset_ids=asset_ids)
            except StateFileInvalidError as error:
                aside = move_aside(path)
                log.warning(
                    "the agent's file cannot be used; it is put aside, and a new one made",
                    agent_id=agent_id,
                    path=str(path),
                    aside=str(aside),
                    reason=str(error),
                )
        return _create(path, agent_id=agent_id, asset_ids=asset_ids, outbox_id=outbox_id)
    except (OSError, sqlite3.Error) as error:
        raise StateFileUnusableError(f"{path} cannot be used: {error}") from error


def open_existing(
    path: Path,
    *,
    agent_id: str | None = None,
    asset_ids: Sequence[str] | None = None,
    read_only: bool = False,
) -> sqlite3.Connection:
    """Open and check an existing file; None accepts any owner and any assets.

    Raises:
        StateFileInvalidError: it is damaged, or of another program, format, owner or assets.
        sqlite3.Error: it could not be read at all.
    """
    connection = _connect(path, mode="ro" if read_only else "rw")
    try:
        # The full check takes a quarter of a second for 256 MB.
        _check(connection, agent_id, asset_ids, thoroughly=not read_only)
        if not read_only:
            _tune(connection)
            _migrate(connection)
    except sqlite3.Error as error:
        connection.close()
        if is_damage(error):
            raise StateFileInvalidError(str(error)) from None
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error means a damaged file, and not a failing disk or system."""
    # An error without a code is the sqlite3 module's own: a value of the wrong type.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}


def move_aside(path: Path) -> Path:
    """Rename a file together with SQLite's side files; return its new path."""
    aside = path.with_name(f"{path.name}.broken-{time.time_ns() // 1_000_000}")
    path.rename(aside)
    for side in _SIDE_FILES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + side).rename(aside.with_name(aside.name + side))
    return aside


def delete_file(path: Path) -> None:
    """Delete a closed file, SQLite's side files, and the lock, which the caller holds."""
    for name in (path.name, *(path.name + side for side in _SIDE_FILES), path.name + ".lock"):
        path.with_name(name).unlink(missing_ok=True)


def _create(path: Path, *, agent_id: str, asset_ids: Sequence[str], outbox_id: str) -> sqlite3.Connection:
    # Renamed once complete, so that a crash leaves no partial file under this name.
    fresh = path.with_name(path.name + ".new")
    delete_file(fresh)
    with closing(_connect(fresh, mode="rwc")) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.executescript(_CREATE)
        connection.execute(
            "INSERT INTO agent VALUES (?, ?, ?, 0, 0, 0, NULL)", (agent_id, outbox_id, "\n".join(asset_ids))
        )
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute("COMMIT")
    # SQLite would apply another file's leftover log to this one.
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
    # Each commit is synced, so that no sequence number is used twice after a power loss.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_SIZE_LIMIT}")


def _migrate(connection: sqlite3.Connection) -> None:
    """Migrate the file of an older agent, in one transaction that does not touch its batches.

    The batteries stay as they are until the next save: their format is recognized by the length.
    """
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] < _FORMAT:
        connection.execute(_CREATE_DISPATCHES)
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
    connection.execute(_CREATE_LOSSES)
    connection.execute("COMMIT")


def has_dispatches(connection: sqlite3.Connection) -> bool:
    """Whether the file has the dispatches in force; one of format 1 that is only read has not."""
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
        raise StateFileInvalidError(f"it is not an agent's state: its application_id is {found}")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if not _FORMAT_BEFORE_DISPATCHES <= found <= _FORMAT:
        raise StateFileInvalidError(
            f"its format is {found}; this agent reads {_FORMAT_BEFORE_DISPATCHES}..{_FORMAT}"
        )
    if found >= _FORMAT:
        connection.execute("SELECT position, dispatch_id FROM dispatches LIMIT 0")
    if thoroughly:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StateFileInvalidError(f"it is damaged: {found}")
    connection.execute("SELECT seq, crc, payload FROM batches LIMIT 0")
    rows = connection.execute(SELECT_AGENT).fetchall()
    if len(rows) != 1:
        raise StateFileInvalidError(f"it has {len(rows)} agents")
    its_agent_id, _, its_asset_ids, *_ = rows[0]
    if agent_id is not None and its_agent_id != agent_id:
        raise StateFileInvalidError(f"it belongs to agent {its_agent_id}")
    if asset_ids is not None and its_asset_ids != "\n".join(asset_ids):
        raise StateFileInvalidError("it has other assets, or the same in another order")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
