"""The battery states of retired agents, collected from their files into one, by asset.

After a change of the shards each file is read once, by one process, and each new agent reads its own rows:
the cost grows with files plus agents, not with their product.
`trioder.agent.outbox_recovery` handles the outboxes.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable
from contextlib import closing
from pathlib import Path

import structlog

from trioder.agent.persistence.sqlite_store import read_batteries
from trioder.agent.persistence.state_file import (
    StateFileInvalidError,
    StateFileUnusableError,
    is_damage,
    move_aside,
    open_existing,
)
from trioder.agent.persistence.state_store import SavedBattery

log = structlog.stdlib.get_logger(__name__)

_BUSY_S = 5.0
_APPLICATION_ID = 0x54725253
_CREATE = f"""
    CREATE TABLE IF NOT EXISTS states (
        asset_id TEXT PRIMARY KEY,
        saved_ms INTEGER NOT NULL,
        battery TEXT NOT NULL  -- the fields of SavedBattery, a JSON list
    ) WITHOUT ROWID;
    PRAGMA application_id = {_APPLICATION_ID};
    PRAGMA synchronous = FULL;
"""
_MERGE = """
    INSERT INTO states VALUES (?, ?, ?) ON CONFLICT (asset_id)
    DO UPDATE SET saved_ms = excluded.saved_ms, battery = excluded.battery WHERE excluded.saved_ms > saved_ms
"""
_SELECT = "SELECT saved_ms, battery FROM states WHERE asset_id = ?"


def gather_states(path: Path, files: Iterable[Path]) -> None:
    """Write each asset's latest state in any of the files into the file at `path`, in one transaction.

    A newer state that is already there stays. Files that are missing or cannot be read are skipped.

    Raises:
        StateFileUnusableError: the file at `path` cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _gather(path, files)
        except sqlite3.Error as error:
            if not (is_damage(error) and path.exists()):
                raise
            aside = move_aside(path)
            log.warning(
                "gathered states are damaged; they are put aside", aside=str(aside), reason=str(error)
            )
            _gather(path, files)
    except (OSError, sqlite3.Error) as error:
        raise StateFileUnusableError(f"{path} cannot be written: {error}") from error


def read_states(path: Path, asset_ids: Collection[str]) -> dict[str, tuple[int, SavedBattery]]:
    """Return the states that `gather_states` found for these assets, with the time of the save.

    Empty if the file is missing or cannot be read.
    """
    if not path.exists():
        return {}
    try:
        with closing(_connect(path, mode="ro")) as connection:
            rows = ((asset_id, connection.execute(_SELECT, (asset_id,)).fetchone()) for asset_id in asset_ids)
            return {
                asset_id: (row[0], SavedBattery(*json.loads(row[1])))
                for asset_id, row in rows
                if row is not None
            }
    except (sqlite3.Error, ValueError, TypeError) as error:
        log.warning("gathered states cannot be read", path=str(path), reason=str(error))
        return {}


def _gather(path: Path, files: Iterable[Path]) -> None:
    with closing(_connect(path, mode="rwc")) as connection:
        connection.executescript(_CREATE)
        connection.execute("BEGIN IMMEDIATE")
        for file in files:
            try:
                saved_ms, batteries = _read(file)
            except (StateFileInvalidError, sqlite3.Error) as error:
                if file.exists():
                    log.warning("file of a retired agent cannot be read", path=str(file), reason=str(error))
                continue
            connection.executemany(
                _MERGE,
                ((asset_id, saved_ms, json.dumps(battery)) for asset_id, battery in batteries.items()),
            )
        connection.execute("COMMIT")


def _read(file: Path) -> tuple[int, dict[str, SavedBattery]]:
    with closing(open_existing(file, read_only=True)) as connection:
        return read_batteries(connection)


def _connect(path: Path, *, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None)
