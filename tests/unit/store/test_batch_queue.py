"""The queue of batches: bounded, in order, and it reports when there is room again."""

from collections import deque

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.store.samples import flat_samples
from trioder.store.postgres.batch_queue import BatchQueue, PendingBatch


def batch(seq: int, rows: int) -> PendingBatch:
    return PendingBatch.of("box", seq, flat_samples(seq, rows))


def test_a_batch_larger_than_all_room_is_taken_alone() -> None:
    queue = BatchQueue(max_bytes=100, group_rows=10)
    assert queue.put(batch(1, 1000))
    assert not queue.put(batch(2, 1))
    assert [each.batch_seq for each in queue.first_group()] == [1]


def test_what_others_have_precedence_over_is_refused_quietly() -> None:
    queue = BatchQueue(max_bytes=4 * batch(1, 10).size, group_rows=10)
    assert queue.put(batch(1, 10), share=0.25)
    assert not queue.put(batch(2, 10), share=0.25)
    queue.remove_first(1)
    assert not queue.take_capacity_available()


def test_groups_are_smaller_after_each_failure_and_larger_after_each_success() -> None:
    queue = BatchQueue(max_bytes=10_000_000, group_rows=4_000)
    for seq in range(1, 17):
        queue.put(batch(seq, 1_000))

    def group() -> int:
        return len(queue.first_group())

    sizes = [group()]
    for _ in range(3):
        queue.group_failed()
        sizes.append(group())
    for _ in range(3):
        queue.remove_first(1)
        sizes.append(group())
    assert sizes == [4, 2, 1, 1, 2, 4, 4]


class QueueMachine(RuleBasedStateMachine):
    """Against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = BatchQueue(max_bytes=20_000, group_rows=50)
        self.model: deque[PendingBatch] = deque()
        self.seq = 0
        self.refused = False

    @rule(rows=st.integers(0, 120))
    def put(self, rows: int) -> None:
        self.seq += 1
        offered = batch(self.seq, rows)
        if self.queue.put(offered):
            self.model.append(offered)
        else:
            self.refused = True

    @precondition(lambda self: self.model)
    @rule(keep=st.booleans())
    def commit_a_group(self, keep: bool) -> None:
        group = self.queue.first_group()
        assert group == list(self.model)[: len(group)]
        assert len(group) == 1 or sum(each.rows for each in group) <= 50
        if keep:
            return
        self.queue.remove_first(len(group))
        for _ in group:
            self.model.popleft()

    @rule()
    def take_capacity_available(self) -> None:
        half_free = sum(each.size for each in self.model) <= 10_000
        assert self.queue.take_capacity_available() == (self.refused and half_free)
        self.refused = self.refused and not half_free

    @invariant()
    def counts_what_it_holds(self) -> None:
        assert len(self.queue) == len(self.model)
        assert self.queue.rows == sum(each.rows for each in self.model)
        assert self.queue.size == sum(each.size for each in self.model)
        assert len(self.model) <= 1 or self.queue.size <= 20_000


TestQueue = QueueMachine.TestCase
