"""The holdable power, against what the battery model then does."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.sim import batteries
from trioder.domain.assets import Asset
from trioder.domain.holdable import holdable, holdable_mw
from trioder.domain.telemetry import BessState
from trioder.sim.bess import initial_state, tick_asset, with_setpoint

NAN, INFINITY = float("nan"), float("inf")

PLAIN = replace(batteries.PLAIN, ramp_rate_mw_per_min=6000.0)

quick = settings(max_examples=150, deadline=None)
hours_of_hold = st.sampled_from([60.0, 300.0, 900.0])
windows = st.sampled_from([0.0, 4.0, 20.0, 60.0])
steps = st.sampled_from([1.0, 4.0])


@st.composite
def assets(draw: st.DrawFn) -> Asset:
    min_mw = -draw(st.one_of(st.just(0.0), st.floats(0.1, 200.0)))
    return replace(
        PLAIN,
        # From 9 s to some days of its rating, so that each limit has its turn.
        capacity_mwhr=draw(st.floats(0.5, 2000.0)),
        max_mw=draw(st.floats(0.1, 200.0)),
        min_mw=min_mw,
        charge_efficiency=draw(st.floats(0.5, 1.0)),
        discharge_efficiency=draw(st.floats(0.5, 1.0)),
        ramp_rate_mw_per_min=draw(st.one_of(st.floats(0.1, 100.0), st.floats(100.0, 1e5))),
        min_soc_pct=draw(st.sampled_from([0.0, 5.0, 40.0])),
        max_soc_pct=draw(st.sampled_from([100.0, 95.0, 71.7])),
        aux_load_mw=draw(st.one_of(st.just(0.0), st.floats(0.0, -min_mw))),
        self_discharge_pct_per_day=draw(st.sampled_from([0.0, 0.0, 5.0, 90.0])),
    )


@st.composite
def batteries(draw: st.DrawFn) -> tuple[Asset, BessState]:
    asset = draw(assets())
    mw = asset.min_mw + draw(st.floats(0.0, 1.0)) * (asset.max_mw - asset.min_mw)
    quarter_hours = draw(st.floats(0.0, 1.5))
    soc_mwhr = draw(
        st.one_of(
            st.floats(0.0, asset.capacity_mwhr),
            # Near either end of the window, where the energy is what limits.
            st.just(asset.min_soc_mwhr + quarter_hours * 0.25 * asset.max_mw),
            st.just(asset.max_soc_mwhr + quarter_hours * 0.25 * asset.min_mw),
            st.sampled_from([0.0, asset.min_soc_mwhr, asset.max_soc_mwhr, asset.capacity_mwhr]),
        )
    )
    return asset, initial_state(asset)._replace(
        soc_mwhr=min(max(soc_mwhr, 0.0), asset.capacity_mwhr),
        current_mw=min(max(mw, asset.min_mw), asset.max_mw),
    )


def course(asset: Asset, state: BessState, mw: float, *, hold_s: float, dt_secs: float) -> list[BessState]:
    """The states at the end of each step, from the setpoint on."""
    state = with_setpoint(state, mw)
    states = []
    for _ in range(int(hold_s / dt_secs)):
        state = tick_asset(asset, state, dt_secs)
        states.append(state)
    return states


@quick
@given(battery=batteries(), hold_s=hours_of_hold, ramp_s=windows, dt_secs=steps, charging=st.booleans())
def test_what_is_holdable_is_reached_in_time_and_held_within_every_limit(
    battery: tuple[Asset, BessState], hold_s: float, ramp_s: float, dt_secs: float, charging: bool
) -> None:
    asset, state = battery
    mw, _ = holdable(asset, state.soc_mwhr, state.current_mw, hold_s=hold_s, ramp_s=ramp_s, charging=charging)
    assume(mw > 0.0)
    sign = -1.0 if charging else 1.0
    states = course(asset, state, sign * mw, hold_s=hold_s, dt_secs=dt_secs)
    # The last step may lack what all have lost to rounding, and a step is short.
    slack_mw = 1e-9 * mw + 1e-13 * len(states) * asset.capacity_mwhr * 3600.0 / dt_secs
    for position, after in enumerate(states, start=1):
        if position * dt_secs >= ramp_s:
            assert sign * after.current_mw >= mw - slack_mw
        assert asset.min_mw <= after.current_mw <= asset.max_mw
        assert after.soc_mwhr <= max(state.soc_mwhr, asset.max_soc_mwhr)
        if not asset.self_discharge_pct_per_day:
            assert after.soc_mwhr >= min(state.soc_mwhr, asset.min_soc_mwhr)


@quick
@given(
    asset=assets(), share=st.floats(0.01, 0.98), hold_s=hours_of_hold, dt_secs=steps, charging=st.booleans()
)
def test_one_percent_more_than_the_energy_holds_falls_short(
    asset: Asset, share: float, hold_s: float, dt_secs: float, charging: bool
) -> None:
    # A ramp up saves energy and self-discharge is counted in full; without both the bound is exact.
    asset = replace(
        asset,
        capacity_mwhr=1e4,
        min_mw=min(asset.min_mw, -0.1),
        aux_load_mw=asset.aux_load_mw * 0.9,
        ramp_rate_mw_per_min=1e9,
        self_discharge_pct_per_day=0.0,
    )
    # As much energy, or as much room, as `share` of the rating takes.
    if charging:
        cell_mwhr = share * (-asset.min_mw - asset.aux_load_mw) * asset.charge_efficiency * hold_s / 3600.0
        soc_mwhr, sign = asset.max_soc_mwhr - cell_mwhr, -1.0
    else:
        cell_mwhr = (share * asset.max_mw + asset.aux_load_mw) / asset.discharge_efficiency * hold_s / 3600.0
        soc_mwhr, sign = asset.min_soc_mwhr + cell_mwhr, 1.0
    mw, limit = holdable(asset, soc_mwhr, 0.0, hold_s=hold_s, ramp_s=4.0, charging=charging)
    assert limit == "energy"
    more_mw = mw * 1.01
    state = initial_state(asset)._replace(soc_mwhr=soc_mwhr)
    states = course(asset, state, sign * more_mw, hold_s=hold_s, dt_secs=dt_secs)
    assert min(sign * after.current_mw for after in states) < more_mw * (1.0 - 1e-6)


@quick
@given(battery=batteries(), hold_s=hours_of_hold, ramp_s=windows)
def test_both_directions_are_magnitudes_within_the_nameplate(
    battery: tuple[Asset, BessState], hold_s: float, ramp_s: float
) -> None:
    asset, state = battery
    discharge_mw, charge_mw = holdable_mw(
        asset, state.soc_mwhr, state.current_mw, hold_s=hold_s, ramp_s=ramp_s
    )
    assert 0.0 <= discharge_mw <= asset.max_mw
    assert 0.0 <= charge_mw <= -asset.min_mw
    assert math.copysign(1.0, discharge_mw) == math.copysign(1.0, charge_mw) == 1.0


@quick
@given(battery=batteries(), ramp_s=windows, charging=st.booleans())
def test_what_is_held_for_longer_is_never_more(
    battery: tuple[Asset, BessState], ramp_s: float, charging: bool
) -> None:
    asset, state = battery
    powers = [
        holdable(asset, state.soc_mwhr, state.current_mw, hold_s=hold_s, ramp_s=ramp_s, charging=charging)[0]
        for hold_s in (4.0, 60.0, 900.0, 86_400.0, 366 * 86_400.0)
    ]
    for shorter_mw, longer_mw in pairwise(powers):
        assert longer_mw <= shorter_mw * (1.0 + 1e-9) + 1e-9


@pytest.mark.parametrize(
    ("soc_mwhr", "current_mw", "rate", "discharge", "charge"),
    [
        # Half full it is its nameplate's.
        (50.0, 0.0, 6000.0, (25.0, "nameplate"), (20.0, "nameplate")),
        # 5 MWh and an efficiency of 0.8 are 4 MW for an hour; 9 MWh of room and 0.9 are 10 MW.
        (5.0, 0.0, 6000.0, (4.0, "energy"), (20.0, "nameplate")),
        (91.0, 0.0, 6000.0, (25.0, "nameplate"), (10.0, "energy")),
        (0.0, 0.0, 6000.0, (0.0, "energy"), (20.0, "nameplate")),
        (100.0, 0.0, 6000.0, (25.0, "nameplate"), (0.0, "energy")),
        # 10 MW in the minute, from where it is.
        (50.0, 0.0, 10.0, (10.0, "ramp"), (10.0, "ramp")),
        (50.0, 12.0, 10.0, (22.0, "ramp"), (0.0, "ramp")),
        (50.0, -15.0, 10.0, (0.0, "ramp"), (20.0, "nameplate")),
    ],
)
def test_the_lowest_of_nameplate_energy_and_ramp_is_reported(
    soc_mwhr: float,
    current_mw: float,
    rate: float,
    discharge: tuple[float, str],
    charge: tuple[float, str],
) -> None:
    asset = replace(PLAIN, ramp_rate_mw_per_min=rate)
    for charging, (mw, limit) in ((False, discharge), (True, charge)):
        found = holdable(asset, soc_mwhr, current_mw, hold_s=3600.0, ramp_s=60.0, charging=charging)
        assert found == (pytest.approx(mw), limit)


def test_the_way_down_from_more_takes_its_energy_first() -> None:
    # From 25 MW at 60 MW/h: 10 MWh at the meter are 5 MW for an hour after 20 minutes at 15 MW on average.
    asset = replace(PLAIN, ramp_rate_mw_per_min=1.0)
    mw, limit = holdable(asset, 25.0 / 3.0 / 0.8, 25.0, hold_s=3600.0, ramp_s=60.0, charging=False)
    assert (mw, limit) == (pytest.approx(5.0), "energy")


def test_a_battery_that_runs_empty_on_the_way_down_holds_nothing() -> None:
    asset = replace(PLAIN, ramp_rate_mw_per_min=0.1)
    assert holdable(asset, 5.0, 25.0, hold_s=3600.0, ramp_s=60.0, charging=False) == (0.0, "energy")


def test_the_grid_feeds_the_aux_load_of_a_full_battery_for_ever() -> None:
    asset = replace(PLAIN, aux_load_mw=2.0)
    assert holdable_mw(asset, 100.0, 0.0, hold_s=3600.0, ramp_s=60.0) == (25.0, 2.0)


def test_a_full_battery_that_still_charges_is_fed_its_aux_load_once_its_power_has_ramped_down() -> None:
    asset = replace(PLAIN, aux_load_mw=2.0, ramp_rate_mw_per_min=1.0)
    assert holdable(asset, 100.0, -20.0, hold_s=900.0, ramp_s=60.0, charging=True) == (2.0, "energy")


def test_self_discharge_is_taken_off_what_can_be_discharged_and_adds_no_room() -> None:
    asset = replace(PLAIN, self_discharge_pct_per_day=50.0)
    discharge_mw, charge_mw = holdable_mw(asset, 90.0, 0.0, hold_s=86_400.0, ramp_s=60.0)
    assert discharge_mw == pytest.approx(45.0 * 0.8 / 24.0)
    assert charge_mw == pytest.approx(10.0 / 0.9 / 24.0)


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize("name", ["soc_mwhr", "current_mw", "hold_s", "ramp_s"])
def test_a_number_that_is_not_finite_is_refused(name: str, value: float) -> None:
    numbers = {"soc_mwhr": 50.0, "current_mw": 0.0, "hold_s": 900.0, "ramp_s": 60.0, name: value}
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        holdable_mw(PLAIN, **numbers)


@pytest.mark.parametrize(("hold_s", "ramp_s"), [(0.0, 0.0), (-1.0, 0.0), (900.0, -1.0)])
def test_a_time_that_is_none_is_refused(hold_s: float, ramp_s: float) -> None:
    with pytest.raises(ValueError, match="it must be >"):
        holdable_mw(PLAIN, 50.0, 0.0, hold_s=hold_s, ramp_s=ramp_s)


@quick
@given(
    battery=batteries(),
    hold_s=hours_of_hold,
    ramp_s=windows,
    charging=st.booleans(),
    available_mw=st.floats(0.0, 250.0),
)
def test_what_the_device_reports_as_available_bounds_it_at_every_horizon(
    battery: tuple[Asset, BessState], hold_s: float, ramp_s: float, charging: bool, available_mw: float
) -> None:
    asset, (soc_mwhr, current_mw, *_) = battery
    unbounded_mw, limit = holdable(
        asset, soc_mwhr, current_mw, hold_s=hold_s, ramp_s=ramp_s, charging=charging
    )
    bounded = holdable(
        asset,
        soc_mwhr,
        current_mw,
        hold_s=hold_s,
        ramp_s=ramp_s,
        charging=charging,
        available_mw=available_mw,
    )
    if available_mw < unbounded_mw:
        assert bounded == (available_mw, "available")
    else:
        assert bounded == (unbounded_mw, limit)


@quick
@given(battery=batteries(), dt_secs=steps, charging=st.booleans())
def test_what_the_model_reports_as_available_does_not_limit_what_it_can_hold(
    battery: tuple[Asset, BessState], dt_secs: float, charging: bool
) -> None:
    """It is of one pulse and has no ramp in it, so it is above what can be held for longer."""
    asset, state = battery
    # The step begins with this state, and its report is of it.
    after = tick_asset(asset, state, dt_secs)
    available_mw = after.available_charge_mw if charging else after.available_discharge_mw
    for hold_s in (60.0, 900.0, 3600.0):
        held_mw, _ = holdable(
            asset, state.soc_mwhr, state.current_mw, hold_s=hold_s, ramp_s=4.0, charging=charging
        )
        assert held_mw <= available_mw * (1.0 + 1e-9) + 1e-9


@pytest.mark.parametrize("available_mw", [NAN, INFINITY, -1.0])
def test_an_available_power_that_cannot_be_is_refused(available_mw: float) -> None:
    with pytest.raises(ValueError, match="available_mw is"):
        holdable(PLAIN, 50.0, 0.0, hold_s=60.0, ramp_s=4.0, charging=False, available_mw=available_mw)
