"""The grid of pulses holds, and lateness is recorded."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioder.agent.pulse import Lateness, PulseGrid
from trioder.process.backoff import Backoff


def test_a_late_pulse_does_not_shift_the_next() -> None:
    grid = PulseGrid(first_s=100.0, tick_s=4.0)
    grid.strike(103.5)
    assert (grid.due_s, grid.skipped) == (104.0, 0)
    assert grid.lateness.max_s == 3.5


def test_pulses_whose_successor_is_due_are_skipped_and_counted() -> None:
    grid = PulseGrid(first_s=100.0, tick_s=4.0)
    struck_s = grid.strike(109.0)
    assert (struck_s, grid.due_s, grid.skipped) == (108.0, 112.0, 2)
    assert grid.lateness.max_s == 1.0


@pytest.mark.parametrize(("phase", "due_s"), [(0.0, 53.0), (0.5, 51.0), (0.25, 50.0)])
def test_the_grid_lies_on_multiples_of_the_tick_by_the_wall(phase: float, due_s: float) -> None:
    grid = PulseGrid.aligned(tick_s=4.0, phase=phase, now_s=50.0, wall_s=1_800_000_001.0)
    assert grid.due_s == due_s


@pytest.mark.parametrize(("now_s", "due_s"), [(90.0, 100.0), (100.0, 100.0), (100.5, 104.0), (111.9, 112.0)])
def test_pulses_from_before_the_beginning_are_neither_late_nor_skipped(now_s: float, due_s: float) -> None:
    grid = PulseGrid(first_s=100.0, tick_s=4.0)
    grid.begin(now_s)
    assert (grid.due_s, grid.skipped, grid.lateness.count) == (due_s, 0, 0)


@given(st.lists(st.floats(0.0, 1000.0), min_size=1, max_size=60))
def test_every_pulse_stays_on_the_grid_whatever_the_delays(delays: list[float]) -> None:
    grid = PulseGrid(first_s=0.0, tick_s=4.0)
    for delay_s in delays:
        now_s = grid.due_s + delay_s
        struck_s = grid.strike(now_s)
        assert struck_s % 4.0 == 0.0
        assert 0.0 <= now_s - struck_s < 4.0
        assert grid.due_s == struck_s + 4.0
    assert grid.lateness.count + grid.skipped == grid.due_s / 4.0


def test_quantiles_are_of_what_was_recorded() -> None:
    lateness = Lateness()
    assert lateness.quantile_s(0.99) == 0.0
    for hundredths in range(1, 101):
        lateness.record(hundredths / 100)
    assert [lateness.quantile_s(share) for share in (0.0, 0.5, 0.99, 1.0)] == [0.01, 0.5, 0.99, 1.0]


def test_the_maximum_outlives_the_retained_samples() -> None:
    lateness = Lateness()
    lateness.record(9.0)
    for _ in range(5000):
        lateness.record(0.1)
    assert (lateness.max_s, lateness.quantile_s(1.0), lateness.count) == (9.0, 0.1, 5001)


def test_delays_double_up_to_their_bound_and_begin_again_after_a_reset() -> None:
    backoff = Backoff(first_s=0.5, max_s=30.0, rng=random.Random(3))
    bounds = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert all(bound / 10 <= backoff.next_delay_s() <= bound for bound in bounds)
    backoff.reset()
    assert backoff.next_delay_s() <= 0.5


def test_delays_are_spread_over_their_whole_range() -> None:
    rng = random.Random(3)
    delays = [Backoff(first_s=10.0, max_s=30.0, rng=rng).next_delay_s() for _ in range(1000)]
    assert min(delays) < 2.0
    assert max(delays) > 9.0
