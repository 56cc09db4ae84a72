"""A new cut of the fleet opens each file of a retired agent a fixed number of times, whatever its size."""

import math
import random
import sqlite3
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.unit.agent.parts import START_UNIX_S, FakeHeadend, asset_id
from trioder.agent.config import RecoveryConfig
from trioder.agent.outbox_recovery import recover_outboxes
from trioder.agent.persistence.retired_state import gather_states, read_states
from trioder.agent.persistence.sqlite_store import open_state_store
from trioder.agent.persistence.state_file import StateFileUnusableError
from trioder.agent.persistence.state_store import SavedBattery
from trioder.process.addresses import Endpoint
from trioder.process.agent_files import agent_file, gathered_states_file, retired_files
from trioder.process.wall_time import WallClock


def leave_behind(path: Path, *, assets: range, saved_ms: int = 1) -> None:
    ids = [asset_id(number) for number in assets]
    with open_state_store(path, agent_id=path.stem, asset_ids=ids, outbox_id=path.stem) as store:
        store.save([battery(number) for number in assets], now_ms=saved_ms)


def battery(number: int) -> SavedBattery:
    return SavedBattery(float(number), 0.0, 1.0, math.inf, 2.0, f"d-{number}")


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each database was opened, by its name."""
    counts: Counter[str] = Counter()
    connect = sqlite3.connect

    def counted(database: str, **options: object) -> sqlite3.Connection:
        counts[database.rpartition("/")[2].partition("?")[0]] += 1
        return connect(database, **options)  # type: ignore[call-overload]  # handed on

    monkeypatch.setattr(sqlite3, "connect", counted)
    return counts


@pytest.mark.parametrize(("before", "after"), [(4, 24), (24, 4), (24, 24)])
async def test_opens_grow_with_files_plus_agents(
    before: int, after: int, autojump_clock: MockClock, tmp_path: Path, opens: Counter[str]
) -> None:
    assets = 96
    for number in range(before):
        size = assets // before
        leave_behind(agent_file(tmp_path, f"old-{number}"), assets=range(number * size, number * size + size))
    files = retired_files(tmp_path, [f"new-{number}" for number in range(after)])
    assert len(files) == before
    states = gathered_states_file(tmp_path)
    opens.clear()
    async with trio.open_nursery() as nursery:
        await recover_outboxes(
            RecoveryConfig(headend=Endpoint("h", 1), files=files, former_states=states),
            dial_for=lambda _: partial(FakeHeadend().dial, nursery),
            wall=WallClock(START_UNIX_S, trio.current_time()),
            rng=random.Random(7),
        )
        nursery.cancel_scope.cancel()
    for number in range(after):
        size = assets // after
        ids = [asset_id(key) for key in range(number * size, number * size + size)]
        path = agent_file(tmp_path, f"new-{number}")
        with open_state_store(path, agent_id=f"new-{number}", asset_ids=ids, outbox_id="x") as store:
            store.adopt(read_states(states, ids))
            assert store.batteries() == {
                asset_id(key): battery(key) for key in range(number * size, number * size + size)
            }
    assert {opens[path.name] for path in files} == {2}
    assert opens[states.name] == 1 + after
    # A new file is made under another name, and then opened: nobody opens another agent's.
    assert sum(opens.values()) == 2 * before + 1 + 3 * after
    # Neither is taken for a file of a retired agent later.
    assert retired_files(tmp_path, [f"new-{number}" for number in range(after)]) == ()


def test_the_newest_state_counts_whatever_the_order_and_however_often(tmp_path: Path) -> None:
    old, new, states = tmp_path / "old.sqlite", tmp_path / "new.sqlite", tmp_path / "states"
    leave_behind(old, assets=range(3), saved_ms=10)
    with open_state_store(new, agent_id="new", asset_ids=[asset_id(1)], outbox_id="n") as store:
        store.save([battery(7)], now_ms=20)
    expected = {asset_id(0): (10, battery(0)), asset_id(1): (20, battery(7))}
    for files in ([old, new], [new, old], [old]):
        gather_states(states, files)
        assert read_states(states, [asset_id(0), asset_id(1), "unknown"]) == expected


def test_a_damaged_or_missing_file_is_skipped(tmp_path: Path) -> None:
    good, broken, states = tmp_path / "good.sqlite", tmp_path / "broken.sqlite", tmp_path / "states"
    leave_behind(good, assets=range(1))
    broken.write_bytes(b"rubbish" * 1000)
    gather_states(states, [broken, tmp_path / "gone.sqlite", good])
    assert read_states(states, [asset_id(0)]) == {asset_id(0): (1, battery(0))}
    assert broken.exists()


def test_damaged_states_are_set_aside_and_rebuilt(tmp_path: Path) -> None:
    good, states = tmp_path / "good.sqlite", tmp_path / "states"
    leave_behind(good, assets=range(1))
    states.write_bytes(b"rubbish" * 1000)
    assert read_states(states, [asset_id(0)]) == {}
    gather_states(states, [good])
    assert read_states(states, [asset_id(0)]) == {asset_id(0): (1, battery(0))}
    assert len(list(tmp_path.glob("states.broken-*"))) == 1


async def test_no_file_is_touched_when_the_states_cannot_be_gathered(tmp_path: Path) -> None:
    good = tmp_path / "good.sqlite"
    leave_behind(good, assets=range(1))
    (tmp_path / "not-a-folder").write_text("")
    config = RecoveryConfig(
        headend=Endpoint("h", 1), files=(good,), former_states=tmp_path / "not-a-folder/states"
    )
    with pytest.raises(StateFileUnusableError, match="cannot be written"):
        await recover_outboxes(
            config,
            dial_for=lambda _: partial(FakeHeadend().dial, None),
            wall=WallClock(START_UNIX_S, trio.current_time()),
            rng=random.Random(7),
        )
    assert good.exists()
