"""What a battery may do and what it may not, over any nameplate, any step and any history."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.sim.batteries import PLAIN
from trioder.domain.assets import Asset, soc_pct
from trioder.domain.telemetry import BessState, status_of
from trioder.sim.bess import initial_state, tick_asset, with_setpoint

NAN, INFINITY = float("nan"), float("inf")

INSTANT = replace(PLAIN, ramp_rate_mw_per_min=1e9)


@st.composite
def assets(draw: st.DrawFn) -> Asset:
    min_mw = -draw(st.one_of(st.just(0.0), st.floats(0.1, 500.0)))
    min_soc_pct = draw(st.sampled_from([0.0, 5.0, 12.3, 40.0]))
    return replace(
        PLAIN,
        capacity_mwhr=draw(st.floats(0.01, 5000.0)),
        max_mw=draw(st.floats(0.1, 500.0)),
        min_mw=min_mw,
        charge_efficiency=draw(st.floats(0.3, 1.0)),
        discharge_efficiency=draw(st.floats(0.3, 1.0)),
        ramp_rate_mw_per_min=draw(st.floats(0.01, 1e5)),
        min_soc_pct=min_soc_pct,
        max_soc_pct=draw(st.sampled_from([100.0, 95.0, 71.7, 40.1])),
        aux_load_mw=draw(st.one_of(st.just(0.0), st.floats(0.0, -min_mw))),
        self_discharge_pct_per_day=draw(st.sampled_from([0.0, 0.0, 0.1, 5.0, 99.0])),
    )


setpoints = st.floats(-1000.0, 1000.0)
steps = st.one_of(
    st.floats(0.0, 100_000.0), st.sampled_from([0.0, 5e-324, 1e-300, 1e-9, 1.0, 4.0, 3600.0, 1e12, 1e308])
)
histories = st.lists(st.tuples(setpoints, steps), min_size=1, max_size=12)
quick = settings(max_examples=200, deadline=None)


def run(asset: Asset, state: BessState, history: list[tuple[float, float]]) -> list[BessState]:
    """The states that a history of (setpoint, step) leads through, the first one included."""
    states = [state]
    for mw, dt_secs in history:
        states.append(tick_asset(asset, with_setpoint(states[-1], mw), dt_secs))
    return states


# Limits


@quick
@given(asset=assets(), start_pct=st.floats(0.0, 100.0), history=histories)
def test_no_limit_is_ever_crossed(asset: Asset, start_pct: float, history: list[tuple[float, float]]) -> None:
    states = run(asset, initial_state(asset, start_pct), history)
    for before, after in pairwise(states):
        assert asset.min_mw <= after.current_mw <= asset.max_mw
        assert 0.0 <= after.available_discharge_mw <= asset.max_mw
        assert 0.0 <= after.available_charge_mw <= -asset.min_mw
        assert -after.available_charge_mw <= after.current_mw
        assert after.current_mw <= after.available_discharge_mw
        # It may have begun outside of its window; then it moves no further out.
        assert after.soc_mwhr <= max(before.soc_mwhr, asset.max_soc_mwhr)
        assert after.soc_mwhr >= 0.0
        if not asset.self_discharge_pct_per_day:
            assert after.soc_mwhr >= min(before.soc_mwhr, asset.min_soc_mwhr)


@pytest.mark.parametrize("limit_pct", [0.0, 100.0])
def test_at_a_limit_only_the_way_back_is_open(limit_pct: float) -> None:
    state = initial_state(INSTANT, limit_pct)
    outwards, inwards = (10.0, -10.0) if limit_pct == 0.0 else (-10.0, 10.0)
    assert tick_asset(INSTANT, with_setpoint(state, outwards), 4.0).soc_mwhr == state.soc_mwhr
    assert tick_asset(INSTANT, with_setpoint(state, outwards), 4.0).current_mw == 0.0
    assert tick_asset(INSTANT, with_setpoint(state, inwards), 4.0).current_mw == inwards


@quick
@given(asset=assets(), dt_secs=st.floats(0.1, 100_000.0))
def test_a_battery_run_empty_is_exactly_empty_and_reports_no_discharge(asset: Asset, dt_secs: float) -> None:
    asset = replace(asset, ramp_rate_mw_per_min=1e12, aux_load_mw=0.0, self_discharge_pct_per_day=0.0)
    state = with_setpoint(initial_state(asset, asset.max_soc_pct), asset.max_mw)
    steps_to_empty = asset.capacity_mwhr / asset.discharge_efficiency / (asset.max_mw * dt_secs / 3600.0)
    assume(steps_to_empty < 200)
    for _ in range(int(steps_to_empty) + 3):
        state = tick_asset(asset, state, dt_secs)
    assert state.soc_mwhr == asset.min_soc_mwhr
    assert state.current_mw == 0.0
    assert state.setpoint_mw == asset.max_mw
    assert status_of(state.current_mw) == "idle"


def test_a_battery_stops_at_its_soc_window() -> None:
    asset = replace(INSTANT, min_soc_pct=10.0, max_soc_pct=90.0)
    [*_, full] = run(asset, initial_state(asset), [(-20.0, 3600.0)] * 10)
    [*_, empty] = run(asset, initial_state(asset), [(25.0, 3600.0)] * 10)
    assert (full.soc_mwhr, full.current_mw) == (90.0, 0.0)
    assert (empty.soc_mwhr, empty.current_mw) == (10.0, 0.0)


@pytest.mark.parametrize(
    ("start_pct", "outwards_mw", "inwards_mw"), [(3.0, 20.0, -20.0), (99.0, -20.0, 20.0)]
)
def test_a_battery_outside_of_its_window_only_moves_inwards(
    start_pct: float, outwards_mw: float, inwards_mw: float
) -> None:
    asset = replace(INSTANT, min_soc_pct=10.0, max_soc_pct=90.0)
    state = initial_state(asset, start_pct)
    assert tick_asset(asset, with_setpoint(state, outwards_mw), 4.0)[:2] == (state.soc_mwhr, 0.0)
    assert tick_asset(asset, with_setpoint(state, inwards_mw), 4.0).current_mw == inwards_mw


def test_the_step_that_empties_a_battery_shows_its_mean_power() -> None:
    state = with_setpoint(initial_state(INSTANT, 10.0), 25.0)
    emptied = tick_asset(INSTANT, state, 3600.0)
    assert emptied.soc_mwhr == 0.0
    assert emptied.current_mw == pytest.approx(10.0 * 0.8)
    assert tick_asset(INSTANT, emptied, 3600.0).current_mw == 0.0


def test_available_power_is_what_the_energy_sustains_over_the_step() -> None:
    state = tick_asset(INSTANT, initial_state(INSTANT, 95.0), 1800.0)
    assert state.available_discharge_mw == 25.0
    assert state.available_charge_mw == pytest.approx(5.0 / (0.9 * 0.5))


# Energy


@quick
@given(asset=assets(), start_pct=st.floats(0.0, 100.0), history=histories)
def test_energy_is_conserved(asset: Asset, start_pct: float, history: list[tuple[float, float]]) -> None:
    asset = replace(asset, self_discharge_pct_per_day=0.0)
    states = run(asset, initial_state(asset, start_pct), history)
    for before, after, (_, dt_secs) in zip(states, states[1:], history, strict=False):
        cell_mw = after.current_mw + asset.aux_load_mw
        one_way = 1.0 / asset.discharge_efficiency if cell_mw > 0.0 else asset.charge_efficiency
        moved_mwhr = cell_mw * (dt_secs / 3600.0) * one_way
        # The meter's power is the difference of two, so its rounding goes with the larger of them.
        slack = 1e-12 * (asset.capacity_mwhr + asset.aux_load_mw * dt_secs / 3600.0)
        assert after.soc_mwhr == pytest.approx(before.soc_mwhr - moved_mwhr, rel=1e-12, abs=slack)


@quick
@given(asset=assets(), history=histories)
def test_a_round_trip_never_gains(asset: Asset, history: list[tuple[float, float]]) -> None:
    states = run(asset, initial_state(asset), history)
    meter_mwhr = sum(
        state.current_mw * dt_secs / 3600.0
        for state, (_, dt_secs) in zip(states[1:], history, strict=True)
        if state.current_mw
    )
    spent_mwhr = states[0].soc_mwhr - states[-1].soc_mwhr
    aux_mwhr = asset.aux_load_mw * sum(dt_secs / 3600.0 for _, dt_secs in history)
    # Whatever was delivered was taken from the store.
    assert meter_mwhr <= spent_mwhr + 1e-9 * (asset.capacity_mwhr + aux_mwhr)


def test_a_round_trip_returns_the_product_of_both_efficiencies() -> None:
    charged = tick_asset(INSTANT, with_setpoint(initial_state(INSTANT, 0.0), -20.0), 3600.0)
    [*_, empty] = run(INSTANT, charged, [(14.4, 3600.0)])
    assert charged.soc_mwhr == pytest.approx(18.0)
    assert empty.soc_mwhr == pytest.approx(0.0, abs=1e-12)
    assert empty.current_mw == pytest.approx(20.0 * 0.9 * 0.8)


@quick
@given(asset=assets(), mw=setpoints, last_mw=setpoints)
def test_one_long_step_equals_four_short_ones_away_from_the_limits(
    asset: Asset, mw: float, last_mw: float
) -> None:
    # Large enough for no limit of energy to be near, and no ramp under way at the end of the first second.
    asset = replace(asset, capacity_mwhr=1e5, ramp_rate_mw_per_min=1e9, min_soc_pct=0.0, max_soc_pct=100.0)
    state = with_setpoint(initial_state(asset), mw)._replace(current_mw=last_mw)
    once = tick_asset(asset, state, 4.0)
    for _ in range(4):
        state = tick_asset(asset, state, 1.0)
    assert state == pytest.approx(once, rel=1e-8)


@given(rate=st.floats(1.0, 1000.0), mw=setpoints)
def test_a_ramp_reaches_the_same_power_in_one_step_and_in_four(rate: float, mw: float) -> None:
    asset = replace(PLAIN, capacity_mwhr=1e5, ramp_rate_mw_per_min=rate)
    state = with_setpoint(initial_state(asset), mw)
    once = tick_asset(asset, state, 4.0)
    for _ in range(4):
        state = tick_asset(asset, state, 1.0)
    assert state.current_mw == pytest.approx(once.current_mw)


# Ramp


@quick
@given(asset=assets(), history=histories)
def test_the_ramp_is_kept_unless_physics_forbids_it(asset: Asset, history: list[tuple[float, float]]) -> None:
    states = run(asset, initial_state(asset), history)
    for before, after, (_, dt_secs) in zip(states, states[1:], history, strict=False):
        ramp_mw = asset.ramp_rate_mw_per_min * (dt_secs / 60.0)
        kept = abs(after.current_mw - before.current_mw) <= ramp_mw + 1e-9
        at_limit = (
            after.current_mw in (after.available_discharge_mw, -after.available_charge_mw)
            or after.current_mw <= 0.0 == after.available_discharge_mw
        )
        assert kept or at_limit


def test_a_ramp_goes_through_zero_at_one_rate() -> None:
    # 60 MW/min is 1 MW/s; the limits either side differ.
    state = with_setpoint(initial_state(PLAIN), 25.0)
    for _ in range(30):
        state = tick_asset(PLAIN, state, 1.0)
    assert state.current_mw == 25.0
    state = with_setpoint(state, -40.0)
    powers = []
    for _ in range(60):
        state = tick_asset(PLAIN, state, 1.0)
        powers.append(state.current_mw)
    assert powers[:45] == pytest.approx([25.0 - second for second in range(1, 46)])
    assert powers[45:] == [-20.0] * 15


# Aux load and self-discharge


def test_the_battery_carries_its_aux_load_behind_the_meter() -> None:
    asset = replace(INSTANT, aux_load_mw=2.0)
    state = tick_asset(asset, with_setpoint(initial_state(asset), 10.0), 3600.0)
    assert state.current_mw == 10.0
    assert state.soc_mwhr == pytest.approx(50.0 - 12.0 / 0.8)


def test_the_grid_carries_the_aux_load_of_an_empty_battery() -> None:
    asset = replace(INSTANT, aux_load_mw=2.0)
    state = tick_asset(asset, with_setpoint(initial_state(asset, 0.0), 10.0), 3600.0)
    assert (state.soc_mwhr, state.current_mw, state.available_discharge_mw) == (0.0, -2.0, 0.0)


def test_charging_at_the_meter_feeds_the_aux_load_first() -> None:
    asset = replace(INSTANT, aux_load_mw=2.0)
    state = tick_asset(asset, with_setpoint(initial_state(asset), -10.0), 3600.0)
    assert state.current_mw == -10.0
    assert state.soc_mwhr == pytest.approx(50.0 + 8.0 * 0.9)


def test_a_full_battery_still_takes_its_aux_load() -> None:
    asset = replace(INSTANT, aux_load_mw=2.0)
    state = tick_asset(asset, with_setpoint(initial_state(asset, 100.0), -10.0), 3600.0)
    assert (state.soc_mwhr, state.current_mw, state.available_charge_mw) == (100.0, -2.0, 2.0)


def test_self_discharge_takes_its_share_in_a_day_however_it_is_cut() -> None:
    asset = replace(PLAIN, self_discharge_pct_per_day=10.0)
    at_once = tick_asset(asset, initial_state(asset, 80.0), 86_400.0)
    [*_, hourly] = run(asset, initial_state(asset, 80.0), [(0.0, 3600.0)] * 24)
    assert at_once.soc_mwhr == pytest.approx(72.0)
    assert hourly.soc_mwhr == pytest.approx(72.0)


def test_self_discharge_goes_below_the_window_but_never_below_zero() -> None:
    asset = replace(PLAIN, self_discharge_pct_per_day=50.0, min_soc_pct=10.0)
    below = tick_asset(asset, initial_state(asset, 10.0), 86_400.0)
    assert below.soc_mwhr == pytest.approx(5.0)
    assert tick_asset(asset, below, 1e308).soc_mwhr == 0.0


# Steps and setpoints


@quick
@given(asset=assets(), start_pct=st.floats(0.0, 100.0), history=histories)
def test_a_step_of_no_time_moves_nothing(
    asset: Asset, start_pct: float, history: list[tuple[float, float]]
) -> None:
    state = run(asset, initial_state(asset, start_pct), history)[-1]
    after = tick_asset(asset, state, 0.0)
    assert after.soc_mwhr == state.soc_mwhr
    assert after.setpoint_mw == state.setpoint_mw
    if asset.min_soc_mwhr < state.soc_mwhr < asset.max_soc_mwhr:
        assert after.current_mw == state.current_mw


@quick
@given(asset=assets(), mw=st.floats(allow_nan=False, allow_infinity=False), dt_secs=steps)
def test_the_setpoint_is_never_altered(asset: Asset, mw: float, dt_secs: float) -> None:
    assert tick_asset(asset, with_setpoint(initial_state(asset), mw), dt_secs).setpoint_mw == mw


@quick
@given(asset=assets(), history=histories)
def test_the_same_inputs_give_the_same_outputs(asset: Asset, history: list[tuple[float, float]]) -> None:
    assert run(asset, initial_state(asset), history) == run(asset, initial_state(asset), history)


@quick
@given(asset=assets(), start_pct=st.floats(0.0, 100.0), history=histories)
def test_every_result_is_finite_and_no_zero_is_negative(
    asset: Asset, start_pct: float, history: list[tuple[float, float]]
) -> None:
    for state in run(asset, initial_state(asset, start_pct), history):
        for value in state._replace(setpoint_mw=0.0):
            assert math.isfinite(value)
            assert value != 0.0 or math.copysign(1.0, value) == 1.0


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize("name", ["soc_mwhr", "current_mw", "setpoint_mw"])
def test_a_state_that_is_not_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        tick_asset(PLAIN, initial_state(PLAIN)._replace(**{name: value}), 4.0)


@pytest.mark.parametrize("dt_secs", [NAN, INFINITY, -INFINITY, -1e-9])
def test_a_step_that_is_not_a_length_of_time_is_refused(dt_secs: float) -> None:
    with pytest.raises(ValueError, match=f"dt_secs is {dt_secs}"):
        tick_asset(PLAIN, initial_state(PLAIN), dt_secs)


def test_infinities_that_cancel_are_refused() -> None:
    state = initial_state(PLAIN)._replace(current_mw=INFINITY, setpoint_mw=-INFINITY)
    with pytest.raises(ValueError, match="current_mw is inf"):
        tick_asset(PLAIN, state, 4.0)


@pytest.mark.parametrize("mw", [NAN, INFINITY, -INFINITY])
def test_a_setpoint_that_is_not_finite_is_refused(mw: float) -> None:
    with pytest.raises(ValueError, match="mw is"):
        with_setpoint(initial_state(PLAIN), mw)


# States and samples


def test_a_battery_starts_at_rest_and_half_full() -> None:
    assert initial_state(PLAIN) == (50.0, 0.0, 0.0, 25.0, 20.0)


@pytest.mark.parametrize("start_pct", [-0.1, 100.1, NAN])
def test_a_start_outside_of_the_capacity_is_refused(start_pct: float) -> None:
    with pytest.raises(ValueError, match="soc_pct is"):
        initial_state(PLAIN, start_pct)


@given(asset=assets())
def test_a_full_battery_is_exactly_100_percent(asset: Asset) -> None:
    assert soc_pct(asset, initial_state(asset, 100.0).soc_mwhr) == 100.0
    assert soc_pct(asset, initial_state(asset, 0.0).soc_mwhr) == 0.0


@pytest.mark.parametrize(
    ("mw", "status"),
    [(0.11, "discharging"), (0.1, "idle"), (0.0, "idle"), (-0.1, "idle"), (-0.11, "charging")],
)
def test_the_status_has_an_idle_band(mw: float, status: str) -> None:
    assert status_of(mw) == status


def test_a_setpoint_above_the_limit_yields_the_limit() -> None:
    state = tick_asset(INSTANT, with_setpoint(initial_state(INSTANT), 30.0), 4.0)
    assert (state.setpoint_mw, state.current_mw, status_of(state.current_mw)) == (30.0, 25.0, "discharging")
    assert (state.available_discharge_mw, state.available_charge_mw) == (25.0, 20.0)
    assert soc_pct(INSTANT, state.soc_mwhr) == state.soc_mwhr  # of 100 MWh
