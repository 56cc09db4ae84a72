"""A battery applies its setpoints in time, and acknowledges them."""

import math

import pytest

from tests.unit.agent.parts import make_battery, make_setpoint
from trioder.agent.battery import Battery
from trioder.domain.assets import Asset
from trioder.domain.dispatch import Setpoint
from trioder.domain.telemetry import BessState
from trioder.sim.bess import tick_asset
from trioder.wire.records import Acknowledgement


def apply_pending(battery: Battery, now_s: float) -> list[Acknowledgement]:
    """Let the battery apply_pending; return the answers."""
    battery.apply_pending(now_s)
    return [reported for reported in battery.take_messages() if isinstance(reported, Acknowledgement)]


def deliver(battery: Battery, dispatch: Setpoint, now_s: float) -> Acknowledgement:
    """Deliver a setpoint; return its last acknowledgement, after whatever ended by then."""
    battery.offer(dispatch)
    return next(
        answer for answer in apply_pending(battery, now_s) if answer.dispatch_id == dispatch.dispatch_id
    )


def test_the_time_before_a_dispatch_is_spent_at_the_old_setpoint() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(36.0, dispatch_id="a"), 0.0)
    battery.advance(100.0)
    deliver(battery, make_setpoint(0.0, dispatch_id="b"), 200.0)
    # 36 MW for 200 s are 2 MWh.
    assert battery.state.soc_mwhr == pytest.approx(48.0)
    assert battery.state.setpoint_mw == 0.0


def test_a_setpoint_with_a_duration_ends_in_0_mw_at_its_own_instant() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(36.0, duration_s=100), 10.0)
    # Far beyond the end in one step, as after a suspend.
    battery.advance(1000.0)
    assert battery.state.soc_mwhr == pytest.approx(49.0)
    assert (battery.state.setpoint_mw, battery.state.current_mw) == (0.0, 0.0)
    assert battery.lease_end_s == math.inf


def test_a_setpoint_without_a_duration_holds_and_takes_the_old_end_away() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(10.0, duration_s=100, dispatch_id="a"), 0.0)
    deliver(battery, make_setpoint(-5.0, dispatch_id="b"), 50.0)
    battery.advance(1000.0)
    assert battery.state.setpoint_mw == -5.0


def test_a_duration_of_no_time_ends_at_once() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(10.0, duration_s=0), 5.0)
    battery.advance(5.0)
    assert battery.state.setpoint_mw == 0.0


def test_a_repeated_setpoint_is_acknowledged_again_and_not_prolonged() -> None:
    battery = make_battery()
    first = deliver(battery, make_setpoint(80.0, duration_s=100), 0.0)
    again = deliver(battery, make_setpoint(80.0, duration_s=100), 60.0)
    assert (first.status, first.remaining_s) == ("clamped", 100.0)
    assert (again.status, again.reason, again.remaining_s) == (first.status, first.reason, 40.0)
    assert battery.lease_end_s == 100.0


def test_a_setpoint_repeated_after_its_end_is_reported_as_ended_and_not_restarted() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(10.0, duration_s=100), 0.0)
    [ended] = apply_pending(battery, 150.0)
    again = deliver(battery, make_setpoint(10.0, duration_s=100), 160.0)
    assert (again.status, again.reason) == (ended.status, ended.reason) == ("completed", ended.reason)
    assert battery.state.setpoint_mw == 0.0


def test_dispatches_without_an_id_are_all_new() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(10.0, dispatch_id=""), 0.0)
    deliver(battery, make_setpoint(20.0, dispatch_id=""), 1.0)
    assert battery.state.setpoint_mw == 20.0


def test_a_power_within_the_limits_is_applied() -> None:
    answer = deliver(make_battery(), make_setpoint(-40.0), 0.0)
    assert (answer.status, answer.reason) == ("applied", None)


@pytest.mark.parametrize(("mw", "held"), [(80.0, "50"), (-41.0, "-40")])
def test_a_power_beyond_the_limits_is_clamped_and_the_limits_are_named(mw: float, held: str) -> None:
    answer = deliver(make_battery(), make_setpoint(mw), 0.0)
    assert answer.status == "clamped"
    assert answer.reason == f"{mw:g} MW is outside of -40..50 MW; held at {held} MW"


@pytest.mark.parametrize("mw", [math.nan, math.inf, -math.inf])
def test_no_number_is_rejected_and_changes_nothing(mw: float) -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(10.0, duration_s=100, dispatch_id="a"), 0.0)
    answer = deliver(battery, make_setpoint(mw, dispatch_id="b"), 0.0)
    assert answer.status == "rejected"
    assert str(mw) in (answer.reason or "")
    assert (battery.state.setpoint_mw, battery.lease_end_s) == (10.0, 100.0)


def test_the_newest_of_two_dispatches_takes_the_place_of_the_other() -> None:
    battery = make_battery()
    assert battery.offer(make_setpoint(10.0, dispatch_id="a")) is None
    superseded = battery.offer(make_setpoint(20.0, dispatch_id="b"))
    assert superseded == make_setpoint(10.0, dispatch_id="a")
    assert [answer.dispatch_id for answer in apply_pending(battery, 0.0)] == ["b"]
    assert not battery.is_notified
    assert apply_pending(battery, 0.0) == []


def test_a_tick_that_raises_leaves_the_last_good_state_and_the_dispatch_waiting() -> None:
    broken = True

    def tick(asset: Asset, state: BessState, dt_secs: float) -> BessState:
        if broken:
            raise ZeroDivisionError
        return tick_asset(asset, state, dt_secs)

    battery = make_battery(tick=tick)
    before = battery.state
    battery.offer(make_setpoint(36.0))
    with pytest.raises(ZeroDivisionError):
        battery.apply_pending(10.0)
    assert battery.state == before
    assert battery.is_notified
    broken = False
    assert [answer.status for answer in apply_pending(battery, 20.0)] == ["applied"]
    battery.advance(120.0)
    assert battery.state.soc_mwhr == pytest.approx(49.0)


def test_an_instant_that_has_passed_changes_nothing() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(36.0), 10.0)
    battery.advance(20.0)
    before = battery.state
    battery.advance(15.0)
    assert battery.state == before
