"""Samples without an outbox: gathered, bounded, and in the queue in their order of arrival."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.store.samples import flat_samples
from trioder.store.postgres.batch_queue import BatchQueue, UnsequencedBuffer

MAX_BYTES = 40_000


def opened(max_bytes: int = MAX_BYTES) -> tuple[BatchQueue, UnsequencedBuffer]:
    queue = BatchQueue(max_bytes=max_bytes, group_rows=100)
    return queue, UnsequencedBuffer(queue, max_bytes=max_bytes, started_ms=1)


@given(st.lists(st.one_of(st.none(), st.integers(1, 30)), max_size=60))
def test_all_that_was_taken_is_in_the_queue_once_and_in_order(steps: list[int | None]) -> None:
    queue, unsequenced = opened()
    taken: list[tuple[int, int]] = []
    for number, rows in enumerate(steps):
        if rows is None:
            unsequenced.seal()
        elif unsequenced.put(flat_samples(number, rows, "agent" if number % 2 else "synthesized")):
            taken.append((number, rows))
        assert queue.size + unsequenced.rows * 44 <= MAX_BYTES
    queued = []
    seqs = []
    while True:
        unsequenced.seal()
        if not queue:
            break
        batch = queue.first_group()[0]
        queued += zip(batch.run_ts_unix_ms, batch.run_rows, strict=True)
        seqs.append((batch.batch_seq, batch.rows))
        queue.remove_first(1)
    assert queued == taken
    # The sequence counts the samples.
    ends = [seq for seq, _ in seqs]
    assert [rows for _, rows in seqs] == [end - start for start, end in zip([0, *ends], ends, strict=False)]


def test_it_leaves_room_for_what_has_precedence_and_is_refused_quietly() -> None:
    queue, unsequenced = opened()
    while unsequenced.put(flat_samples(1)):
        unsequenced.seal()
    assert queue.size <= MAX_BYTES / 4
    unsequenced.seal()
    queue.remove_first(len(queue))
    assert not queue.take_capacity_available()
    assert unsequenced.put(flat_samples(2))


def test_what_alone_is_larger_than_all_room_is_taken_when_nothing_else_waits() -> None:
    queue, unsequenced = opened(max_bytes=1_000)
    assert unsequenced.put(flat_samples(1, rows=2_000))
    assert not unsequenced.put(flat_samples(2))
    assert queue.rows == 2_000
