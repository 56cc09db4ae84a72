"""Telemetry into the store: exactly once and in order, whatever gets lost; the latest value at once."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.headend.parts import START_UNIX_S, StillWall, make_parts, make_session
from tests.unit.headend.stores import SlowStore
from trioder.gateway.downlink_queue import PendingDownlink
from trioder.gateway.sessions import Session
from trioder.store.records import NOTHING_COMMITTED, Watermark
from trioder.wire.records import Batch

NOW = int(START_UNIX_S * 1000)
BOX = "box"


def batch(
    seq: int,
    *,
    gap_from: int | None = None,
    lost: int | None = None,
    live_only: bool = False,
    soc: float = 20.0,
) -> Batch:
    return Batch(
        batch_seq=seq,
        ts_unix_ms=NOW + seq,
        gap_from_seq=gap_from,
        lost_batches=lost,
        live_only=live_only,
        asset_index=[0],
        soc_mwhr=[soc],
        current_mw=[0.0],
        setpoint_mw=[0.0],
        available_discharge_mw=[0.0],
        available_charge_mw=[0.0],
    )


def pending_of(session: Session) -> PendingDownlink:
    return session.downlink._take_nowait()


class Link:
    """An agent's session, the headend that receives its batches, and a store of `room` batches."""

    def __init__(self, room: int) -> None:
        self.store = SlowStore(room)
        self.parts = make_parts(assets=1, store=self.store, wall=StillWall())
        self.ingest, self.counters = self.parts.ingest, self.parts.counters
        self.session = make_session("a", 0, outbox_id=BOX)

    async def open_session(self) -> Watermark:
        return await self.ingest.session_opened(self.session)

    def receive(self, *batches: Batch) -> None:
        for one in batches:
            self.ingest.receive_batch(self.session, one)

    def take_pending(self) -> PendingDownlink:
        return pending_of(self.session)

    @property
    def soc_mwhr(self) -> float:
        state = self.parts.latest.state(0)
        assert state is not None
        return state.soc_mwhr


async def open_link(*, room: int = 1_000_000, committed: Sequence[int] = ()) -> Link:
    link = Link(room)
    link.store.rows[BOX] = list(committed)
    await link.open_session()
    return link


@pytest.fixture
async def link() -> Link:
    return await open_link()


async def test_batches_in_sequence_are_stored_and_acknowledged_once_committed(link: Link) -> None:
    link.receive(batch(1), batch(2), batch(3))
    assert link.take_pending().committed_seq is None
    link.store.commit(2)
    assert link.take_pending().committed_seq == 2
    assert link.counters.batches_taken == 3


async def test_a_repeated_batch_is_dropped_and_acknowledged_again(link: Link) -> None:
    link.receive(batch(1))
    link.store.commit()
    link.take_pending()
    link.receive(batch(1))
    link.store.commit()
    assert link.store.rows[BOX] == [1]
    assert link.take_pending().committed_seq == 1
    assert link.counters.batches_repeated == 1


async def test_a_session_gets_the_time_of_exactly_the_batch_that_is_committed(link: Link) -> None:
    link.receive(batch(1), batch(2), batch(3))
    link.store.commit(2)
    # 3 is with the store: the cursor is kept, the store's watermark not read.
    assert await link.open_session() == Watermark(2, NOW + 2)
    link.ingest.session_closed(link.session)
    link.store.commit()
    assert await link.open_session() == Watermark(3, NOW + 3)


async def test_a_repeated_batch_of_another_time_changes_nothing(link: Link) -> None:
    link.receive(batch(1))
    link.store.commit()
    link.receive(replace(batch(1), ts_unix_ms=NOW + 77))
    link.ingest.batches_committed(BOX, Watermark(1, NOW + 77))
    link.ingest.batches_committed(BOX, NOTHING_COMMITTED)
    assert await link.open_session() == Watermark(1, NOW + 1)


async def test_a_time_that_is_not_on_record_stays_unknown_until_the_next_commit() -> None:
    link = await open_link(committed=[7])
    link.receive(batch(7))
    assert await link.open_session() == Watermark(7, None)
    link.receive(batch(8))
    link.store.commit()
    assert await link.open_session() == Watermark(8, NOW + 8)


async def test_after_a_gap_it_is_the_time_of_the_last_committed_batch(link: Link) -> None:
    link.receive(batch(1), batch(5, gap_from=2))
    link.store.commit()
    link.receive(batch(6))
    assert await link.open_session() == Watermark(5, NOW + 5)


async def test_out_of_sequence_updates_the_latest_state_but_is_not_stored_and_requested_once(
    link: Link,
) -> None:
    link.receive(batch(1), batch(3, soc=3.0), batch(4, soc=4.0))
    assert link.take_pending().replay_from_seq == 2
    assert link.counters.replays_requested == 1
    assert link.store.taken == [(BOX, 1)]
    assert link.soc_mwhr == 4.0


async def test_each_gap_is_requested(link: Link) -> None:
    link.receive(batch(2))
    assert link.take_pending().replay_from_seq == 1
    link.receive(batch(1), batch(3))
    assert link.take_pending().replay_from_seq == 2


async def test_what_the_agent_has_dropped_is_skipped_and_counted(link: Link) -> None:
    link.receive(batch(1), batch(5, gap_from=2), batch(6))
    link.store.commit()
    assert link.store.rows[BOX] == [1, 5, 6]
    assert link.counters.batches_lost == 3


async def test_what_was_lost_before_the_first_session_is_what_the_agent_reports() -> None:
    for reported, lost in ((3, 3), (0, 0), (None, 0)):
        link = await open_link()
        link.receive(batch(5, gap_from=1, lost=reported), batch(6))
        assert link.counters.batches_lost == lost


async def test_a_gap_that_begins_later_does_not_hide_a_missing_batch(link: Link) -> None:
    link.receive(batch(5, gap_from=3))
    assert link.store.taken == []
    assert link.take_pending().replay_from_seq == 1


async def test_a_live_copy_updates_the_latest_state_and_is_not_stored(link: Link) -> None:
    link.receive(batch(1, live_only=True, soc=7.0))
    assert link.soc_mwhr == 7.0
    assert link.store.taken == []
    assert link.take_pending().replay_from_seq is None


async def test_a_full_store_refuses_and_a_replay_is_requested_when_there_is_room() -> None:
    link = await open_link(room=1)
    link.receive(batch(1), batch(2), batch(3))
    assert link.take_pending().replay_from_seq is None
    link.store.commit()
    pending = link.take_pending()
    assert (pending.committed_seq, pending.replay_from_seq) == (1, 2)
    assert link.counters.batches_refused == 2


async def test_a_replayed_batch_that_the_store_refuses_is_requested_again() -> None:
    link = await open_link(room=1)
    link.receive(batch(1), batch(3))
    assert link.take_pending().replay_from_seq == 2
    link.receive(batch(2))
    link.store.commit()
    assert link.take_pending().replay_from_seq == 2


async def test_a_new_session_does_not_store_what_is_still_being_written(link: Link) -> None:
    link.receive(batch(1))
    older, link.session = link.session, make_session("a", 0, outbox_id=BOX)
    assert await link.open_session() == NOTHING_COMMITTED
    link.ingest.session_closed(older)
    link.receive(batch(1))
    link.store.commit()
    assert link.store.rows[BOX] == [1]
    assert link.take_pending().committed_seq == 1


async def test_a_commit_after_the_session_is_reported_to_the_next_one(link: Link) -> None:
    link.receive(batch(1))
    link.ingest.session_closed(link.session)
    link.store.commit()
    link.session = make_session("a", 0, outbox_id=BOX)
    assert await link.open_session() == Watermark(1, NOW + 1)


class Delivery(RuleBasedStateMachine):
    """An agent's outbox, a wire that breaks and a store that fills up, against the real receiver.

    As on a TCP stream, nothing is lost but with the session. Whatever happens, the store's rows are the
    agent's batches in order, each once, less what the agent itself has dropped; and once everything works
    again, they are all there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.store = SlowStore(room=2)
        self.parts = make_parts(assets=1, store=self.store, wall=StillWall())
        self.made = 0
        self.low = 1
        self.dropped: set[int] = set()
        self.wire: list[Batch] = []
        self.session: Session | None = None
        self._connect()

    def _connect(self) -> None:
        if self.session is not None:
            self.parts.ingest.session_closed(self.session)
        self.session = make_session("a", 0, outbox_id=BOX)
        self.wire.clear()
        mark = trio.run(self.parts.ingest.session_opened, self.session)
        assert mark == NOTHING_COMMITTED or mark.ts_unix_ms == NOW + mark.batch_seq
        self._acknowledge(mark.batch_seq)
        self.next_to_send = self.low

    def _acknowledge(self, committed_seq: int) -> None:
        self.acked = committed_seq
        self.low = max(self.low, committed_seq + 1)

    @rule(count=st.integers(1, 3))
    def make(self, count: int) -> None:
        self.made += count

    @precondition(lambda self: self.low <= self.made)
    @rule()
    def drop_the_oldest(self) -> None:
        self.dropped.add(self.low)
        self.low += 1

    @rule(count=st.integers(1, 4))
    def send(self, count: int) -> None:
        for _ in range(count):
            seq = max(self.next_to_send, self.low)
            if seq <= self.made:
                gap_from = self.acked + 1 if seq == self.low > self.acked + 1 else None
                self.wire.append(batch(seq, gap_from=gap_from))
                self.next_to_send = seq + 1

    @rule(count=st.integers(1, 4))
    def arrive(self, count: int) -> None:
        assert self.session is not None
        arrived, self.wire = self.wire[:count], self.wire[count:]
        for one in arrived:
            self.parts.ingest.receive_batch(self.session, one)

    @rule()
    def read_downlink(self) -> None:
        assert self.session is not None
        pending = pending_of(self.session)
        if pending.committed_seq is not None:
            self._acknowledge(pending.committed_seq)
        if pending.replay_from_seq is not None:
            self.next_to_send = pending.replay_from_seq

    @rule()
    def cut(self) -> None:
        self._connect()

    @rule(count=st.integers(1, 3))
    def commit(self, count: int) -> None:
        self.store.commit(count)

    @rule()
    def others_fill_the_store(self) -> None:
        while len(self.store.taken) < self.store.room:
            self.store.taken.append(("another", 1))

    @invariant()
    def rows_are_in_order_and_complete(self) -> None:
        rows = self.store.rows[BOX]
        assert rows == sorted(set(rows))
        assert set(range(1, rows[-1] + 1 if rows else 1)) - set(rows) <= self.dropped

    @invariant()
    def nothing_is_acknowledged_that_is_not_kept(self) -> None:
        assert self.acked <= self.store.watermark_nowait(BOX).batch_seq

    def teardown(self) -> None:
        for _ in range(self.made + 10):
            self.arrive(len(self.wire))
            self.store.commit()
            self.read_downlink()
            self.send(4)
        assert set(self.store.rows[BOX]) | self.dropped >= set(range(1, self.made + 1))


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
