"""What an agent keeps on disk survives crashes, damage and full disks; nothing is ever used twice."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest

from tests.unit.agent.parts import newest_states
from trioder.agent.persistence.outbox import Outbox
from trioder.agent.persistence.sqlite_store import SqliteStateStore, open_state_store
from trioder.agent.persistence.state_file import StateFileInUseError, StateFileUnusableError, open_existing
from trioder.agent.persistence.state_store import InMemoryStateStore, SavedBattery

ASSETS = ("a", "b")
STATES = [
    SavedBattery(10.0, 1.5, 2.0, math.inf),
    # As it is read when it was saved at 5 ms.
    SavedBattery(20.0, -1.5, -2.0, 1_800_000_060.0, 3.0, "dispatch 1", 1_800_000_060.0 - 0.005),
]


def open_at(
    path: Path, *, assets: tuple[str, ...] = ASSETS, outbox_id: str = "box"
) -> AbstractContextManager[SqliteStateStore]:
    return open_state_store(path, agent_id="agent", asset_ids=assets, outbox_id=outbox_id)


def crashed_copy(path: Path, to: Path) -> Path:
    """The file as a power loss would leave it now, its writer still at work."""
    to.parent.mkdir(exist_ok=True)
    for side in ("", "-wal"):
        source = path.with_name(path.name + side)
        if source.exists():
            to.with_name(to.name + side).write_bytes(source.read_bytes())
    return to


def move_aside(path: Path) -> list[Path]:
    return [found for found in path.parent.glob("*.broken-*") if not found.name.endswith(("-wal", "-shm"))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents" / "agent.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStateStore]:
    with open_at(path) as store:
        yield store


def test_batches_and_batteries_are_restored_with_their_outbox(path: Path) -> None:
    with open_at(path) as store:
        store.batches.append(b"one")
        store.batches.append(b"two")
        store.save(STATES, now_ms=5)
    with open_at(path, outbox_id="another") as store:
        assert store.outbox_id == "box"
        assert store.batteries() == dict(zip(ASSETS, STATES, strict=True))
        batches = store.batches
        assert (batches.first_seq, batches.last_seq, batches.durable_seq, batches.size_bytes) == (1, 2, 2, 6)
        assert [batches.read(1), batches.read(2)] == [b"one", b"two"]


def test_what_was_saved_survives_a_crash_and_what_was_not_is_not_safe(
    path: Path, store: SqliteStateStore, tmp_path: Path
) -> None:
    store.batches.append(b"one")
    store.save(STATES, now_ms=5)
    store.batches.append(b"two")
    assert store.batches.durable_seq == 1
    with open_at(crashed_copy(path, tmp_path / "copy" / "agent.sqlite")) as survivor:
        assert (survivor.batches.first_seq, survivor.batches.last_seq) == (1, 1)
        assert survivor.batteries() == store.batteries() | dict(zip(ASSETS, STATES, strict=True))


def test_the_sequence_goes_on_after_everything_was_acknowledged(path: Path) -> None:
    with open_at(path) as store:
        store.batches.append(b"one")
        store.save(STATES, now_ms=5)
        store.batches.drop_first()
        store.save(STATES, now_ms=6)
    with open_at(path) as store:
        assert (store.batches.first_seq, store.batches.last_seq, store.batches.size_bytes) == (2, 1, 0)


def test_the_epoch_grows_even_if_the_clock_steps_back(path: Path) -> None:
    with open_at(path) as store:
        assert store.begin_boot(1000) == 1000
    with open_at(path) as store:
        assert store.begin_boot(400) == 1001
    in_ram = InMemoryStateStore("box", ASSETS)
    assert [in_ram.begin_boot(1000), in_ram.begin_boot(400)] == [1000, 1001]


def test_a_second_agent_on_the_same_file_is_refused(path: Path, store: SqliteStateStore) -> None:
    with pytest.raises(StateFileInUseError, match="in use by another agent"), open_at(path):
        pass


def test_the_file_is_free_again_after_its_agent(path: Path) -> None:
    for _ in range(2):
        with open_at(path) as store:
            store.save(STATES, now_ms=5)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "foreign", "newer format"])
def test_a_file_that_cannot_be_used_is_put_aside_and_a_new_one_made(path: Path, damage: str) -> None:
    with open_at(path) as store:
        for _ in range(40):
            store.batches.append(bytes(1000))
        store.save(STATES, now_ms=5)
    match damage:
        case "truncated":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "garbage":
            path.write_bytes(b"no database at all" * 500)
        case "empty":
            path.write_bytes(b"")
        case "foreign":
            path.unlink()
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("CREATE TABLE agent (x)")
                connection.commit()
        case _:
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA user_version = 99")
    with open_at(path, outbox_id="fresh") as store:
        assert (store.outbox_id, store.batches.last_seq, store.batteries()) == ("fresh", 0, {})
        store.save(STATES, now_ms=6)
        assert store.failures == 0
    assert len(move_aside(path)) == 1


def test_a_file_about_other_assets_is_put_aside_whole(path: Path) -> None:
    with open_at(path) as store:
        store.batches.append(b"one")
        store.save(STATES, now_ms=5)
    with open_at(path, assets=("b", "a"), outbox_id="fresh") as store:
        assert store.outbox_id == "fresh"
    [aside] = move_aside(path)
    with closing(open_existing(aside)) as connection:
        assert SqliteStateStore(connection).batches.read(1) == b"one"


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(StateFileUnusableError, match="cannot be used"),
        open_at(tmp_path / "file" / "agent.sqlite"),
    ):
        pass


def test_on_a_full_disk_the_batches_wait_in_memory_and_are_saved_once_there_is_room(path: Path) -> None:
    with open_at(path) as store:
        store.save(STATES, now_ms=5)
        connection = store._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        for _ in range(3):
            store.batches.append(bytes(20_000))
            store.save(STATES, now_ms=6)
        assert (store.failures, store.batches.durable_seq, store.batches.size_bytes) == (3, 0, 60_000)
        assert store.batches.read(2) == bytes(20_000)
        connection.execute("PRAGMA max_page_count = 1000000")
        store.save(STATES, now_ms=7)
        assert (store.failures, store.batches.durable_seq) == (3, 3)
    with open_at(path) as store:
        assert store.batches.last_seq == 3


def test_unsaved_batches_are_sent_early_but_not_in_their_turn(store: SqliteStateStore) -> None:
    outbox = Outbox(store.batches, max_bytes=1000)
    outbox.registered(0)
    outbox.append(b"one")
    early = outbox.take_next()
    assert early is not None
    assert (early.batch_seq, early.live_only) == (1, True)
    assert outbox.take_next() is None
    store.save(STATES, now_ms=5)
    sent = outbox.take_next()
    assert sent is not None
    assert (sent.batch_seq, sent.live_only) == (1, False)


def test_unsaved_batches_count_towards_the_bound(store: SqliteStateStore) -> None:
    outbox = Outbox(store.batches, max_bytes=30)
    for _ in range(5):
        outbox.append(bytes(10))
    store.save(STATES, now_ms=5)
    assert (outbox.dropped, store.batches.first_seq, store.batches.durable_seq) == (2, 3, 5)


def test_a_damaged_batch_is_passed_over_and_reported_as_a_gap(path: Path) -> None:
    with open_at(path) as store:
        for number in range(4):
            store.batches.append(b"%010d" % (number + 1))
        store.save(STATES, now_ms=5)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE batches SET payload = x'00' WHERE seq = 2")
        connection.commit()
    with open_at(path) as store:
        outbox = Outbox(store.batches, max_bytes=1000)
        outbox.registered(0)
        sent = [outbox.take_next() for _ in range(3)]
    assert [(out.batch_seq, out.gap_from_seq) for out in sent if out] == [(4, None), (1, None), (3, 2)]


def test_room_goes_back_to_the_file_system(path: Path, store: SqliteStateStore) -> None:
    for _ in range(2000):
        store.batches.append(bytes(4000))
    store.save(STATES, now_ms=5)
    for _ in range(2000):
        store.batches.drop_first()
    for _ in range(20):
        store.save(STATES, now_ms=6)
    assert store._connection.execute("PRAGMA page_count").fetchone()[0] * 4096 < 2 * 1024 * 1024


def test_the_newest_state_of_a_battery_counts(tmp_path: Path) -> None:
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    for path, soc_mwhr, saved_ms in ((old, 1.0, 10), (new, 2.0, 20)):
        with open_at(path) as store:
            store.save([SavedBattery(soc_mwhr, 0.0, 0.0, math.inf)] * 2, now_ms=saved_ms)
    missing = tmp_path / "missing.sqlite"
    newest = newest_states([new, missing, old], ["b", "c"])
    assert newest == {"b": (20, SavedBattery(2.0, 0.0, 0.0, math.inf))}
    with open_at(old) as store:
        store.adopt(newest)
        assert {name: state.soc_mwhr for name, state in store.batteries().items()} == {"a": 1.0, "b": 2.0}


def test_an_older_file_does_not_overwrite_newer_states(tmp_path: Path) -> None:
    with open_at(tmp_path / "own.sqlite") as store:
        store.save(STATES, now_ms=30)
    with open_at(tmp_path / "own.sqlite") as store:
        store.adopt({"a": (20, STATES[1])})
        assert store.batteries()["a"] == STATES[0]


def test_what_a_crashed_agent_left_can_be_read_by_others(
    path: Path, store: SqliteStateStore, tmp_path: Path
) -> None:
    store.save(STATES, now_ms=5)
    copy = crashed_copy(path, tmp_path / "copy" / "agent.sqlite")
    assert newest_states([copy], ASSETS)["a"] == (5, STATES[0])
