"""How a battery's setpoint ends: by its lease, the loss of the headend, or another; its acknowledgements."""

import math

import pytest

from tests.unit.agent.parts import START_UNIX_S, make_battery, make_setpoint
from tests.unit.agent.test_battery import apply_pending, deliver
from trioder.agent.battery import Battery
from trioder.wire.records import Acknowledgement, AgentEvent

START_MS = int(START_UNIX_S * 1000)


def in_force(answer: Acknowledgement) -> tuple[float | None, float | None, float | None]:
    return answer.setpoint_mw, answer.remaining_s, answer.reversion_mw


def lose(battery: Battery, at_s: float, away_s: float = 30.0) -> list[Acknowledgement | AgentEvent]:
    battery.headend_lost(at_s, away_s)
    battery.apply_pending(at_s)
    return list(battery.take_messages())


def test_a_setpoint_ends_in_its_reversion_at_its_own_instant() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(36.0, duration_s=100, reversion_mw=-36.0), 10.0)
    battery.advance(310.0)
    # 1 MWh out until 110 s, 2 MWh in until 310 s.
    assert battery.state.soc_mwhr == pytest.approx(51.0, abs=0.01)
    assert (battery.state.setpoint_mw, battery.lease_end_s) == (-36.0, math.inf)


def test_the_reversion_holds_without_end() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(36.0, duration_s=10, reversion_mw=-5.0), 0.0)
    battery.advance(36_000.0)
    assert battery.state.setpoint_mw == -5.0


@pytest.mark.parametrize(
    ("duration_s", "valid_until_s", "end_s"), [(60, 45.5, 45.5), (60, 90.0, 80.0), (None, 45.5, 45.5)]
)
def test_a_setpoint_ends_at_whichever_is_first(
    duration_s: int | None, valid_until_s: float, end_s: float
) -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(36.0, duration_s=duration_s, valid_until_s=valid_until_s), 20.0)
    assert battery.lease_end_s == pytest.approx(end_s, abs=1e-6)
    battery.advance(end_s - 0.001)
    assert battery.state.setpoint_mw == 36.0
    battery.advance(end_s + 0.001)
    assert battery.state.setpoint_mw == 0.0


def test_one_that_is_expired_changes_nothing_and_is_acknowledged_with_what_is_in_force() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(10.0, duration_s=100, reversion_mw=1.0, dispatch_id="a"), 0.0)
    answer = deliver(battery, make_setpoint(20.0, valid_until_s=30.0, dispatch_id="b"), 40.0)
    assert answer.status == "expired"
    assert in_force(answer) == (10.0, 60.0, 1.0)
    assert battery.dispatch_id == "a"


def test_a_reversion_that_is_no_number_is_rejected_and_changes_nothing() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(10.0, reversion_mw=1.0, dispatch_id="a"), 0.0)
    answer = deliver(battery, make_setpoint(20.0, reversion_mw=math.nan, dispatch_id="b"), 0.0)
    assert (answer.status, in_force(answer)) == ("rejected", (10.0, None, 1.0))


def test_a_reversion_beyond_the_limits_is_held_at_the_limit_as_a_setpoint_is() -> None:
    battery = make_battery()
    assert deliver(battery, make_setpoint(10.0, duration_s=5, reversion_mw=-99.0), 0.0).status == "clamped"
    battery.advance(20.0)
    assert (battery.state.setpoint_mw, battery.state.current_mw) == (-99.0, -40.0)


def test_an_acknowledgement_has_what_is_in_force() -> None:
    battery = make_battery()
    assert in_force(deliver(battery, make_setpoint(10.0, dispatch_id="a"), 0.0)) == (10.0, None, 0.0)
    answer = deliver(battery, make_setpoint(20.0, duration_s=60, reversion_mw=3.0, dispatch_id="b"), 7.0)
    assert in_force(answer) == (20.0, 60.0, 3.0)
    assert answer.ts_unix_ms == START_MS + 7_000


def test_an_end_is_reported_of_its_own_instant() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(10.0, duration_s=60, reversion_mw=3.0), 5.0)
    [answer] = apply_pending(battery, 100.0)
    assert (answer.dispatch_id, answer.status, answer.ts_unix_ms) == ("d-1", "completed", START_MS + 65_000)
    assert answer.reason == "60 s were over; now 3 MW"
    assert in_force(answer) == (3.0, None, 3.0)
    assert apply_pending(battery, 200.0) == []


def test_an_end_that_a_pulse_has_brought_is_reported_as_well() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(10.0, duration_s=60), 5.0)
    battery.advance(100.0)
    assert battery.is_notified
    assert [answer.status for answer in apply_pending(battery, 100.0)] == ["completed"]


def test_a_lease_that_has_ended_is_reported_before_the_dispatch_that_follows() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(10.0, duration_s=60, dispatch_id="a"), 0.0)
    battery.offer(make_setpoint(20.0, dispatch_id="b"))
    reported = [(answer.dispatch_id, answer.status) for answer in apply_pending(battery, 100.0)]
    assert reported == [("a", "completed"), ("b", "applied")]


def test_nothing_more_is_reported_of_what_another_has_replaced() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(10.0, duration_s=60, dispatch_id="a"), 0.0)
    battery.offer(make_setpoint(20.0, dispatch_id="b"))
    assert [answer.dispatch_id for answer in apply_pending(battery, 30.0)] == ["b"]
    assert apply_pending(battery, 100.0) == []


def test_a_duration_of_no_time_is_reported_to_begin_and_to_end() -> None:
    battery = make_battery()
    battery.offer(make_setpoint(10.0, duration_s=0))
    assert [answer.status for answer in apply_pending(battery, 5.0)] == ["applied", "completed"]


def test_without_a_headend_the_setpoint_reverts_whatever_its_lease() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(36.0, duration_s=1000, reversion_mw=-2.0), 0.0)
    event, answer = lose(battery, 100.0)
    assert isinstance(answer, Acknowledgement)
    assert (answer.status, answer.reason) == ("reverted", "no headend for 30 s; now -2 MW")
    assert in_force(answer) == (-2.0, None, -2.0)
    assert isinstance(event, AgentEvent)
    assert (event.event_type, event.severity) == ("comms_loss_reversion", "warning")
    assert event.message == "no headend for 30 s; 36 MW went to -2 MW"
    assert (event.asset_id, event.site_id) == (battery.asset.id, battery.asset.site_id)
    assert event.ts_unix_ms == answer.ts_unix_ms == START_MS + 100_000
    assert battery.dispatch_id == ""


def test_the_power_ramps_to_the_reversion() -> None:
    battery = make_battery(ramp_rate_mw_per_min=60.0)
    deliver(battery, make_setpoint(36.0), 0.0)
    battery.advance(60.0)
    lose(battery, 100.0)
    battery.advance(110.0)
    assert battery.state.current_mw == pytest.approx(26.0)


def test_a_setpoint_that_is_its_reversion_already_stays_and_its_lease_goes_on() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(5.0, duration_s=200, reversion_mw=5.0), 0.0)
    assert lose(battery, 100.0) == []
    assert [answer.status for answer in apply_pending(battery, 250.0)] == ["completed"]


def test_a_battery_at_rest_is_not_concerned_by_the_loss() -> None:
    assert not make_battery().headend_lost(100.0, 30.0)


def test_a_setpoint_without_an_id_reverts_too_and_is_reported_as_an_event_alone() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(36.0, dispatch_id=""), 0.0)
    [event] = lose(battery, 100.0)
    assert isinstance(event, AgentEvent)
    assert battery.state.setpoint_mw == 0.0


def test_a_lease_that_was_over_before_the_loss_is_reported_as_completed() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(36.0, duration_s=60), 0.0)
    [answer] = lose(battery, 100.0)
    assert isinstance(answer, Acknowledgement)
    assert (answer.status, answer.ts_unix_ms) == ("completed", START_MS + 60_000)


def test_what_waited_when_the_headend_was_lost_is_not_applied_later() -> None:
    battery = make_battery()
    battery.offer(make_setpoint(36.0))
    [answer] = lose(battery, 100.0)
    assert isinstance(answer, Acknowledgement)
    assert (answer.status, answer.reason) == ("reverted", "no headend for 30 s before it was applied")
    assert battery.state.setpoint_mw == 0.0


def test_a_dispatch_of_the_next_session_counts_even_before_the_task_saw_the_loss() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(36.0, dispatch_id="a"), 0.0)
    battery.headend_lost(100.0, 30.0)
    battery.offer(make_setpoint(20.0, dispatch_id="b"))
    reported = [(answer.dispatch_id, answer.status) for answer in apply_pending(battery, 101.0)]
    assert reported == [("a", "reverted"), ("b", "applied")]
    assert battery.state.setpoint_mw == 20.0


def test_a_reverted_setpoint_is_not_restarted_by_a_repetition() -> None:
    battery = make_battery()
    deliver(battery, make_setpoint(36.0), 0.0)
    lose(battery, 100.0)
    assert deliver(battery, make_setpoint(36.0), 110.0).status == "reverted"
    assert battery.state.setpoint_mw == 0.0
