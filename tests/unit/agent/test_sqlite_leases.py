"""The dispatches in force on disk: written only where they change, and files of older agents stay good."""

import math
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.agent.parts import newest_states
from tests.unit.agent.test_sqlite_store import ASSETS, crashed_copy, move_aside, open_at
from trioder.agent.persistence.sqlite_store import SqliteStateStore
from trioder.agent.persistence.state_store import SavedBattery

# As the first agents made it.
FORMAT_1 = """
    PRAGMA auto_vacuum = INCREMENTAL;
    CREATE TABLE agent (agent_id TEXT NOT NULL, outbox_id TEXT NOT NULL, asset_ids TEXT NOT NULL,
        epoch INTEGER NOT NULL, last_seq INTEGER NOT NULL, saved_ms INTEGER NOT NULL, batteries BLOB);
    CREATE TABLE batches (seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, payload BLOB NOT NULL);
    INSERT INTO batches VALUES (6, 2053932785, CAST('one' AS BLOB));
    INSERT INTO batches VALUES (7, 298486374, CAST('two' AS BLOB));
    PRAGMA application_id = 0x54724F42;
    PRAGMA user_version = 1;
    PRAGMA journal_mode = WAL;
"""
# Saved at 5 ms.
OLD_STATES = {
    "a": SavedBattery(10.0, 1.5, 2.0, math.inf),
    "b": SavedBattery(20.0, -1.5, -2.0, 1.8e9, lease_remaining_s=1.8e9 - 0.005),
}


def states(*dispatch_ids: str) -> list[SavedBattery]:
    return [SavedBattery(1.0, 0.0, 5.0, math.inf, 2.0, dispatch_id) for dispatch_id in dispatch_ids]


def dispatch_ids(store: SqliteStateStore) -> dict[str, str]:
    return {asset_id: battery.dispatch_id for asset_id, battery in store.batteries().items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents" / "agent.sqlite"


@pytest.fixture
def old_path(path: Path) -> Path:
    """A file of format 1, with two batches and both batteries."""
    path.parent.mkdir()
    blob = struct.pack("<8d", 10.0, 20.0, 1.5, -1.5, 2.0, -2.0, math.inf, 1.8e9)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FORMAT_1)
        row = ("agent", "box", "\n".join(ASSETS), 77, 7, 5, blob)
        connection.execute("INSERT INTO agent VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.commit()
    return path


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStateStore]:
    with open_at(path) as store:
        yield store


def test_dispatches_are_stored_and_removed(path: Path) -> None:
    for now_ms, ids in enumerate([("x", "y"), ("x", ""), ("", "z"), ("", "")]):
        with open_at(path) as store:
            store.save(states(*ids), now_ms=now_ms)
        with open_at(path) as store:
            assert dispatch_ids(store) == dict(zip(ASSETS, ids, strict=True))


def test_dispatches_survive_a_crash_with_the_save(
    path: Path, store: SqliteStateStore, tmp_path: Path
) -> None:
    store.save(states("x", "y"), now_ms=1)
    store.save(states("x", "z"), now_ms=2)
    with open_at(crashed_copy(path, tmp_path / "copy" / "agent.sqlite")) as survivor:
        assert survivor.batteries() == dict(zip(ASSETS, states("x", "z"), strict=True))


def test_only_dispatches_that_are_others_are_written(store: SqliteStateStore) -> None:
    statements: list[str] = []
    store.save(states("x", "y"), now_ms=1)
    store._connection.set_trace_callback(statements.append)
    store.save(states("x", "y"), now_ms=2)
    assert not [text for text in statements if "dispatches" in text]
    store.save(states("x", "z"), now_ms=3)
    assert [text for text in statements if "dispatches" in text] == [
        "INSERT OR REPLACE INTO dispatches VALUES (1, 'z')"
    ]


def test_a_dispatch_that_could_not_be_saved_goes_with_the_next_save(path: Path) -> None:
    with open_at(path) as store:
        store.save(states("", ""), now_ms=1)
        connection = store._connection
        connection.execute("PRAGMA query_only = 1")
        store.save(states("x", ""), now_ms=2)
        assert store.failures == 1
        connection.execute("PRAGMA query_only = 0")
        store.save(states("x", ""), now_ms=3)
    with open_at(path) as store:
        assert dispatch_ids(store) == {"a": "x", "b": ""}


def test_what_was_adopted_is_written_with_the_next_save(path: Path) -> None:
    with open_at(path) as store:
        store.adopt({"b": (9, states("theirs")[0])})
        assert dispatch_ids(store) == {"b": "theirs"}
        store.save(states("", "theirs"), now_ms=10)
    with open_at(path) as store:
        assert dispatch_ids(store) == {"a": "", "b": "theirs"}


def test_a_file_of_an_older_agent_goes_on_with_its_outbox_and_its_batteries(old_path: Path) -> None:
    with open_at(old_path, outbox_id="another") as store:
        assert store.outbox_id == "box"
        assert store.batteries() == OLD_STATES
        assert [store.batches.read(6), store.batches.read(7)] == [b"one", b"two"]
        assert store.begin_boot(1) == 78
    assert move_aside(old_path) == []


def test_a_migrated_file_is_saved_and_read_as_any_other(old_path: Path) -> None:
    with open_at(old_path) as store:
        store.batches.append(b"three")
        store.save(states("x", ""), now_ms=6)
    with open_at(old_path) as store:
        assert store.batteries() == dict(zip(ASSETS, states("x", ""), strict=True))
        assert (store.batches.first_seq, store.batches.last_seq) == (6, 8)


def test_a_crash_after_the_migration_and_before_a_save_loses_nothing(old_path: Path, tmp_path: Path) -> None:
    with open_at(old_path):
        copy = crashed_copy(old_path, tmp_path / "copy" / "agent.sqlite")
    with open_at(copy) as store:
        assert store.batteries() == OLD_STATES
        assert store.batches.read(7) == b"two"


def test_what_an_older_agent_left_can_be_read_without_being_touched(old_path: Path) -> None:
    newest = newest_states([old_path], ASSETS)
    assert newest == {name: (5, battery) for name, battery in OLD_STATES.items()}
    with closing(sqlite3.connect(old_path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


@pytest.mark.parametrize("saved_ms", [1_800_000_000_000, 5_000])
def test_the_rest_of_a_lease_is_known_whatever_the_clock_was(path: Path, saved_ms: int) -> None:
    lease = SavedBattery(1.0, 0.0, 5.0, saved_ms / 1000 + 27.5, 2.0, "x")
    with open_at(path) as store:
        store.save([lease, states("")[0]], now_ms=saved_ms)
    with open_at(path) as store:
        assert store.batteries()["a"].lease_remaining_s == pytest.approx(27.5)
        assert store.batteries()["b"].lease_remaining_s == math.inf
    assert newest_states([path], ["a"])["a"][1].lease_remaining_s == pytest.approx(27.5)


def test_what_others_left_is_taken_over_with_its_dispatches(path: Path) -> None:
    with open_at(path) as store:
        store.save(states("x", ""), now_ms=5)
    found = {name: battery.dispatch_id for name, (_, battery) in newest_states([path], ["a"]).items()}
    assert found == {"a": "x"}


def test_batteries_of_a_length_that_fits_no_format_start_afresh(path: Path) -> None:
    with open_at(path) as store:
        store.save(states("x", ""), now_ms=5)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE agent SET batteries = zeroblob(48)")
        connection.commit()
    with open_at(path) as store:
        assert store.batteries() == {}
