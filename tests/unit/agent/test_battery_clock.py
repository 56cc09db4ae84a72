"""No clock that is wrong, is set, or stood still lets a battery hold a setpoint beyond its duration."""

import math

import pytest

from tests.unit.agent.parts import START_UNIX_S, make_asset, make_setpoint
from tests.unit.agent.test_battery import apply_pending, deliver
from tests.unit.process.fake_clock import STEPS_S
from trioder.agent.battery import Battery
from trioder.agent.persistence.state_store import SavedBattery
from trioder.domain.assets import Asset
from trioder.process.wall_time import WallClock
from trioder.sim.bess import tick_asset


def battery_on(wall: WallClock, asset: Asset | None = None, now_s: float = 0.0) -> Battery:
    return Battery(asset or make_asset(), position=0, now_s=now_s, tick=tick_asset, wall=wall)


def start() -> tuple[WallClock, Battery]:
    wall = WallClock(START_UNIX_S, 0.0)
    return wall, battery_on(wall)


def save(battery: Battery, wall: WallClock, now_s: float) -> SavedBattery:
    return SavedBattery(
        battery.state.soc_mwhr,
        battery.state.current_mw,
        battery.state.setpoint_mw,
        wall.unix_s(battery.lease_end_s),
        battery.reversion_mw,
        battery.dispatch_id,
        battery.lease_end_s - now_s,
    )


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size_s", STEPS_S)
def test_a_duration_counts_steady_time_whatever_is_done_to_the_clock(size_s: float, sign: int) -> None:
    wall, battery = start()
    deliver(battery, make_setpoint(10.0, duration_s=60), 0.0)
    wall.adjust(sign * size_s)
    assert not battery.clock_stepped(20.0, 0.0)
    assert battery.lease_end_s == 60.0
    assert battery.acknowledge("d-1", "active", 20.0).remaining_s == 40.0


def test_a_valid_until_ends_by_the_right_time_once_that_is_known() -> None:
    wall, battery = start()
    deliver(battery, make_setpoint(10.0, valid_until_s=100.0), 0.0)
    wall.adjust(30.0)
    assert battery.clock_stepped(20.0, 0.0)
    assert battery.lease_end_s == pytest.approx(70.0)
    wall.adjust(-10.0)
    assert battery.clock_stepped(20.0, 0.0)
    assert battery.lease_end_s == pytest.approx(80.0)


def test_a_valid_until_that_turns_out_to_be_over_ends_now() -> None:
    wall, battery = start()
    deliver(battery, make_setpoint(10.0, valid_until_s=100.0, reversion_mw=1.0), 0.0)
    wall.adjust(3_600.0)
    assert battery.clock_stepped(20.0, 0.0)
    [answer] = apply_pending(battery, 20.0)
    assert (answer.status, answer.reason) == ("completed", "20 s were over; now 1 MW")
    assert battery.state.setpoint_mw == 1.0


def test_a_valid_until_with_a_duration_never_lasts_longer_than_that() -> None:
    wall, battery = start()
    wall.adjust(50.0)
    deliver(battery, make_setpoint(10.0, duration_s=60, valid_until_s=100.0), 0.0)
    assert battery.lease_end_s == pytest.approx(50.0)
    wall.adjust(-3_600.0)
    battery.clock_stepped(20.0, 0.0)
    assert battery.lease_end_s == 60.0


def test_what_has_ended_does_not_begin_again_when_the_clock_is_set_back() -> None:
    wall, battery = start()
    deliver(battery, make_setpoint(10.0, valid_until_s=100.0), 0.0)
    assert [answer.status for answer in apply_pending(battery, 100.0)] == ["completed"]
    wall.adjust(-3_600.0)
    assert not battery.clock_stepped(110.0, 0.0)
    assert (battery.lease_end_s, battery.state.setpoint_mw) == (math.inf, 0.0)


@pytest.mark.parametrize("asleep_s", STEPS_S)
def test_a_suspension_takes_its_time_from_the_lease(asleep_s: float) -> None:
    wall, battery = start()
    deliver(battery, make_setpoint(10.0, duration_s=7_200), 0.0)
    wall.adjust(asleep_s)
    assert battery.clock_stepped(20.0, asleep_s)
    assert battery.lease_end_s == pytest.approx(max(20.0, 7_200.0 - asleep_s))


def test_a_setpoint_that_holds_is_not_concerned() -> None:
    wall, battery = start()
    deliver(battery, make_setpoint(10.0), 0.0)
    wall.adjust(3_600.0)
    assert not battery.clock_stepped(20.0, 3_600.0)
    assert battery.lease_end_s == math.inf


def test_the_loss_of_the_headend_stands_though_the_clock_is_set_in_between() -> None:
    wall, battery = start()
    deliver(battery, make_setpoint(10.0, valid_until_s=1_000.0), 0.0)
    battery.headend_lost(20.0, 30.0)
    wall.adjust(-3_600.0)
    battery.clock_stepped(20.0, 0.0)
    assert [answer.status for answer in apply_pending(battery, 20.0)] == ["reverted"]


@pytest.mark.parametrize("wrong_s", [-365 * 86_400.0, -86_400.0, -3_600.0, -2.0])
def test_a_boot_with_a_clock_that_is_behind_does_not_prolong_a_lease(wrong_s: float) -> None:
    wall, battery = start()
    deliver(battery, make_setpoint(10.0, duration_s=30), 0.0)
    saved = save(battery, wall, 3.0)
    behind = WallClock(START_UNIX_S + wrong_s, 0.0)
    rebooted = battery_on(behind, now_s=5.0)
    rebooted.resume(saved, now_s=5.0)
    assert rebooted.lease_end_s == pytest.approx(32.0)
    remaining_s = rebooted.acknowledge("d-1", "active", 5.0).remaining_s
    assert remaining_s is not None
    assert remaining_s <= 30.0


def test_a_boot_with_a_clock_that_is_ahead_ends_a_lease_early() -> None:
    wall, battery = start()
    deliver(battery, make_setpoint(10.0, duration_s=30), 0.0)
    rebooted = battery_on(WallClock(START_UNIX_S + 3_600.0, 0.0), now_s=5.0)
    rebooted.resume(save(battery, wall, 3.0), now_s=5.0)
    assert (rebooted.state.setpoint_mw, rebooted.lease_end_s) == (0.0, math.inf)


def test_with_the_right_clock_a_lease_ends_at_its_own_instant_across_a_restart() -> None:
    wall, battery = start()
    deliver(battery, make_setpoint(10.0, duration_s=30), 0.0)
    rebooted = battery_on(wall, now_s=20.0)
    rebooted.resume(save(battery, wall, 3.0), now_s=20.0)
    assert rebooted.lease_end_s == pytest.approx(30.0)


def test_the_time_that_the_agent_was_disconnected_counts_once_the_clock_is_right() -> None:
    wall, battery = start()
    deliver(battery, make_setpoint(10.0, duration_s=3_600), 0.0)
    saved = save(battery, wall, 10.0)
    # Half an hour without power, and a clock without a battery.
    behind = WallClock(START_UNIX_S - 86_400.0, 1_810.0)
    rebooted = battery_on(behind, now_s=1_810.0)
    rebooted.resume(saved, now_s=1_810.0)
    assert rebooted.lease_end_s == pytest.approx(1_810.0 + 3_590.0)
    behind.adjust(86_400.0 + 1_810.0)
    assert rebooted.clock_stepped(1_820.0, 0.0)
    assert rebooted.lease_end_s == pytest.approx(3_600.0)


def test_boot_after_boot_what_remains_only_shrinks() -> None:
    wall, battery = start()
    deliver(battery, make_setpoint(10.0, duration_s=30), 0.0)
    for boot in range(1, 5):
        saved = save(battery, wall, 5.0)
        # Each boot begins at its own 0 s, with a clock a day further behind, and runs for 5 s.
        wall = WallClock(START_UNIX_S - boot * 86_400.0, 0.0)
        battery = battery_on(wall)
        battery.resume(saved, now_s=0.0)
        assert battery.lease_end_s == pytest.approx(30.0 - 5.0 * boot)


def test_a_saved_remainder_that_is_no_number_is_refused() -> None:
    _, battery = start()
    with pytest.raises(ValueError, match="not finite numbers"):
        battery.resume(SavedBattery(1.0, 0.0, 0.0, math.inf, 0.0, "", math.nan), now_s=0.0)
