"""What a split over a group may do and what it may not, over any total, any limits and every strategy."""

import math
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.control.driver import split
from trioder.control.allocation import Candidate, Exclusion, Split
from trioder.domain.dispatch import Strategy
from trioder.domain.holdable import Limit

NAN, INFINITY = float("nan"), float("inf")
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

quick = settings(max_examples=200, deadline=None)
strategies = st.sampled_from(STRATEGIES)
exclusions = st.one_of(st.none(), st.none(), st.none(), st.sampled_from(get_args(Exclusion)))
bounds = st.sampled_from((*get_args(Limit), "delivery"))


def groups(
    limits: st.SearchStrategy[float],
    capacities: st.SearchStrategy[float],
    limited_by: st.SearchStrategy[str] = bounds,
) -> st.SearchStrategy[list[Candidate]]:
    candidate = st.builds(Candidate, st.integers(0, 99_999), capacities, limits, limited_by, exclusions)
    return st.lists(candidate, max_size=40)


plant_limits = st.one_of(st.floats(0.0, 500.0), st.sampled_from([0.0, 0.1, 10.0, 10.0, 500.0]))
plant_capacities = st.one_of(st.floats(0.01, 5000.0), st.sampled_from([0.1, 40.0, 40.0]))
plants = groups(plant_limits, plant_capacities)
# Without batteries that keep what they delivered: the strategy decides about all.
shared_plants = groups(plant_limits, plant_capacities, st.sampled_from(get_args(Limit)))
totals = st.one_of(
    st.floats(-20_000.0, 20_000.0), st.floats(-50.0, 50.0), st.sampled_from([0.0, -0.0, 0.3, -1e-9])
)
# Whatever is a float; tiny ones included, and totals to match either.
any_group = groups(
    st.floats(0.0, allow_infinity=False), st.floats(0.0, exclude_min=True, allow_infinity=False)
)
any_total = st.floats(allow_nan=False, allow_infinity=False)


def battery(
    limit_mw: float, capacity_mwhr: float = 40.0, limited_by: Limit = "energy", key: int = 0
) -> Candidate:
    return Candidate(key, capacity_mwhr, limit_mw, limited_by)


def allocations(result: Split) -> list[float]:
    return [mw for mw in result.allocated_mw if mw is not None]


def exact_sum(result: Split) -> Fraction:
    return sum(map(Fraction, allocations(result)), Fraction(0))


def tolerance(total_mw: float) -> float:
    return max(1e-6, 1e-12 * abs(total_mw))


# The guarantees


@quick
@given(total_mw=totals, group=plants, strategy=strategies)
def test_no_battery_gets_more_than_its_limit_or_the_wrong_sign(
    total_mw: float, group: list[Candidate], strategy: Strategy
) -> None:
    result = split(total_mw, group, strategy)
    sign = -1.0 if total_mw < 0.0 else 1.0
    for candidate, mw in zip(group, result.allocated_mw, strict=True):
        if mw is not None:
            assert 0.0 <= sign * mw <= candidate.limit_mw
            assert mw != 0.0 or math.copysign(1.0, mw) == 1.0


@quick
@given(total_mw=totals, group=plants, strategy=strategies)
def test_what_is_allocated_and_what_is_short_make_the_total(
    total_mw: float, group: list[Candidate], strategy: Strategy
) -> None:
    result = split(total_mw, group, strategy)
    missing = Fraction(total_mw) - exact_sum(result) - Fraction(result.shortfall_mw)
    assert abs(missing) <= 1e-6


@quick
@given(total_mw=totals, group=plants, strategy=strategies)
def test_short_is_only_what_no_battery_can_hold(
    total_mw: float, group: list[Candidate], strategy: Strategy
) -> None:
    result = split(total_mw, group, strategy)
    can_mw = math.fsum(candidate.limit_mw for candidate in group if candidate.excluded is None)
    if abs(total_mw) <= can_mw:
        assert result.shortfall_mw == 0.0
    else:
        # As math.fsum rounds; less than the rounding of the total is no shortfall.
        assert abs(result.shortfall_mw) == pytest.approx(abs(total_mw) - can_mw, abs=1e-9)
        assert result.shortfall_mw * total_mw >= 0.0
        for candidate, mw in zip(group, result.allocated_mw, strict=True):
            assert mw is None or abs(mw) == candidate.limit_mw
    assert math.copysign(1.0, result.shortfall_mw) == 1.0 or result.shortfall_mw < 0.0


@quick
@given(total_mw=totals, group=plants, strategy=strategies)
def test_an_excluded_battery_gets_no_setpoint_and_every_other_gets_one(
    total_mw: float, group: list[Candidate], strategy: Strategy
) -> None:
    result = split(total_mw, group, strategy)
    assert len(result.allocated_mw) == len(result.reasons) == len(group)
    for candidate, mw, reason in zip(group, result.allocated_mw, result.reasons, strict=True):
        assert (mw is None) == (candidate.excluded is not None)
        if candidate.excluded is not None:
            assert reason == candidate.excluded


@quick
@given(total_mw=totals, group=plants, strategy=strategies)
def test_the_reason_is_the_limit_exactly_where_the_limit_is_reached(
    total_mw: float, group: list[Candidate], strategy: Strategy
) -> None:
    result = split(total_mw, group, strategy)
    for candidate, mw, reason in zip(group, result.allocated_mw, result.reasons, strict=True):
        if mw is None:
            continue
        at_limit = total_mw != 0.0 and abs(mw) == candidate.limit_mw
        assert reason == (f"limited_by_{candidate.limited_by}" if at_limit else "share")


@quick
@given(total_mw=totals, group=plants, strategy=strategies, data=st.data())
def test_the_order_of_the_group_does_not_matter(
    total_mw: float, group: list[Candidate], strategy: Strategy, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(group))))
    result = split(total_mw, group, strategy)
    shuffled = split(total_mw, [group[position] for position in order], strategy)
    assert sorted(allocations(shuffled)) == pytest.approx(sorted(allocations(result)), abs=1e-9)
    for place, position in enumerate(order):
        before, after = result.allocated_mw[position], shuffled.allocated_mw[place]
        assert before == after == None or after == pytest.approx(before, abs=1e-9)  # noqa: E711
    assert shuffled.shortfall_mw == result.shortfall_mw


@quick
@given(total_mw=totals, group=plants, strategy=strategies)
def test_charging_is_the_mirror_of_discharging(
    total_mw: float, group: list[Candidate], strategy: Strategy
) -> None:
    result, mirrored = split(total_mw, group, strategy), split(-total_mw, group, strategy)
    assert allocations(mirrored) == [-mw for mw in allocations(result)]
    assert mirrored.shortfall_mw == -result.shortfall_mw
    assert mirrored.reasons == result.reasons


@settings(max_examples=500, deadline=None)
@given(total_mw=any_total, group=any_group, strategy=strategies)
def test_tiny_and_huge_numbers_keep_every_guarantee(
    total_mw: float, group: list[Candidate], strategy: Strategy
) -> None:
    result = split(total_mw, group, strategy)
    sign = -1.0 if total_mw < 0.0 else 1.0
    for candidate, mw in zip(group, result.allocated_mw, strict=True):
        assert mw is None or 0.0 <= sign * mw <= candidate.limit_mw
    assert math.isfinite(result.shortfall_mw)
    assert sign * result.shortfall_mw >= 0.0
    missing = Fraction(total_mw) - exact_sum(result) - Fraction(result.shortfall_mw)
    assert abs(missing) <= tolerance(total_mw)


@quick
@given(total_mw=totals, group=plants, strategy=strategies)
def test_what_a_battery_delivered_is_kept_and_the_rest_is_split_over_the_others(
    total_mw: float, group: list[Candidate], strategy: Strategy
) -> None:
    taking_part = [candidate for candidate in group if candidate.excluded is None]
    kept = [candidate for candidate in taking_part if candidate.limited_by == "delivery"]
    kept_mw = math.fsum(candidate.limit_mw for candidate in kept)
    if kept_mw >= abs(total_mw):
        return
    result = split(total_mw, taking_part, strategy)
    sign = math.copysign(1.0, total_mw)
    rest = split(total_mw - sign * kept_mw, [one for one in taking_part if one not in kept], strategy)
    by_candidate = list(zip(taking_part, allocations(result), strict=True))
    for candidate, mw in by_candidate:
        if candidate in kept:
            assert mw == pytest.approx(sign * candidate.limit_mw)
    others = [mw for candidate, mw in by_candidate if candidate not in kept]
    assert others == pytest.approx(allocations(rest), rel=1e-9, abs=1e-6)


# The strategies


@quick
@given(total_mw=totals, group=shared_plants)
def test_headroom_gives_each_the_same_part_of_what_it_can_hold(
    total_mw: float, group: list[Candidate]
) -> None:
    result = split(total_mw, group)
    can_mw = math.fsum(candidate.limit_mw for candidate in group if candidate.excluded is None)
    part = total_mw / can_mw if abs(total_mw) < can_mw else math.copysign(1.0, total_mw)
    for candidate, mw in zip(group, result.allocated_mw, strict=True):
        if mw is not None and total_mw != 0.0:
            assert mw == pytest.approx(candidate.limit_mw * part, rel=1e-9, abs=1e-9)


@quick
@given(total_mw=totals, group=shared_plants, strategy=st.sampled_from(["capacity", "equal"]))
def test_water_filling_leaves_one_level_that_only_full_batteries_lie_below(
    total_mw: float, group: list[Candidate], strategy: Strategy
) -> None:
    result = split(total_mw, group, strategy)
    levels, full_levels = [], []
    for candidate, mw in zip(group, result.allocated_mw, strict=True):
        if mw is not None:
            weight = candidate.capacity_mwhr if strategy == "capacity" else 1.0
            (levels if abs(mw) < candidate.limit_mw else full_levels).append(abs(mw) / weight)
    if levels:
        # Of 0.01 MWh, what settles the sum is 100 times as much of the level.
        assert max(levels) - min(levels) <= 1e-9 * (1.0 + max(levels))
        assert max(full_levels, default=0.0) <= max(levels) + 1e-9 * (1.0 + max(levels))


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("headroom", [10.0, 20.0, 30.0]), ("capacity", [20.0, 30.0, 10.0]), ("equal", [20.0, 20.0, 20.0])],
)
def test_each_strategy_shares_in_its_own_proportion(strategy: Strategy, expected: list[float]) -> None:
    group = [battery(20.0, 60.0), battery(40.0, 90.0), battery(60.0, 30.0)]
    assert split(60.0, group, strategy).allocated_mw == pytest.approx(expected)
    assert split(-60.0, group, strategy).allocated_mw == pytest.approx([-mw for mw in expected])


def test_what_a_full_battery_leaves_goes_to_the_others_in_their_proportion() -> None:
    group = [battery(5.0, 60.0), battery(100.0, 20.0), battery(100.0, 40.0)]
    result = split(35.0, group, "capacity")
    assert result.allocated_mw == pytest.approx([5.0, 10.0, 20.0])
    assert result.reasons == ["limited_by_energy", "share", "share"]
    assert result.shared_weight == 60.0


def test_headroom_is_the_default() -> None:
    group = [battery(20.0, 60.0), battery(40.0, 60.0)]
    assert split(30.0, group) == split(30.0, group, "headroom")


# Edges


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("total_mw", [NAN, INFINITY, -INFINITY])
def test_a_total_that_is_not_finite_is_refused(total_mw: float, strategy: Strategy) -> None:
    with pytest.raises(ValueError, match=f"total_mw is {total_mw}"):
        split(total_mw, [battery(10.0)], strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("limit_mw", [NAN, INFINITY, -1.0])
def test_a_limit_that_is_none_is_refused_by_name(limit_mw: float, strategy: Strategy) -> None:
    with pytest.raises(ValueError, match=f"limit_mw of asset 7 is {limit_mw}"):
        split(10.0, [battery(10.0), battery(limit_mw, key=7)], strategy)


@pytest.mark.parametrize("capacity_mwhr", [NAN, INFINITY, 0.0, -1.0])
def test_a_capacity_that_is_none_is_refused_by_name(capacity_mwhr: float) -> None:
    with pytest.raises(ValueError, match=f"capacity_mwhr of asset 7 is {capacity_mwhr}"):
        split(10.0, [battery(10.0), battery(10.0, capacity_mwhr, key=7)], "capacity")


def test_the_numbers_of_an_excluded_battery_are_ignored() -> None:
    gone = Candidate(1, NAN, NAN, "nameplate", "not_connected")
    assert split(5.0, [gone, battery(10.0)], "capacity").allocated_mw == [None, 5.0]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("total_mw", [12.5, -12.5, 0.0])
def test_an_empty_group_is_short_of_everything(total_mw: float, strategy: Strategy) -> None:
    result = split(total_mw, [], strategy)
    assert (result.allocated_mw, result.reasons, result.shortfall_mw) == ([], [], total_mw)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_total_of_nothing_sets_each_battery_to_0_mw(strategy: Strategy) -> None:
    group = [battery(10.0), battery(0.0), Candidate(2, 40.0, 0.0, "nameplate", "stale")]
    result = split(-0.0, group, strategy)
    assert result.allocated_mw == [0.0, 0.0, None]
    assert result.reasons == ["share", "share", "stale"]
    assert str(result.shortfall_mw) == "0.0"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_sum_that_is_the_total_but_for_its_last_bit_is_not_short(strategy: Strategy) -> None:
    # Together 0.1 and 0.2 are less than the 0.30000000000000004 that floats make of their sum.
    result = split(0.1 + 0.2, [battery(0.1), battery(0.2)], strategy)
    assert result.shortfall_mw == 0.0
    assert result.allocated_mw == [0.1, 0.2]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_batteries_are_settled_in_their_order(strategy: Strategy) -> None:
    # Three times a third of 0.1 is not 0.1: the first takes what rounding left.
    group = [battery(10.0, key=key) for key in range(7)]
    result = split(0.1, group, strategy)
    assert exact_sum(result) != 7 * Fraction(allocations(result)[1])
    assert len(set(allocations(result)[1:])) == 1


def test_rounding_is_settled_by_those_that_are_not_at_their_limit() -> None:
    # The battery that is full has the largest part by far.
    limits = [1.0, 1.0, 0.099609375, 1.0, 1.0]
    capacities = [1.0, 30.0, 636.0, 626.125, 626.125]
    result = split(0.30078125, list(map(battery, limits, capacities)), "capacity")
    assert result.allocated_mw[2] == 0.099609375
    assert result.reasons[2] == "limited_by_energy"


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("part", [0.001, 0.37, 0.9999, 1.01])
def test_ten_thousand_batteries_make_the_total_to_the_last_bit(strategy: Strategy, part: float) -> None:
    group = [
        battery(0.1 + (key * 7919 % 10_007) / 30.0, 0.3 + (key * 104_729 % 9973) / 7.0, key=key)
        for key in range(10_000)
    ]
    can_mw = math.fsum(candidate.limit_mw for candidate in group)
    total_mw = can_mw * part
    result = split(total_mw, group, strategy)
    assert math.fsum([*allocations(result), result.shortfall_mw]) == total_mw
    assert (result.shortfall_mw > 0.0) == (part > 1.0)
