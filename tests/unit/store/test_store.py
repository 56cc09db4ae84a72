"""The store over a model database, in virtual time: exactly once, bounded, and back by itself."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.unit.store.model_database import ModelDatabase, dispatch_record
from tests.unit.store.model_dispatches import hand_over
from tests.unit.store.test_contract import ASSET, samples
from trioder.domain.telemetry import Samples
from trioder.process.wall_time import WallClock
from trioder.store.interface import StoreUnavailableError
from trioder.store.postgres.open import open_store_over
from trioder.store.postgres.store import PACE_S, PostgresStore
from trioder.store.records import NOTHING_COMMITTED, SessionRecord, Watermark


@asynccontextmanager
async def open_over(
    database: ModelDatabase, *, queue_bytes: int = 1_000_000, group_rows: int = 25_000
) -> AsyncIterator[PostgresStore]:
    wall = WallClock(1_800_000_000.0, trio.current_time())
    store = PostgresStore(database, wall=wall, queue_bytes=queue_bytes, group_rows=group_rows)
    async with open_store_over(store):
        yield store


def steady_database() -> ModelDatabase:
    return ModelDatabase(random.Random(1))


class Sender:
    """An agent's outbox and the headend's cursor in one: go-back-N over what the store reports."""

    def __init__(self, store: PostgresStore, outboxes: int) -> None:
        self.store = store
        self.next = dict.fromkeys((f"box-{number}" for number in range(outboxes)), 1)
        self.committed = dict.fromkeys(self.next, 0)
        self.held_back: set[str] = set()
        store.listen(self)

    def batches_committed(self, outbox_id: str, watermark: Watermark) -> None:
        assert watermark.batch_seq >= self.committed[outbox_id]
        assert watermark.ts_unix_ms == 1_800_000_000_000 + watermark.batch_seq
        self.committed[outbox_id] = watermark.batch_seq
        self.next[outbox_id] = max(self.next[outbox_id], watermark.batch_seq + 1)

    def capacity_available(self) -> None:
        self.held_back.clear()

    def send(self, outbox_id: str) -> None:
        seq = self.next[outbox_id]
        if outbox_id in self.held_back:
            return
        if self.store.submit(outbox_id, seq, samples(1_800_000_000_000 + seq)):
            self.next[outbox_id] = seq + 1
        else:
            self.held_back.add(outbox_id)


@pytest.mark.parametrize("seed", range(10))
async def test_every_batch_is_stored_exactly_once_whatever_the_writes_do(
    seed: int, autojump_clock: MockClock
) -> None:
    rng = random.Random(seed)
    database = ModelDatabase(rng, failure=0.3, delay_s=1.0)
    last = 60
    async with open_over(database, queue_bytes=100_000) as store:
        sender = Sender(store, outboxes=5)
        with trio.fail_after(3_000):
            while any(seq < last for seq in sender.committed.values()):
                outbox_id = rng.choice(list(sender.next))
                if sender.next[outbox_id] <= last:
                    sender.send(outbox_id)
                assert store.stats.queue_bytes <= 100_000
                await trio.sleep(rng.random() * 0.1)
    for outbox_id in sender.next:
        assert [row[1] for row in database.rows if row[0] == outbox_id] == list(range(1, last + 1))


async def test_while_the_database_is_unavailable_the_queue_fills_and_then_refuses(
    autojump_clock: MockClock,
) -> None:
    database = steady_database()
    async with open_over(database, queue_bytes=20_000) as store:
        sender = Sender(store, outboxes=2)
        database.away = "server closed the connection"
        for _ in range(100):
            sender.send("box-0")
            sender.send("box-1")
            await trio.sleep(1)
        assert (store.health, store.health_reason) == ("error", "server closed the connection")
        assert store.stats.queue_bytes <= 20_000
        assert sender.held_back == {"box-0", "box-1"}
        database.away = ""
        await trio.sleep(10)
        assert store.health == "ok"
        assert not sender.held_back
        assert store.stats.queue_rows == 0


async def test_samples_without_an_outbox_are_stored_once_and_leave_room_for_the_others(
    autojump_clock: MockClock,
) -> None:
    database = ModelDatabase(random.Random(3), failure=0.5)
    async with open_over(database, queue_bytes=20_000) as store:
        database.away = "away"
        for second in range(150):
            store.store_unsequenced(samples(second))
        dropped = store.stats.samples_dropped
        assert store.submit("box", 1, samples(1))
        database.away = ""
        await trio.sleep(60)
    assert 0 < dropped < 150
    assert len(database.rows) == 150 - dropped + 1


async def test_batches_close_together_are_one_transaction_and_committed_within_a_second(
    autojump_clock: MockClock,
) -> None:
    database = steady_database()
    async with open_over(database) as store:
        sender = Sender(store, outboxes=40)
        await trio.sleep(1)
        for outbox_id in sender.next:
            sender.send(outbox_id)
            await trio.sleep(PACE_S / 100)
        await trio.sleep(PACE_S)
        assert set(sender.committed.values()) == {1}
        assert len(database.groups) <= 2


async def test_a_database_too_slow_for_a_full_group_gets_on_with_smaller_ones(
    autojump_clock: MockClock,
) -> None:
    database = steady_database()
    database.in_time_rows = 1_500
    async with open_over(database, queue_bytes=100_000_000, group_rows=5_000) as store:
        database.away = "away"
        sender = Sender(store, outboxes=1)
        for _ in range(6_000):
            sender.send("box-0")
        database.away = ""
        with trio.fail_after(600):
            while sender.committed["box-0"] < 6_000:
                await trio.sleep(1)
        assert store.health == "ok"
    assert len(database.rows) == 6_000


async def test_only_the_batch_that_the_database_refuses_is_dropped_and_the_sequence_continues(
    autojump_clock: MockClock,
) -> None:
    database = steady_database()
    database.refuses = lambda batch: (batch.outbox_id, batch.batch_seq) == ("box-1", 3)
    async with open_over(database) as store:
        sender = Sender(store, outboxes=3)
        for _ in range(5):
            for outbox_id in sender.next:
                sender.send(outbox_id)
        await trio.sleep(5)
        assert set(sender.committed.values()) == {5}
        assert store.stats.batches_unwritable == 1
        assert store.health == "ok"
    assert len(database.rows) == 14
    assert ("box-1", 3) not in {row[:2] for row in database.rows}


async def test_sessions_and_dispatches_wait_for_the_database(autojump_clock: MockClock) -> None:
    database = steady_database()
    async with open_over(database) as store:
        database.away = "away"
        store.open_session(
            SessionRecord(session_id="s", agent_id="a", epoch=1, peer="x", asset_keys=(0,), connected_ms=1)
        )
        hand_over(store.record_dispatch, dispatch_record("d", "queued"))
        await trio.sleep(100)
        hand_over(store.record_dispatch, dispatch_record("d", "sent"))
        database.away = ""
        await trio.sleep(10)
        assert database.recorded["d"] == dispatch_record("d", "sent")
        assert "s" in database.sessions


async def test_what_waits_is_written_when_the_store_is_closed(autojump_clock: MockClock) -> None:
    database = steady_database()
    async with open_over(database) as store:
        for seq in range(1, 101):
            store.submit("box", seq, samples(seq))
        hand_over(store.record_dispatch, dispatch_record("d"))
    assert len(database.rows) == 100
    assert "d" in database.recorded
    assert not database.connected


async def test_closing_does_not_wait_for_an_unavailable_database(autojump_clock: MockClock) -> None:
    database = steady_database()
    async with open_over(database) as store:
        database.away = "away"
        store.submit("box", 1, samples(1))
        await trio.sleep(10)
        before = trio.current_time()
    assert trio.current_time() - before < 1


async def test_a_store_that_has_not_read_its_watermarks_delays_callers_only_briefly(
    autojump_clock: MockClock,
) -> None:
    database = steady_database()
    database.watermarks["box"] = Watermark(7, 70)
    database.away = "not there yet"
    async with open_over(database) as store:
        assert store.health == "error"
        with trio.fail_after(5):
            assert await store.watermark("box") == NOTHING_COMMITTED
        database.away = ""
        await trio.sleep(60)
        assert await store.watermark("box") == Watermark(7, 70)


async def test_watermarks_are_known_while_the_database_is_unavailable(autojump_clock: MockClock) -> None:
    database = steady_database()
    database.watermarks["box"] = Watermark(7, 70)
    async with open_over(database) as store:
        database.away = "away"
        await trio.sleep(10)
        with trio.fail_after(0.1):
            assert await store.watermark("box") == Watermark(7, 70)


async def test_a_refused_batch_advances_the_watermark_with_its_time(autojump_clock: MockClock) -> None:
    database = steady_database()
    database.refuses = lambda batch: batch.batch_seq == 2
    async with open_over(database) as store:
        for seq in (1, 2):
            store.submit("box", seq, samples(1_000 + seq))
        await store.wait_idle()
        assert store.stats.batches_unwritable == 1
        assert await store.watermark("box") == database.watermarks["box"] == Watermark(2, 1_002)


async def test_a_batch_that_is_committed_already_does_not_change_its_time(autojump_clock: MockClock) -> None:
    database = steady_database()
    database.watermarks["box"], database.watermarks["old"] = Watermark(7, 70), Watermark(7, None)
    async with open_over(database) as store:
        for outbox_id in ("box", "old"):
            store.submit(outbox_id, 7, samples(71))
        await store.wait_idle()
        assert await store.watermark("box") == Watermark(7, 70)
        assert await store.watermark("old") == Watermark(7, None)


async def test_an_idle_store_notices_that_its_database_is_down_and_up_again(
    autojump_clock: MockClock,
) -> None:
    database = steady_database()
    async with open_over(database) as store:
        database.away = "away"
        await trio.sleep(6)
        assert store.health == "error"
        with pytest.raises(StoreUnavailableError, match="away"):
            await store.history(ASSET, limit=1)
        database.away = ""
        await trio.sleep(6)
        assert store.health == "ok"
        assert store.health_reason == ""


async def test_a_database_that_connects_but_cannot_write_is_not_well(autojump_clock: MockClock) -> None:
    database = ModelDatabase(random.Random(1), failure=1.0)
    async with open_over(database) as store:
        store.submit("box", 1, samples(1))
        seen = set()
        for _ in range(100):
            await trio.sleep(0.5)
            seen.add(store.health)
        assert seen == {"error"}
        # Backed off: not a connection a turn.
        assert database.connects < 20


async def test_an_error_in_the_store_itself_is_survived(autojump_clock: MockClock) -> None:
    database = steady_database()

    def broken(batch: object) -> bool:
        raise RuntimeError("a bug")

    async with open_over(database) as store:
        working, database.refuses = database.refuses, broken
        store.submit("box", 1, samples(1))
        await trio.sleep(2)
        assert store.health == "error"
        database.refuses = working
        await trio.sleep(10)
        assert store.health == "ok"
    assert len(database.rows) == 1


async def test_the_store_owns_the_columns_submitted_to_it(autojump_clock: MockClock) -> None:
    database = steady_database()
    async with open_over(database) as store:
        column = [5.0]
        store.submit(
            "box",
            1,
            Samples(
                ts_unix_ms=1,
                source="agent",
                asset_keys=[0],
                soc_mwhr=column,
                current_mw=column,
                setpoint_mw=column,
                available_discharge_mw=column,
                available_charge_mw=column,
            ),
        )
        column[0] = 6.0
        await trio.sleep(1)
    assert database.rows == [("box", 1, 0, 5.0)]
