"""The sender of the ingest benchmark: at most 32 batches under way, and every one again when asked."""

import pytest

from scripts.benchmarks.window import SentBatch, Window


def take(window: Window, *, now_ms: int = 0, new: bool = True) -> SentBatch | None:
    return window.take_next(now_s=0.0, now_ms=now_ms, new=new)


def full() -> Window:
    window = Window()
    while take(window) is not None:
        pass
    return window


def taken(window: Window) -> list[int]:
    sequence = []
    while (batch := take(window, new=False)) is not None:
        sequence.append(batch.batch_seq)
    return sequence


def test_batches_are_numbered_from_1_until_the_window_is_full() -> None:
    window = Window()
    sequence = []
    while (batch := take(window)) is not None:
        sequence.append(batch.batch_seq)
    assert sequence == list(range(1, 33))


def test_an_acknowledgement_makes_room() -> None:
    window = full()
    assert [batch.batch_seq for batch in window.acknowledged(2)] == [1, 2]
    batches = [take(window), take(window), take(window)]
    assert [batch and batch.batch_seq for batch in batches] == [33, 34, None]


def test_a_batch_is_told_as_acknowledged_once() -> None:
    window = full()
    window.acknowledged(2)
    assert window.acknowledged(2) == []
    assert window.acknowledged_batches == 2


def test_a_batch_that_goes_again_was_begun_once() -> None:
    window = Window()
    take(window)
    take(window)
    window.acknowledged(1)
    window.replay_from(2)
    take(window)
    assert window.begun_batches == 2


def test_no_two_batches_have_the_same_time() -> None:
    window = Window()
    batches = [take(window, now_ms=now_ms) for now_ms in (100, 100, 99, 200)]
    assert [batch and batch.ts_unix_ms for batch in batches] == [100, 101, 102, 200]


def test_a_replay_sends_the_same_batches_again_in_order() -> None:
    window = Window()
    before = [take(window, now_ms=now_ms) for now_ms in (100, 200, 300)]
    window.acknowledged(1)
    window.replay_from(2)
    assert [take(window, now_ms=400), take(window, now_ms=400)] == before[1:]
    assert window.replays == 1


def test_what_is_acknowledged_during_a_replay_is_not_sent_again() -> None:
    window = full()
    window.replay_from(1)
    take(window)
    window.acknowledged(30)
    assert taken(window) == [31, 32]


def test_no_batch_is_begun_when_none_is_wanted() -> None:
    assert take(Window(), new=False) is None


def test_it_is_empty_once_all_is_acknowledged() -> None:
    window = full()
    window.acknowledged(31)
    assert not window.is_empty
    window.acknowledged(32)
    assert window.is_empty


def test_an_acknowledgement_of_what_was_never_sent_is_an_error() -> None:
    window = full()
    with pytest.raises(ValueError, match="batch 33 was acknowledged, which was never sent"):
        window.acknowledged(33)


@pytest.mark.parametrize("batch_seq", [2, 34])
def test_a_replay_of_what_is_not_under_way_is_an_error(batch_seq: int) -> None:
    window = full()
    window.acknowledged(2)
    with pytest.raises(ValueError, match=f"batch {batch_seq} was asked for again"):
        window.replay_from(batch_seq)
