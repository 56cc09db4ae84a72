"""What each fault makes of a battery's physics and of its report, alone and with others."""

import math
from collections.abc import Sequence

import pytest

from tests.unit.sim.batteries import PLAIN
from trioder.domain.quality import Quality
from trioder.domain.scenario import DEVICE_ACTIONS
from trioder.domain.telemetry import BessState
from trioder.sim.bess import initial_state, tick_asset, with_setpoint
from trioder.sim.faults import (
    BeyondNameplate,
    Derate,
    Fault,
    FlagBad,
    Freeze,
    Ignore,
    ReportNaN,
    Trip,
    WrongSign,
    compose_ticks,
    make_fault,
    ramp_factor,
)


def run(faults: Sequence[Fault], *setpoints: float, start: BessState | None = None) -> list[BessState]:
    """A minute at each setpoint, which is time for any ramp."""
    tick = compose_ticks(tick_asset, list(faults))
    state = start or initial_state(PLAIN)
    states = []
    for mw in setpoints:
        state = tick(PLAIN, with_setpoint(state, mw), 60.0)
        states.append(state)
    return states


def at(mw: float) -> BessState:
    """The state of the battery that has run at a power for a minute."""
    [state] = run([], mw)
    return state


def test_a_tripped_battery_is_at_0_mw_at_once_and_can_do_nothing() -> None:
    [state] = run([Trip()], 20.0, start=at(20.0))
    assert state == (at(20.0).soc_mwhr, 0.0, 0.0, 0.0, 0.0)


def test_a_trip_needs_no_time_however_slow_the_ramp_is() -> None:
    tick = compose_ticks(tick_asset, [Trip()])
    # 60 MW/min.
    assert tick(PLAIN, at(20.0), 1.0).current_mw == 0.0


def test_it_stays_at_0_mw_when_it_is_back() -> None:
    [tripped] = run([Trip()], 20.0, start=at(20.0))
    back = tick_asset(PLAIN, tripped, 60.0)
    assert (back.current_mw, back.setpoint_mw) == (0.0, 0.0)
    assert back.available_discharge_mw == PLAIN.max_mw


@pytest.mark.parametrize(("setpoint_mw", "power_mw"), [(20.0, 12.5), (-20.0, -10.0), (5.0, 5.0)])
def test_a_derated_battery_keeps_its_setpoint_and_obeys_it_within_its_limits(
    setpoint_mw: float, power_mw: float
) -> None:
    [state] = run([Derate(lambda: 0.5)], setpoint_mw)
    assert (state.setpoint_mw, state.current_mw) == (setpoint_mw, power_mw)
    assert (state.available_discharge_mw, state.available_charge_mw) == (12.5, 10.0)


def test_a_derate_to_0_stops_the_battery_with_its_own_ramp() -> None:
    tick = compose_ticks(tick_asset, [Derate(lambda: 0.0)])
    state = tick(PLAIN, at(20.0), 5.0)
    # 60 MW/min.
    assert state.current_mw == pytest.approx(15.0)
    assert state.available_discharge_mw == 0.0


@pytest.mark.parametrize(
    ("since_s", "left_s", "expected"),
    [
        (0.0, 100.0, 1.0),
        (5.0, 95.0, 0.8),
        (10.0, 90.0, 0.6),
        (100.0, 0.0, 0.6),
        (105.0, -5.0, 0.7),
        (120.0, -20.0, 1.0),
        (130.0, -30.0, 1.0),
    ],
)
def test_a_derate_is_ramped_both_ways(since_s: float, left_s: float, expected: float) -> None:
    factor = ramp_factor(0.6, since_s=since_s, left_s=left_s, over_s=10.0, back_s=20.0)
    assert factor == pytest.approx(expected)


def test_a_derate_without_ramps_is_a_step() -> None:
    assert ramp_factor(0.6, since_s=0.0, left_s=math.inf) == 0.6
    assert ramp_factor(0.6, since_s=10.0, left_s=-0.001) == 1.0


def test_a_battery_that_ignores_setpoints_reports_them_and_stays_where_it_is() -> None:
    first, second = run([Ignore()], 10.0, -5.0)
    assert (first.current_mw, second.current_mw) == (10.0, 10.0)
    assert (first.setpoint_mw, second.setpoint_mw) == (10.0, -5.0)


def reported(fault: Fault, mw: float) -> tuple[BessState, Quality]:
    return fault.report(PLAIN, (at(mw), Quality.GOOD))


def test_frozen_telemetry_is_the_first_row_with_its_quality() -> None:
    fault = Freeze()
    first = fault.report(PLAIN, (at(3.0), Quality.BAD))
    assert fault.report(PLAIN, (at(20.0), Quality.GOOD)) == first == (at(3.0), Quality.BAD)


def test_measurements_are_nan_and_nothing_else() -> None:
    state, quality = reported(ReportNaN(), 20.0)
    assert math.isnan(state.current_mw)
    assert math.isnan(state.soc_mwhr)
    assert (state[2:], quality) == (at(20.0)[2:], Quality.GOOD)


def test_a_wrong_sign_is_of_the_power_alone() -> None:
    assert reported(WrongSign(), 20.0) == (at(20.0)._replace(current_mw=-20.0), Quality.GOOD)


@pytest.mark.parametrize(("mw", "expected"), [(20.0, 37.5), (0.0, 37.5), (-5.0, -30.0)])
def test_values_beyond_the_nameplate_have_the_direction_of_the_power(mw: float, expected: float) -> None:
    state, _ = reported(BeyondNameplate(1.5), mw)
    assert state[1:] == (expected, mw, 37.5, 30.0)


def test_a_flagged_row_has_its_true_values() -> None:
    assert reported(FlagBad(), 20.0) == (at(20.0), Quality.BAD)


@pytest.mark.parametrize("order", [1, -1])
def test_a_trip_wins_over_other_faults_in_any_order(order: int) -> None:
    faults = [Trip(), Derate(lambda: 0.5), Ignore()][::order]
    [state] = run(faults, 20.0, start=at(20.0))
    assert state[1:] == (0.0, 0.0, 0.0, 0.0)
    # Nor is there any power once the trip is over.
    [after] = run(faults[1:] if order == 1 else faults[:-1], 0.0, start=state)
    assert after.current_mw == 0.0


def test_of_two_derates_the_lower_limit_rules() -> None:
    for factors in ((0.5, 0.8), (0.8, 0.5)):
        faults = [Derate(lambda factor=factor: factor) for factor in factors]  # type: ignore[misc]
        [state] = run(faults, 20.0)
        assert (state.setpoint_mw, state.current_mw, state.available_discharge_mw) == (20.0, 12.5, 12.5)


@pytest.mark.parametrize("name", DEVICE_ACTIONS)
def test_every_device_action_has_a_fault_that_does_something(name: str) -> None:
    fault = make_fault(name, {"factor": 1.5}, factor=lambda: 0.5)  # type: ignore[arg-type]  # of the list
    assert fault.changes_physics or fault.changes_report or fault.refusal


@pytest.mark.parametrize("fault", [Trip(), Derate(lambda: 0.3), Ignore()])
def test_energy_and_power_agree_whatever_the_fault(fault: Fault) -> None:
    before = at(20.0)
    [after] = run([fault], -15.0, start=before)
    mwhr = after.current_mw / 60.0
    moved = mwhr / PLAIN.discharge_efficiency if mwhr > 0 else mwhr * PLAIN.charge_efficiency
    assert before.soc_mwhr - after.soc_mwhr == pytest.approx(moved)
