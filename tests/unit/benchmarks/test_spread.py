"""Quantiles by rank: each is a value that was measured."""

import pytest

from scripts.benchmarks.spread import Spread, spread_of


def test_of_a_hundred_values_the_50th_the_99th_and_the_last_are_told() -> None:
    values_s = [number / 1000 for number in range(100, 0, -1)]
    assert spread_of(values_s) == Spread(count=100, p50_ms=50.0, p99_ms=99.0, max_ms=100.0)


def test_of_one_value_all_are_that_value() -> None:
    assert spread_of([0.25]) == Spread(count=1, p50_ms=250.0, p99_ms=250.0, max_ms=250.0)


def test_there_is_none_of_no_values() -> None:
    with pytest.raises(ValueError, match="no durations"):
        spread_of([])
