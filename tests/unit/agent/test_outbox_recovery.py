"""Outboxes of retired agents are sent, and their files deleted; what cannot be sent stays."""

import math
import random
from functools import partial
from pathlib import Path

import trio
from trio.testing import MockClock

from tests.unit.agent.parts import START_UNIX_S, FakeHeadend, asset_id, make_payload
from trioder.agent.config import RecoveryConfig
from trioder.agent.outbox_recovery import recover_outboxes
from trioder.agent.persistence.sqlite_store import open_state_store
from trioder.agent.persistence.state_store import SavedBattery
from trioder.process.addresses import Endpoint
from trioder.process.wall_time import WallClock


def leave_behind(path: Path, *, batches: int) -> None:
    with open_state_store(path, agent_id=path.stem, asset_ids=[asset_id(0)], outbox_id=path.stem) as store:
        for seq in range(1, batches + 1):
            store.batches.append(make_payload(seq, seq))
        store.save([SavedBattery(1.0, 0.0, 0.0, math.inf)], now_ms=1)


def names_in(folder: Path) -> list[str]:
    return sorted(found.name for found in folder.iterdir())


async def recover(headend: FakeHeadend, *paths: Path) -> None:
    async with trio.open_nursery() as nursery:
        await recover_outboxes(
            RecoveryConfig(headend=Endpoint("headend", 50051), files=paths),
            dial_for=lambda _: partial(headend.dial, nursery),
            wall=WallClock(START_UNIX_S, trio.current_time()),
            rng=random.Random(7),
        )
        nursery.cancel_scope.cancel()


async def test_every_batch_is_handed_over_in_order_and_nothing_is_left(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    headend = FakeHeadend()
    leave_behind(tmp_path / "a.sqlite", batches=50)
    await recover(headend, tmp_path / "a.sqlite")
    [registration] = headend.registrations
    assert (registration.agent_id, registration.backlog_only, registration.asset_ids) == (
        "a",
        True,
        (asset_id(0),),
    )
    in_turn = [batch.batch_seq for batch in headend.batches if not batch.live_only]
    assert in_turn == list(range(1, 51))
    assert names_in(tmp_path) == []


async def test_a_file_without_a_backlog_is_deleted_without_a_headend(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    headend = FakeHeadend(refuses_dial=True)
    leave_behind(tmp_path / "a.sqlite", batches=0)
    await recover(headend, tmp_path / "a.sqlite", tmp_path / "gone.sqlite")
    assert names_in(tmp_path) == []
    assert headend.dialled_s == []


async def test_it_waits_for_the_headend_and_what_it_keeps(autojump_clock: MockClock, tmp_path: Path) -> None:
    headend = FakeHeadend(keeps=False)
    leave_behind(tmp_path / "a.sqlite", batches=3)
    with trio.move_on_after(600) as patience:
        await recover(headend, tmp_path / "a.sqlite")
    assert patience.cancelled_caught
    assert (tmp_path / "a.sqlite").exists()
    await recover(FakeHeadend(), tmp_path / "a.sqlite")
    assert names_in(tmp_path) == []


async def test_a_file_in_use_is_left_and_a_broken_one_put_aside(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    headend = FakeHeadend()
    used, broken = tmp_path / "used.sqlite", tmp_path / "broken.sqlite"
    leave_behind(used, batches=3)
    broken.write_bytes(b"rubbish" * 1000)
    with open_state_store(used, agent_id="used", asset_ids=[asset_id(0)], outbox_id="x") as store:
        await recover(headend, used, broken)
        assert store.batches.last_seq == 3
    left = [name.rpartition("-")[0] or name for name in names_in(tmp_path)]
    assert sorted(left) == ["broken.sqlite.broken", "broken.sqlite.lock", "used.sqlite", "used.sqlite.lock"]
    assert headend.batches == []
