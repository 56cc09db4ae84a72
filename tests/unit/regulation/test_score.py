"""The performance score of responses whose score is known beforehand."""

import math
import random
from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.regulation.score import performance_score
from scripts.regulation.signals import load_signal


def wave(minutes: float = 20.0, *, step_s: float = 2.0, period_s: float = 80.0) -> list[float]:
    """A sine with a second one, so that no shift within five minutes but none makes it itself again."""
    count = round(minutes * 60.0 / step_s)
    return [
        10.0 * math.sin(2.0 * math.pi * step / (period_s / step_s))
        + 7.0 * math.sin(2.0 * math.pi * step / (period_s * math.sqrt(5.0) / step_s))
        for step in range(count)
    ]


def late(values: list[float], steps: int) -> list[float]:
    """The values so many steps later, with what was at the end before the beginning."""
    return values[-steps:] + values[:-steps]


def test_a_perfect_follower_scores_one() -> None:
    score = performance_score(wave(), wave(), 2.0)
    assert astuple(score) == pytest.approx((1.0, 1.0, 1.0, 1.0, 0.0))


def test_a_perfect_follower_of_the_qualification_wave_scores_one() -> None:
    signal = load_signal("regd", day=None)
    assert performance_score(signal.values, signal.values, signal.step_s).total == pytest.approx(1.0)


@pytest.mark.parametrize(("step_s", "steps"), [(2.0, 5), (2.0, 30), (1.0, 10), (10.0, 6), (4.0, 5)])
def test_a_delay_costs_its_share_of_five_minutes_and_no_accuracy(step_s: float, steps: int) -> None:
    asked = wave(30.0, step_s=step_s, period_s=40.0)
    score = performance_score(asked, late(asked, steps), step_s)
    delay_s = steps * step_s
    assert (score.accuracy, score.delay_s) == pytest.approx((1.0, delay_s), abs=0.02)
    assert score.delay == pytest.approx((300.0 - delay_s) / 300.0, abs=1e-9)


def test_where_steps_do_not_divide_ten_seconds_the_nearest_delay_is_tried() -> None:
    asked = wave(30.0, step_s=4.0, period_s=40.0)
    assert performance_score(asked, late(asked, 2), 4.0).delay_s == pytest.approx(8.0)


def test_correlation_and_delay_are_chosen_together() -> None:
    # A slow signal ten seconds later: waiting for the full correlation would cost more than it brings.
    asked = wave(period_s=1200.0)
    score = performance_score(asked, late(asked, 5), 2.0)
    assert score.delay_s < 10.0
    assert 0.95 < score.accuracy < 1.0


@pytest.mark.parametrize(("amplitude", "precision"), [(0.5, 0.5), (1.25, 0.75), (3.0, 0.0)])
def test_another_amplitude_costs_precision_alone(amplitude: float, precision: float) -> None:
    score = performance_score(wave(), [amplitude * value for value in wave()], 2.0)
    assert (score.accuracy, score.delay, score.precision) == pytest.approx((1.0, 1.0, precision))


def test_the_total_is_a_third_of_each() -> None:
    score = performance_score(wave(), [0.5 * value for value in wave()], 2.0)
    assert score.total == pytest.approx(2.5 / 3.0)


def test_no_response_scores_nothing() -> None:
    score = performance_score(wave(), [0.0] * len(wave()), 2.0)
    assert (score.accuracy, score.delay, score.precision, score.total) == (0.0, 0.0, 0.0, 0.0)


def test_a_constant_response_that_is_not_zero_earns_precision_at_most() -> None:
    asked = [50.0 + value for value in wave()]
    score = performance_score(asked, [50.0] * len(asked), 2.0)
    assert (score.accuracy, score.delay) == (0.0, 0.0)
    assert 0.5 < score.precision < 1.0


def test_in_anti_phase_there_is_no_precision_and_the_correlation_is_late() -> None:
    # Half a period later a sine is its own opposite.
    asked = [math.sin(2.0 * math.pi * 2.0 * step / 120.0) for step in range(600)]
    score = performance_score(asked, [-value for value in asked], 2.0)
    assert score.precision == 0.0
    assert (score.accuracy, score.delay_s) == pytest.approx((1.0, 60.0))


def test_a_response_of_noise_is_not_accurate() -> None:
    rng = random.Random(1)
    asked = [rng.uniform(-1.0, 1.0) for _ in range(900)]
    score = performance_score(asked, [rng.uniform(-1.0, 1.0) for _ in asked], 2.0)
    assert score.accuracy < 0.3


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e4))
def test_the_unit_does_not_matter(scale: float) -> None:
    asked = wave(12.0, step_s=10.0)
    delivered = [0.9 * value + 0.3 for value in late(asked, 1)]
    scaled = performance_score([scale * value for value in asked], [scale * v for v in delivered], 10.0)
    assert astuple(scaled) == pytest.approx(astuple(performance_score(asked, delivered, 10.0)))


def test_five_minutes_without_variation_count_for_precision_alone() -> None:
    flat = [5.0] * 600
    asked = wave() + flat
    score = performance_score(asked, wave() + [0.0] * 600, 2.0)
    # Those windows that hold the jump to the flat part, or some of it, are few and correlate less.
    assert score.accuracy > 0.9
    error = 5.0 * 600 / (sum(map(abs, wave())) + 5.0 * 600)
    assert score.precision == pytest.approx(1.0 - error)


def test_a_signal_that_never_varies_is_refused() -> None:
    with pytest.raises(ValueError, match="does not vary within any five minutes"):
        performance_score([5.0] * 600, wave(), 2.0)


def test_less_than_ten_minutes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a score needs 10 minutes; there are 9\.9"):
        performance_score(wave()[:298], wave()[:298], 2.0)


def test_ten_minutes_are_enough() -> None:
    assert performance_score(wave()[:300], wave()[:300], 2.0).total == pytest.approx(1.0)


def test_series_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="600 values were asked, but 599 delivered"):
        performance_score(wave(), wave()[1:], 2.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("in_asked", [True, False])
def test_values_that_are_not_finite_are_refused(bad: float, in_asked: bool) -> None:
    broken = [*wave()[:-1], bad]
    asked, delivered = (broken, wave()) if in_asked else (wave(), broken)
    with pytest.raises(ValueError, match="not finite"):
        performance_score(asked, delivered, 2.0)


@pytest.mark.parametrize("step_s", [0.0, -2.0, 11.0, math.nan])
def test_a_step_that_is_none_is_refused(step_s: float) -> None:
    with pytest.raises(ValueError, match="the step is"):
        performance_score(wave(), wave(), step_s)
