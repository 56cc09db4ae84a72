"""The outbox sends each batch in order, early copies of the newest beside, and keeps until acknowledged."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trioder.agent.persistence.outbox import Outbox, Outgoing
from trioder.agent.persistence.state_store import InMemoryBatchLog


def make_outbox(*, batches: int = 0, max_bytes: int = 1000, window: int = 32) -> Outbox:
    outbox = Outbox(InMemoryBatchLog(), max_bytes=max_bytes, window_batches=window)
    append(outbox, batches)
    return outbox


def append(outbox: Outbox, batches: int = 1) -> None:
    for _ in range(batches):
        # 10 bytes each.
        outbox.append(b"%010d" % outbox.next_append_seq)


def take_all(outbox: Outbox) -> list[Outgoing]:
    sent = []
    while (outgoing := outbox.take_next()) is not None:
        assert int(outgoing.payload) == outgoing.batch_seq
        sent.append(outgoing)
    return sent


def in_turn(outbox: Outbox) -> list[int]:
    return [outgoing.batch_seq for outgoing in take_all(outbox) if not outgoing.live_only]


def test_nothing_is_sent_before_the_session_is_granted() -> None:
    assert take_all(make_outbox(batches=3)) == []


def test_nothing_is_sent_after_the_session_has_ended() -> None:
    outbox = make_outbox(batches=1)
    outbox.registered(0)
    outbox.disconnected()
    assert take_all(outbox) == []


def test_batches_are_sent_in_order_of_arrival_in_one_copy() -> None:
    outbox = make_outbox()
    outbox.registered(0)
    sent = []
    for _ in range(3):
        append(outbox)
        sent += take_all(outbox)
    assert [(outgoing.batch_seq, outgoing.live_only, outgoing.gap_from_seq) for outgoing in sent] == [
        (1, False, None),
        (2, False, None),
        (3, False, None),
    ]


def test_behind_a_backlog_the_newest_is_sent_first_and_again_in_its_turn() -> None:
    outbox = make_outbox(batches=3)
    outbox.registered(0)
    assert [(outgoing.batch_seq, outgoing.live_only) for outgoing in take_all(outbox)] == [
        (3, True),
        (1, False),
        (2, False),
        (3, False),
    ]


def test_the_window_bounds_what_is_in_flight_and_the_newest_is_still_sent() -> None:
    outbox = make_outbox(window=2)
    outbox.registered(0)
    sent = []
    for _ in range(4):
        append(outbox)
        sent += take_all(outbox)
    assert [(outgoing.batch_seq, outgoing.live_only) for outgoing in sent] == [
        (1, False),
        (2, False),
        (3, True),
        (4, True),
    ]
    outbox.acknowledged(1)
    assert in_turn(outbox) == [3]


def test_what_is_acknowledged_is_no_longer_kept() -> None:
    outbox = make_outbox(batches=5)
    outbox.registered(0)
    take_all(outbox)
    outbox.acknowledged(3)
    assert (outbox.batches, outbox.size_bytes) == (2, 20)


def test_what_the_headend_has_at_the_registration_is_not_sent_again() -> None:
    outbox = make_outbox(batches=5)
    outbox.registered(0)
    take_all(outbox)
    outbox.disconnected()
    outbox.registered(3)
    assert in_turn(outbox) == [4, 5]
    assert outbox.batches == 2


def test_a_replay_goes_back() -> None:
    outbox = make_outbox(batches=5)
    outbox.registered(0)
    take_all(outbox)
    outbox.replay_from(3)
    assert in_turn(outbox) == [3, 4, 5]


def test_an_acknowledgement_of_a_replayed_batch_ends_its_repetition() -> None:
    outbox = make_outbox(batches=5)
    outbox.registered(0)
    take_all(outbox)
    outbox.replay_from(2)
    outbox.acknowledged(4)
    [outgoing] = take_all(outbox)
    assert (outgoing.batch_seq, outgoing.gap_from_seq) == (5, None)


def test_after_a_replay_what_is_taken_and_not_yet_committed_is_still_acknowledged_in_parts() -> None:
    outbox = make_outbox(batches=5)
    outbox.registered(0)
    take_all(outbox)
    outbox.replay_from(5)
    outbox.acknowledged(3)
    assert outbox.batches == 2


def test_without_room_the_oldest_go_and_the_gap_is_reported_once() -> None:
    outbox = make_outbox(batches=7, max_bytes=40)
    outbox.registered(0)
    assert outbox.dropped == 3
    turns = [outgoing for outgoing in take_all(outbox) if not outgoing.live_only]
    assert [(outgoing.batch_seq, outgoing.gap_from_seq) for outgoing in turns] == [
        (4, 1),
        (5, None),
        (6, None),
        (7, None),
    ]


def test_the_newest_batch_is_kept_however_large() -> None:
    outbox = make_outbox(batches=3, max_bytes=5)
    assert outbox.batches == 1


def test_the_gap_is_reported_to_a_headend_that_forgot() -> None:
    outbox = make_outbox(batches=5)
    outbox.registered(0)
    take_all(outbox)
    outbox.acknowledged(5)
    outbox.disconnected()
    outbox.registered(0)
    assert take_all(outbox) == []
    append(outbox)
    [outgoing] = take_all(outbox)
    assert (outgoing.batch_seq, outgoing.gap_from_seq, outgoing.live_only) == (6, 1, False)


@pytest.mark.parametrize("batch_seq", [6, 2**63])
def test_messages_about_batches_that_were_never_sent_are_ignored(batch_seq: int) -> None:
    outbox = make_outbox(batches=5, window=2)
    outbox.registered(0)
    take_all(outbox)
    outbox.acknowledged(batch_seq)
    outbox.replay_from(batch_seq)
    outbox.acknowledged(2)
    assert in_turn(outbox) == [3, 4]
    assert outbox.batches == 3


def test_a_registration_that_claims_too_much_is_taken_for_what_was_sent() -> None:
    outbox = make_outbox(batches=2)
    outbox.registered(0)
    take_all(outbox)
    outbox.disconnected()
    append(outbox)
    outbox.registered(99)
    assert in_turn(outbox) == [3]


def test_acknowledgements_do_not_go_backwards() -> None:
    outbox = make_outbox(batches=5)
    outbox.registered(0)
    take_all(outbox)
    outbox.acknowledged(4)
    outbox.acknowledged(2)
    append(outbox)
    assert in_turn(outbox) == [6]


def test_a_replay_from_0_is_passed_over() -> None:
    outbox = make_outbox(batches=1)
    outbox.registered(0)
    take_all(outbox)
    outbox.replay_from(0)
    assert take_all(outbox) == []


class Delivery(RuleBasedStateMachine):
    """An outbox, a connection that is cut at any moment, and a headend that takes, commits and drops."""

    WINDOW = 3
    MAX_KEPT = 6

    def __init__(self) -> None:
        super().__init__()
        self.outbox = make_outbox(max_bytes=10 * self.MAX_KEPT, window=self.WINDOW)
        self.connected = False
        self.up: deque[Outgoing] = deque()
        self.down: deque[tuple[str, int]] = deque()
        # The headend: the rows for good, and how far it has taken (without being sure to keep) them.
        self.stored: list[int] = []
        self.committed_seq = 0
        self.taken: list[int] = []
        self.next_seq = 1
        self.replay_asked = False
        self.reported_lost: set[int] = set()

    @rule(batches=st.integers(1, 4))
    def pulse(self, batches: int) -> None:
        append(self.outbox, batches)

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.connected = True
        self.replay_asked = False
        self.outbox.registered(self.committed_seq)

    @precondition(lambda self: self.connected)
    @rule()
    def cut(self) -> None:
        self.connected = False
        self.up.clear()
        self.down.clear()
        self.outbox.disconnected()

    @rule(most=st.integers(1, 6))
    def send(self, most: int) -> None:
        for _ in range(most):
            outgoing = self.outbox.take_next()
            if outgoing is None:
                return
            assert self.connected
            self.up.append(outgoing)

    @precondition(lambda self: self.up)
    @rule(twice=st.booleans())
    def arrive(self, twice: bool) -> None:
        outgoing = self.up.popleft()
        for _ in range(1 + twice):
            self.receive(outgoing)

    @precondition(lambda self: self.up)
    @rule()
    def lose(self) -> None:
        # A headend that has no room drops what arrives.
        self.up.popleft()

    @precondition(lambda self: self.taken)
    @rule(most=st.integers(1, 6))
    def commit(self, most: int) -> None:
        self.stored += self.taken[:most]
        self.committed_seq = self.taken[:most][-1]
        del self.taken[:most]
        self.answer("ack", self.committed_seq)

    @precondition(lambda self: self.taken)
    @rule()
    def drop_received(self) -> None:
        self.taken.clear()
        self.next_seq = self.committed_seq + 1
        self.replay_asked = False
        self.ask_replay()

    @precondition(lambda self: self.connected)
    @rule(kind=st.sampled_from(["ack", "replay"]), beyond=st.integers(2, 50))
    def lie(self, kind: str, beyond: int) -> None:
        self.answer(kind, self.outbox.next_append_seq + beyond)

    @precondition(lambda self: self.connected)
    @rule(back=st.integers(0, 5))
    def repeat_old_answer(self, back: int) -> None:
        self.answer("ack", max(0, self.committed_seq - back))

    @precondition(lambda self: self.down)
    @rule()
    def read_downlink(self) -> None:
        kind, batch_seq = self.down.popleft()
        if kind == "ack":
            self.outbox.acknowledged(batch_seq)
        else:
            self.outbox.replay_from(batch_seq)

    def receive(self, outgoing: Outgoing) -> None:
        if outgoing.live_only or outgoing.batch_seq < self.next_seq:
            return
        first_seq = outgoing.batch_seq if outgoing.gap_from_seq is None else outgoing.gap_from_seq
        if first_seq > self.next_seq:
            self.ask_replay()
            return
        self.reported_lost |= set(range(self.next_seq, outgoing.batch_seq))
        self.taken.append(outgoing.batch_seq)
        self.next_seq = outgoing.batch_seq + 1
        self.replay_asked = False

    def ask_replay(self) -> None:
        if not self.replay_asked:
            self.replay_asked = True
            self.answer("replay", self.next_seq)

    def answer(self, kind: str, batch_seq: int) -> None:
        if self.connected:
            self.down.append((kind, batch_seq))

    @invariant()
    def memory_is_bounded(self) -> None:
        assert self.outbox.batches <= self.MAX_KEPT

    @invariant()
    def stored_in_order_once(self) -> None:
        assert self.stored == sorted(set(self.stored))

    def teardown(self) -> None:
        """Once all is well: what is in the outbox is stored, and nothing is missing but what was lost."""
        if self.connected:
            self.cut()
        if self.taken:
            self.drop_received()
        self.connect()
        append(self.outbox)
        newest_seq = self.outbox.next_append_seq - 1
        for _ in range(200):
            self.send(10)
            while self.up:
                self.arrive(twice=False)
            if self.taken:
                self.commit(10)
            while self.down:
                self.read_downlink()
        self.stored_in_order_once()
        assert self.stored[-1] == newest_seq
        assert set(self.stored) | self.reported_lost == set(range(1, newest_seq + 1))
        assert self.outbox.batches == 0
        dropped = newest_seq - len(self.stored)
        assert dropped <= self.outbox.dropped


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
