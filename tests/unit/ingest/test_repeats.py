"""Single samples are stored once, however often they are received."""

from hypothesis import given
from hypothesis import strategies as st

from trioder.ingest.repeats import REMEMBERED, RecentTimes


def test_a_second_sample_of_a_time_is_a_repeat_and_of_another_asset_is_not() -> None:
    recent = RecentTimes()
    assert recent.add(0, 5)
    assert not recent.add(0, 5)
    assert recent.add(1, 5)


def test_a_clock_that_was_set_back_makes_no_repeats() -> None:
    recent = RecentTimes()
    assert all(recent.add(0, ts_ms) for ts_ms in (1000, 2000, 500, 1500))


def test_what_was_stored_before_the_start_is_known() -> None:
    recent = RecentTimes()
    assert not recent.knows(0)
    recent.remember(0, [1, 2, 3])
    assert recent.knows(0)
    assert [recent.add(0, ts_ms) for ts_ms in (2, 3, 4)] == [False, False, True]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=4 * REMEMBERED))
def test_the_last_ones_are_remembered_and_no_more(times: list[int]) -> None:
    recent = RecentTimes()
    assert all(recent.add(0, ts_ms) for ts_ms in times)
    assert not any(recent.add(0, ts_ms) for ts_ms in times[-REMEMBERED:])
