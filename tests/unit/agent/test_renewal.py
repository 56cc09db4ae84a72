"""An agent whose state was set back to an older copy continues in a new outbox, and says so."""

import random
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.unit.agent.parts import START_UNIX_S, FakeHeadend, asset_id, make_config, make_payload
from trioder.agent.persistence.outbox import Outbox
from trioder.agent.persistence.sqlite_store import open_state_store
from trioder.agent.persistence.state_file import open_existing
from trioder.agent.persistence.state_store import InMemoryBatchLog, InMemoryStateStore, Losses, StateStore
from trioder.agent.service import RunningAgent, run_agent
from trioder.process.wall_time import WallClock

ASSETS = [asset_id(number) for number in range(2)]


def fill(batches: InMemoryBatchLog, count: int) -> None:
    for seq in range(1, count + 1):
        batches.append(make_payload(seq, 1000 * seq))


async def boot(nursery: trio.Nursery, headend: FakeHeadend, store: StateStore) -> RunningAgent:
    return await nursery.start(
        partial(
            run_agent,
            make_config(),
            dial=partial(headend.dial, nursery),
            wall=WallClock(START_UNIX_S, trio.current_time()),
            rng=random.Random(7),
            report=lambda _: None,
            store=store,
        )
    )


@pytest.mark.parametrize(
    ("committed_seq", "ts_unix_ms", "set_back"),
    [
        (0, None, False),
        (5, None, False),
        (5, 5000, False),  # what it has, not acknowledged yet
        (3, 3000, False),
        (3, 3001, True),  # the same number, another batch
        (5, 0, True),
        (6, None, True),
        (6, 6000, True),
        (2**63, None, True),
    ],
)
def test_a_copy_is_recognised(committed_seq: int, ts_unix_ms: int | None, set_back: bool) -> None:
    batches = InMemoryBatchLog()
    fill(batches, 5)
    assert Outbox(batches, max_bytes=10_000).is_set_back(committed_seq, ts_unix_ms) is set_back


def test_what_is_acknowledged_and_no_longer_kept_is_not_compared() -> None:
    batches = InMemoryBatchLog()
    fill(batches, 5)
    outbox = Outbox(batches, max_bytes=10_000)
    outbox.registered(4)
    assert not outbox.is_set_back(4, 1)
    outbox.registered(5)
    assert not outbox.is_set_back(5, 1)


def test_only_what_this_process_made_goes_on() -> None:
    batches = InMemoryBatchLog()
    fill(batches, 3)
    outbox = Outbox(batches, max_bytes=10_000)
    outbox.append(make_payload(4, 4000))
    outbox.append(make_payload(5, 5000))
    assert outbox.restart() == 2
    outbox.registered(0)
    sent = []
    while (outgoing := outbox.take_next()) is not None:
        sent.append((outgoing.batch_seq, outgoing.gap_from_seq, outgoing.lost_batches, outgoing.live_only))
    assert sent == [(5, None, 0, True), (4, 1, 0, False), (5, None, 0, False)]


async def test_the_agent_registers_a_new_outbox_that_names_the_old_one_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    store = InMemoryStateStore("box", ASSETS)
    fill(store.batches, 3)
    headend = FakeHeadend(committed_seq_of={"box": 40})
    agent = await boot(nursery, headend, store)
    await trio.sleep(30.0)
    first, second = headend.registrations
    assert (first.outbox_id, first.replaces_outbox_id) == ("box", "")
    assert second.replaces_outbox_id == "box"
    assert second.outbox_id == store.outbox_id != "box"
    assert [event.event_type for event in headend.events] == ["STATE_SET_BACK"]
    in_turn = [batch for batch in headend.batches if not batch.live_only]
    assert [batch.batch_seq for batch in in_turn] == list(range(4, 4 + len(in_turn)))
    assert [batch.lost_batches for batch in in_turn[:2]] == [0, None]
    assert sum(len(batch.asset_index) for batch in in_turn) == agent.pool.rows_made
    headend.cut()
    await trio.sleep(10.0)
    assert headend.registrations[-1].replaces_outbox_id == ""
    assert len(headend.events) == 1


async def test_a_new_outbox_survives_a_crash(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path
) -> None:
    path = tmp_path / "agent.sqlite"
    headend = FakeHeadend(committed_seq_of={"box": 40}, keeps=False)
    with open_state_store(path, agent_id="agent-1", asset_ids=ASSETS, outbox_id="box") as store:
        agent = await boot(nursery, headend, store)
        await trio.sleep(10.0)
        renewed, newest = store.outbox_id, store.batches.last_seq
        assert renewed != "box"
        assert agent.outbox.batches == newest
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(1.0)
    with open_state_store(path, agent_id="agent-1", asset_ids=ASSETS, outbox_id="another") as store:
        assert (store.outbox_id, store.batches.first_seq, store.batches.last_seq) == (renewed, 1, newest)


def test_batches_dropped_unacknowledged_are_reported_as_lost_and_others_are_not() -> None:
    batches = InMemoryBatchLog()
    outbox = Outbox(batches, max_bytes=40)
    outbox.registered(0)
    for seq in range(1, 3):
        outbox.append(b"%010d" % seq)
        assert outbox.take_next() is not None
    outbox.acknowledged(2)
    outbox.disconnected()
    for seq in range(3, 10):
        outbox.append(b"%010d" % seq)
    assert outbox.dropped == 3
    # A headend without a record of the outbox: 1 and 2 were acknowledged, 3 to 5 are lost.
    outbox.registered(0)
    outgoing = next(out for out in iter(outbox.take_next, None) if not out.live_only)
    assert (outgoing.batch_seq, outgoing.gap_from_seq, outgoing.lost_batches) == (6, 1, 3)
    outbox.acknowledged(6)
    assert batches.losses.ranges == ()


def test_losses_are_on_disk_until_the_headend_is_past_them(tmp_path: Path) -> None:
    path = tmp_path / "agent.sqlite"
    with open_state_store(path, agent_id="a", asset_ids=ASSETS, outbox_id="box") as store:
        outbox = Outbox(store.batches, max_bytes=20)
        for _ in range(5):
            outbox.append(b"0123456789")
        store.renew_outbox("box")  # saves
    with open_state_store(path, agent_id="a", asset_ids=ASSETS, outbox_id="box") as store:
        assert store.batches.losses.ranges == ((1, 3),)
        outbox = Outbox(store.batches, max_bytes=20)
        outbox.registered(0)
        first = next(out for out in iter(outbox.take_next, None) if not out.live_only)
        assert (first.gap_from_seq, first.lost_batches) == (1, 3)
        outbox.acknowledged(4)
        store.renew_outbox("box")
    with open_state_store(path, agent_id="a", asset_ids=ASSETS, outbox_id="box") as store:
        assert store.batches.losses.ranges == ()


def test_a_file_without_losses_is_that_of_an_older_agent_and_is_used(tmp_path: Path) -> None:
    path = tmp_path / "agent.sqlite"
    with open_state_store(path, agent_id="a", asset_ids=ASSETS, outbox_id="box") as store:
        store.batches.append(b"one")
        store.renew_outbox("box")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE losses")
    with closing(open_existing(path, read_only=True)):
        pass
    with open_state_store(path, agent_id="a", asset_ids=ASSETS, outbox_id="another") as store:
        assert (store.outbox_id, store.batches.last_seq) == ("box", 1)
        assert store.batches.losses.ranges == ()


def test_ranges_of_losses() -> None:
    losses = Losses()
    for seq in (3, 4, 4, 5, 9, 7, 8):
        losses.add(seq)
    assert losses.count(1, 100) == 6
    assert losses.count(4, 7) == 3
    assert losses.count(6, 6) == 0
    before = Losses(losses.ranges)
    losses.forget(4)
    assert losses.count(1, 100) == 4
    losses.forget(100)
    assert losses.ranges == ()
    assert before.count(1, 100) == 6
