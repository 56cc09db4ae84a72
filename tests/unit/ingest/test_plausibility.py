"""What a battery cannot report by its nameplate, row by row and in whole columns."""

import math
import struct
from array import array

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trioder.domain.assets import Asset
from trioder.ingest.plausibility import Bounds, Row, Screen, impossible, is_too_fast

GOOD = Row(20.0, 1.0, 1.0, 10.0, 8.0)


def make_asset(
    max_mw: float = 10.0, min_mw: float = -8.0, capacity_mwhr: float = 40.0, ramp: float = 60.0
) -> Asset:
    return Asset(
        id="x",
        name="x",
        site_id="y",
        capacity_mwhr=capacity_mwhr,
        max_mw=max_mw,
        min_mw=min_mw,
        charge_efficiency=1.0,
        discharge_efficiency=1.0,
        ramp_rate_mw_per_min=ramp,
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"soc_mwhr": 40.8}, ""),
        ({"soc_mwhr": 40.9}, "soc_mwhr is 40.9; by the nameplate it must be within -0.8..40.8"),
        ({"soc_mwhr": -0.8}, ""),
        ({"soc_mwhr": -0.81}, "soc_mwhr is -0.81"),
        ({"current_mw": 11.0}, ""),
        ({"current_mw": 11.01}, "current_mw is 11.01; by the nameplate it must be within -8.8..11"),
        ({"current_mw": -8.8}, ""),
        ({"current_mw": -8.81}, "current_mw is -8.81"),
        ({"current_mw": -0.0}, ""),
        ({"current_mw": 5e-324}, ""),
        ({"setpoint_mw": 11.01}, "setpoint_mw is 11.01"),
        ({"setpoint_mw": math.nan}, "setpoint_mw is nan"),
        ({"available_discharge_mw": 11.01}, "available_discharge_mw is 11.01"),
        ({"available_discharge_mw": -0.1}, ""),
        ({"available_discharge_mw": -0.2}, "available_discharge_mw is -0.2"),
        ({"available_charge_mw": 8.81}, "available_charge_mw is 8.81"),
        ({"available_charge_mw": -8.0}, "available_charge_mw is -8"),
        ({"available_charge_mw": math.inf}, "available_charge_mw is inf"),
        ({"soc_mwhr": 1e308}, "soc_mwhr is 1e+308"),
    ],
)
def test_the_rule_names_the_value_and_the_limits(change: dict[str, float], reason: str) -> None:
    reason_given = impossible(Bounds.of(make_asset()), GOOD._replace(**change))
    assert reason_given.startswith(reason)
    assert bool(reason_given) == bool(reason)


def test_a_small_battery_may_be_half_a_megawatt_off() -> None:
    bounds = Bounds.of(make_asset(max_mw=1.0, min_mw=-1.0))
    assert (
        impossible(
            bounds, GOOD._replace(current_mw=-1.5, available_discharge_mw=1.0, available_charge_mw=1.0)
        )
        == ""
    )
    assert impossible(
        bounds, GOOD._replace(current_mw=-1.51, available_discharge_mw=1.0, available_charge_mw=1.0)
    )


@pytest.mark.parametrize(
    ("from_mw", "to_mw", "dt_s", "too_fast"),
    [
        # 1 MW/s by the nameplate, so 5 MW/s.
        (0.0, 5.0, 1.0, False),
        (0.0, 5.1, 1.0, True),
        (10.0, -8.0, 3.0, True),
        (10.0, -8.0, 4.0, False),
        # Clocks of whole seconds, and clocks that went back.
        (0.0, 5.0, 0.0, False),
        (0.0, 5.1, -3600.0, True),
        # After a gap, anything.
        (10.0, -8.0, 60.0, False),
        (math.nan, 5.0, 1.0, False),
        (5.0, math.nan, 1.0, False),
    ],
)
def test_a_step_is_too_fast_by_a_factor_of_five(
    from_mw: float, to_mw: float, dt_s: float, too_fast: bool
) -> None:
    assert is_too_fast(Bounds.of(make_asset()), from_mw, to_mw, dt_s) == too_fast


def test_noise_is_no_step_of_a_battery_that_hardly_moves() -> None:
    bounds = Bounds.of(make_asset(ramp=0.001))
    assert not is_too_fast(bounds, 5.0, 5.9, 1.0)
    assert is_too_fast(bounds, 5.0, 6.1, 1.0)


def bits(pattern: int) -> float:
    value: float = struct.unpack("<d", struct.pack("<Q", pattern))[0]
    return value


anything = st.one_of(
    st.floats(),
    st.floats(-12.0, 12.0),
    st.sampled_from([8.8, 11.0, -8.8, -0.1, 0.1, 40.8, -0.8, -0.0, math.nan, math.inf, -math.inf, 5e-324]),
    # Every NaN and every denormal there is.
    st.integers(0, 2**64 - 1).map(bits),
)
assets = st.builds(
    make_asset,
    max_mw=st.floats(0.1, 500.0),
    min_mw=st.floats(-500.0, 0.0),
    capacity_mwhr=st.floats(0.1, 2000.0),
    ramp=st.floats(0.01, 10_000.0),
)


@given(
    st.lists(st.tuples(assets, st.builds(Row, anything, anything, anything, anything, anything)), max_size=9)
)
@example([(make_asset(), Row(*[math.nan] * 5))] * 3)
@example([(make_asset(), Row(*[-math.nan] * 5)), (make_asset(), GOOD)])
@example([(make_asset(), Row(*[-math.inf] * 5)), (make_asset(), GOOD), (make_asset(), Row(*[-0.0] * 5))])
def test_a_screen_finds_the_rows_that_break_the_rule_and_no_others(
    given_rows: list[tuple[Asset, Row]],
) -> None:
    screen = Screen([asset for asset, _ in given_rows])
    columns = [array("d", [row[at] for _, row in given_rows]) for at in range(5)]
    expected = [at for at, (asset, row) in enumerate(given_rows) if impossible(Bounds.of(asset), row)]
    assert screen.impossible_rows(columns) == expected
    assert all(screen.why_impossible(columns, row) for row in expected)


@pytest.mark.parametrize("column", range(5))
@pytest.mark.parametrize("row", [0, 1, 498, 999])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308, -1e308, 41.0, -41.0])
def test_one_value_in_a_large_batch_is_found_wherever_it_is(column: int, row: int, value: float) -> None:
    screen = Screen([make_asset()] * 1000)
    columns = [array("d", [number]) * 1000 for number in GOOD]
    assert screen.impossible_rows(columns) == []
    columns[column][row] = value
    assert screen.impossible_rows(columns) == [row]


@given(
    st.lists(st.tuples(assets, anything, anything), max_size=9),
    st.one_of(st.floats(-10.0, 100.0), st.just(1.0)),
)
def test_a_screen_finds_the_steps_that_are_too_fast(
    rows: list[tuple[Asset, float, float]], dt_s: float
) -> None:
    bounds = [Bounds.of(asset) for asset, _, _ in rows]
    # As the caller has it: what is beyond the nameplate is not compared with.
    within = [
        (b, from_mw if b.mw_low <= from_mw <= b.mw_high else math.nan, min(max(to_mw, b.mw_low), b.mw_high))
        for b, (_, from_mw, to_mw) in zip(bounds, rows, strict=True)
    ]
    expected = [at for at, (b, from_mw, to_mw) in enumerate(within) if is_too_fast(b, from_mw, to_mw, dt_s)]
    found = Screen([asset for asset, _, _ in rows]).too_fast_rows(
        array("d", [from_mw for _, from_mw, _ in within]), array("d", [to_mw for _, _, to_mw in within]), dt_s
    )
    assert found == expected
