"""What the files of former agents say of their batteries. They are only read here, and emptied by `drain`."""

import sqlite3
from collections.abc import Collection, Iterable
from contextlib import closing
from pathlib import Path

import structlog

from trioder.agent.disk import read_batteries
from trioder.agent.disk_file import BrokenFileError, open_existing
from trioder.agent.memory import SavedBattery

log = structlog.stdlib.get_logger(__name__)


def newest_states(paths: Iterable[Path], asset_ids: Collection[str]) -> dict[str, tuple[int, SavedBattery]]:
    """Return the latest that any of the files says of each asset: when it was saved, and what.

    A file that is gone, or that cannot be read, says nothing.
    """
    wanted = frozenset(asset_ids)
    newest: dict[str, tuple[int, SavedBattery]] = {}
    for path in paths:
        try:
            saved_ms, batteries = _read(path)
        except (BrokenFileError, sqlite3.Error) as error:
            if path.exists():
                log.warning("file of a former agent cannot be read", path=str(path), reason=str(error))
            continue
        for asset_id in wanted & batteries.keys():
            if asset_id not in newest or newest[asset_id][0] < saved_ms:
                newest[asset_id] = saved_ms, batteries[asset_id]
    return newest


def _read(path: Path) -> tuple[int, dict[str, SavedBattery]]:
    with closing(open_existing(path, read_only=True)) as connection:
        return read_batteries(connection)
