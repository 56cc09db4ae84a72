"""Single samples are stored once, however often they are received."""

from hypothesis import given
from hypothesis import strategies as st

from trioder.ingest.repeats import REMEMBERED, RecentTimes


def test_a_second_sample_of_a_time_is_a_repeat_and_of_another_asset_is_not() -> None:
    kept = RecentTimes()
    assert kept.add(0, 5)
    assert not kept.add(0, 5)
    assert kept.add(1, 5)


def test_a_clock_that_was_set_back_makes_no_repeats() -> None:
    kept = RecentTimes()
    assert all(kept.add(0, ts_ms) for ts_ms in (1000, 2000, 500, 1500))


def test_what_was_stored_before_the_start_is_known() -> None:
    kept = RecentTimes()
    assert not kept.knows(0)
    kept.remember(0, [1, 2, 3])
    assert kept.knows(0)
    assert [kept.add(0, ts_ms) for ts_ms in (2, 3, 4)] == [False, False, True]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=4 * REMEMBERED))
def test_the_last_ones_are_remembered_and_no_more(times: list[int]) -> None:
    kept = RecentTimes()
    assert all(kept.add(0, ts_ms) for ts_ms in times)
    assert not any(kept.add(0, ts_ms) for ts_ms in times[-REMEMBERED:])
