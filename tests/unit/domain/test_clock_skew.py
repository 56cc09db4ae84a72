"""The skew estimated from delayed readings of a peer's clock."""

import random

import pytest

from trioder.domain.clock_skew import SET_BACK_S, SETTLED_AFTER_S, WINDOW_S, SkewFilter


def test_there_is_no_skew_without_a_reading() -> None:
    assert SkewFilter().estimate is None
    assert not SkewFilter().settled(1e9)


@pytest.mark.parametrize("skew_s", [-86_400.0, -2.0, 0.0, 2.0, 3_600.0])
def test_the_reading_that_met_no_queue_counts(skew_s: float) -> None:
    rng, readings = random.Random(1), SkewFilter()
    delays_s = [0.02 + rng.expovariate(1.0) for _ in range(7)] + [0.02]
    for number, delay_s in enumerate(delays_s):
        readings.observe(skew_s - delay_s, 15.0 * number)
    assert readings.estimate == (pytest.approx(skew_s - 0.02), None)


@pytest.mark.parametrize(("there_s", "back_s"), [(0.01, 0.01), (0.0, 0.5), (0.5, 0.0), (2.0, 7.0)])
def test_the_skew_is_within_the_error(there_s: float, back_s: float) -> None:
    readings = SkewFilter()
    readings.round_trip(there_s + back_s)
    readings.observe(10.0 - back_s, 0.0)
    estimate = readings.estimate
    assert estimate is not None
    assert estimate.error_s == (there_s + back_s) / 2
    assert abs(estimate.skew_s - 10.0) <= estimate.error_s + 1e-9


def test_a_longer_round_trip_adds_no_error() -> None:
    readings = SkewFilter()
    readings.observe(0.0, 0.0)
    for took_s in (0.2, 5.0, 0.1):
        readings.round_trip(took_s)
    assert readings.estimate == (0.05, 0.05)


def test_old_readings_count_no_more() -> None:
    readings = SkewFilter()
    readings.observe(100.0, 0.0)
    readings.observe(-50.0, WINDOW_S + 1.0)
    assert readings.estimate == (-50.0, None)


def test_a_silent_peer_keeps_its_estimate() -> None:
    readings = SkewFilter()
    readings.observe(5.0, 0.0)
    assert readings.settled(1e6)
    assert readings.estimate == (5.0, None)


def test_it_is_bounded_however_often_the_clock_is_shown() -> None:
    readings = SkewFilter()
    for number in range(100_000):
        readings.observe(-number / 1000, number / 100)
    assert len(readings._readings) <= WINDOW_S + 2


def test_a_step_of_ours_is_no_skew_of_theirs() -> None:
    readings = SkewFilter()
    readings.observe(-3_600.0, 0.0)
    readings.our_clock_stepped(-3_600.0)
    assert readings.estimate == (0.0, None)


def test_a_step_of_theirs_counts_at_once() -> None:
    readings = SkewFilter()
    readings.observe(3_600.0, 0.0)
    readings.observe(0.0, 15.0)
    assert readings.estimate == (3_600.0, None)
    readings.keep_newest()
    assert readings.estimate == (0.0, None)


def test_a_step_back_of_theirs_counts_at_once_also_within_a_second_of_the_reading_before() -> None:
    readings = SkewFilter()
    readings.observe(5.0, 100.0)
    readings.observe(0.0, 100.9)
    readings.keep_newest()
    assert readings.estimate == (0.0, None)


def test_what_was_read_of_a_clock_that_missed_time_is_forgotten() -> None:
    readings = SkewFilter()
    readings.round_trip(0.2)
    readings.observe(600.0, 0.0)
    readings.forget()
    assert readings.estimate is None
    readings.observe(-0.1, 1.0)
    assert readings.estimate == (0.0, 0.1)


@pytest.mark.parametrize("odd_s", [86_400.0, -86_400.0])
def test_a_single_sample_of_another_time_is_no_clock(odd_s: float) -> None:
    readings = SkewFilter(of_samples=True)
    for number, ahead_s in enumerate([odd_s, -0.5, -0.5, -0.5, odd_s]):
        readings.observe(ahead_s, 4.0 * number)
    assert readings.estimate == (-0.5, None)
    assert readings.settled(16.0)


def test_a_few_samples_are_too_few() -> None:
    readings = SkewFilter(of_samples=True)
    for at_s in (0.0, 0.5, 20.0):
        readings.observe(5.0, at_s)
    assert not readings.settled(60.0)


def test_without_a_round_trip_it_takes_a_while() -> None:
    readings = SkewFilter()
    readings.observe(-600.0, 100.0)
    assert not readings.settled(100.0 + SETTLED_AFTER_S - 0.1)
    assert readings.settled(100.0 + SETTLED_AFTER_S)


@pytest.mark.parametrize("ahead_s", [86_400.0, 9.2e15])
@pytest.mark.parametrize("times", [1, 3])
def test_a_clock_that_was_set_back_without_a_report_is_noticed_with_the_second_reading(
    ahead_s: float, times: int
) -> None:
    readings = SkewFilter()
    for number in range(times):
        readings.observe(ahead_s, 2.0 * number)
    readings.observe(-0.25, 20.0)
    assert readings.estimate == (ahead_s, None)
    readings.observe(-0.75, 24.0)
    assert readings.estimate == (-0.25, None)


def test_one_late_reading_and_its_followers_set_nothing_back() -> None:
    readings = SkewFilter()
    readings.observe(5.0, 0.0)
    # A link that stalled: what waited arrives at once.
    readings.observe(5.0 - 2 * SET_BACK_S, 100.0)
    readings.observe(5.0 - SET_BACK_S, 100.5)
    assert readings.estimate == (5.0, None)
    readings.observe(4.5, 104.0)
    assert readings.estimate == (5.0, None)


def test_a_backlog_before_the_present_sets_nothing_back() -> None:
    readings = SkewFilter()
    for number in range(60):
        readings.observe(60.0 * number - 3_600.0, 1.0 * number)
    assert readings.estimate == (-60.0, None)
