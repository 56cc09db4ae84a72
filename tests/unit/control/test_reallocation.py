"""A re-split leaves no more in force than was asked: who keeps a share, who ends one, who waits."""

from dataclasses import replace

import pytest

from tests.unit.control.driver import (
    acknowledge,
    advance,
    connect,
    dispatch_group,
    dispatch_one,
    report_sample,
    still_parts,
    take_setpoints,
)
from tests.unit.headend.parts import Parts, asset_id, find_record, newest_records
from tests.unit.headend.stores import SlowStore
from trioder.control.model import Dispatch
from trioder.gateway.sessions import Session
from trioder.wire.records import Acknowledgement


def group_in_force(*, mw: float = 12.0) -> tuple[Parts, Session, Session, Dispatch]:
    """A total over four batteries of 10 MW, two on each of two agents, that all have accepted."""
    parts = still_parts(assets=4)
    first, second = connect(parts, 0, 1, agent_id="a"), connect(parts, 2, 3, agent_id="b")
    report_sample(parts, 0, 1, 2, 3)
    dispatch = dispatch_group(parts, mw, duration_s=600)
    for key, session in ((0, first), (1, first), (2, second), (3, second)):
        acknowledge(parts, session, dispatch.setpoints[key], "applied")
    take_setpoints(first), take_setpoints(second)
    return parts, first, second, dispatch


def test_a_setpoint_disconnected_for_a_moment_keeps_its_share_when_another_drops_out() -> None:
    parts, first, second, dispatch = group_in_force()
    parts.disconnect(second)
    advance(parts, 1)
    acknowledge(parts, first, dispatch.setpoints[0], "reverted", reason="out of order")
    advance(parts, 0.5)
    # Not 10 MW to the one that is there: the two that are disconnected still deliver 3 MW each.
    assert [reported.mw for reported in take_setpoints(first)] == [6.0]
    assert [dispatch.setpoints[key].mw for key in (1, 2, 3)] == [6.0, 3.0, 3.0]
    assert dispatch.shortfall_mw == 0.0


def test_a_stale_setpoint_whose_share_goes_to_others_is_reported_to_end_it() -> None:
    parts, first, second, dispatch = group_in_force()
    advance(parts, 10)
    report_sample(parts, 0, 1, 2, mw=3.0, setpoint=3.0)
    advance(parts, 3)
    assert [dropped for dropped, _ in dispatch.reallocations[0].dropped] == [asset_id(3)]
    assert (asset_id(3), 0.0) in [(reported.asset_id, reported.mw) for reported in take_setpoints(second)]
    assert len(take_setpoints(first)) == 2


def test_a_setpoint_that_has_not_answered_is_reported_to_end_what_goes_to_others() -> None:
    parts = still_parts(assets=2)
    slow, quick = connect(parts, 0, agent_id="a"), connect(parts, 1, agent_id="b")
    report_sample(parts, 0, 1)
    dispatch = dispatch_group(parts, 8.0, duration_s=600)
    acknowledge(parts, quick, dispatch.setpoints[1], "applied")
    take_setpoints(slow), take_setpoints(quick)
    advance(parts, 20)
    report_sample(parts, 0, 1)
    advance(parts, 10)
    assert dispatch.setpoints[1].mw == 8.0
    [reported] = take_setpoints(slow)
    assert (reported.asset_id, reported.mw) == (asset_id(0), 0.0)


def test_a_released_share_is_not_a_dispatch_when_the_agent_reconnects() -> None:
    parts, _, second, _ = group_in_force()
    parts.disconnect(second)
    advance(parts, 5)
    ends = take_setpoints(connect(parts, 2, 3, agent_id="b", number=1))
    assert [reported.dispatch_id for reported in ends] == ["", ""]


def test_a_share_that_was_released_is_ended_though_the_headend_has_started_anew_since() -> None:
    store = SlowStore()
    before = still_parts(assets=2, store=store)
    first, second = connect(before, 0, agent_id="a"), connect(before, 1, agent_id="b")
    report_sample(before, 0, 1)
    dispatch = dispatch_group(before, 8.0, duration_s=600)
    for key, session in ((0, first), (1, second)):
        acknowledge(before, session, dispatch.setpoints[key], "applied")
    before.disconnect(second)
    advance(before, 5)
    after = still_parts(assets=2)
    advance(after, 6)
    after.dispatcher.recover(store.dispatches[-1:])
    back = connect(after, 1, agent_id="b")
    acknowledge(after, back, dispatch.setpoints[1], "active", setpoint_mw=4.0, remaining_s=590.0)
    assert [(reported.asset_id, reported.mw) for reported in take_setpoints(back)] == [(asset_id(1), 0.0)]


def test_when_nobody_is_left_to_take_over_the_shares_stay_where_they_are() -> None:
    parts, first, second, dispatch = group_in_force()
    parts.disconnect(first)
    parts.disconnect(second)
    advance(parts, 60)
    assert dispatch.reallocations == []
    back = connect(parts, 0, 1, agent_id="a", number=1)
    assert take_setpoints(back) == ()
    assert dispatch.state == "accepted"


def test_after_a_restart_agents_are_given_the_time_that_their_retries_take() -> None:
    store = SlowStore()
    before = still_parts(assets=2, store=store)
    first, second = connect(before, 0, agent_id="a"), connect(before, 1, agent_id="b")
    report_sample(before, 0, 1)
    dispatch = dispatch_group(before, 8.0, duration_s=600)
    for key, session in ((0, first), (1, second)):
        acknowledge(before, session, dispatch.setpoints[key], "applied")
    advance(before, 1)
    after = still_parts(assets=2)
    advance(after, 2)
    after.dispatcher.recover(store.dispatches[-1:])
    back = connect(after, 0, agent_id="a")
    report_sample(after, 0, mw=4.0, setpoint=4.0)
    advance(after, 29)
    report_sample(after, 0, mw=4.0, setpoint=4.0)
    assert take_setpoints(back) == ()
    assert take_setpoints(connect(after, 1, agent_id="b")) == ()
    assert {one.state for one in newest_records(after.dispatcher, 1, counts=lambda _: True)} == {"accepted"}


def test_a_new_share_may_wait_as_long_as_the_first_one_might() -> None:
    parts, first, second, dispatch = group_in_force()
    parts.wall.passed_s += 100  # type: ignore[attr-defined]  # a still clock
    report_sample(parts, 0, 1, 2, 3, mw=3.0, setpoint=3.0)
    acknowledge(parts, first, dispatch.setpoints[0], "reverted", reason="out of order")
    advance(parts, 0.5)
    parts.disconnect(second)
    advance(parts, 2)
    assert dispatch.setpoints[2].state == "queued"
    [reported, _] = take_setpoints(connect(parts, 2, 3, agent_id="b", number=1))
    assert (reported.mw, reported.duration_s) == (4.0, 498)


def test_who_has_dropped_out_before_a_restart_does_not_drop_out_again() -> None:
    store = SlowStore()
    before = still_parts(assets=2, store=store)
    first, second = connect(before, 0, agent_id="a"), connect(before, 1, agent_id="b")
    report_sample(before, 0, 1)
    dispatch = dispatch_group(before, 8.0, duration_s=600)
    acknowledge(before, first, dispatch.setpoints[0], "applied")
    acknowledge(before, second, dispatch.setpoints[1], "rejected")
    advance(before, 1)
    after = still_parts(assets=2)
    advance(after, 2)
    after.dispatcher.recover(store.dispatches[-1:])
    connect(after, 0, 1)
    report_sample(after, 0, 1)
    advance(after, 1)
    [found] = newest_records(after.dispatcher, 1, counts=lambda _: True)
    assert len(found.resplits) == 1


def test_a_setpoint_that_is_done_gets_no_other_share() -> None:
    parts, first, second, dispatch = group_in_force()
    report_sample(parts, 2, mw=3.0, setpoint=3.0)
    acknowledge(parts, second, dispatch.setpoints[2], "completed")
    own = dispatch_one(parts, -7.0, key=2)
    take_setpoints(second)
    acknowledge(parts, first, dispatch.setpoints[0], "reverted", reason="out of order")
    advance(parts, 0.5)
    assert dispatch.setpoints[2].state == "completed"
    assert parts.dispatcher.in_force(2) is own.setpoints[2]
    assert [reported.asset_id for reported in take_setpoints(second)] == [asset_id(3)]


def test_an_agent_may_acknowledge_a_released_share() -> None:
    parts, _, second, _ = group_in_force()
    parts.disconnect(second)
    advance(parts, 5)
    back = connect(parts, 2, 3, agent_id="b", number=1)
    [ended, _] = take_setpoints(back)
    reported = Acknowledgement(dispatch_id="", asset_id=ended.asset_id, status="applied", ts_unix_ms=1)
    parts.dispatcher.acknowledged(reported, session=back)
    assert parts.dispatcher.in_force(2) is None


def test_after_a_restart_a_deviating_setpoint_is_compared_with_later_telemetry_only() -> None:
    store = SlowStore()
    before = still_parts(assets=2, store=store)
    first, second = connect(before, 0, agent_id="a"), connect(before, 1, agent_id="b")
    report_sample(before, 0, 1)
    dispatch = dispatch_group(before, 8.0, duration_s=600)
    for key, session in ((0, first), (1, second)):
        acknowledge(before, session, dispatch.setpoints[key], "applied")
    advance(before, 1)
    record = store.dispatches[-1]
    setpoints = [
        replace(setpoint, state="tracking" if setpoint.asset_id == asset_id(0) else "deviating")
        for setpoint in record.members
    ]
    after = still_parts(assets=2)
    advance(after, 2)
    after.dispatcher.recover([replace(record, members=setpoints)])
    connect(after, 0, agent_id="a")
    report_sample(after, 0, mw=4.0, setpoint=4.0)
    advance(after, 3)
    restored = find_record(after.dispatcher, record.dispatch_id)
    assert restored is not None
    assert [(setpoint.state, setpoint.mw) for setpoint in restored.members] == [
        ("tracking", 4.0),
        ("deviating", 4.0),
    ]
    connect(after, 1, agent_id="b")
    report_sample(after, 1, mw=2.0, setpoint=4.0)
    advance(after, 3)
    restored = find_record(after.dispatcher, record.dispatch_id)
    assert restored is not None
    [relied_on, limited] = [setpoint.mw for setpoint in restored.members]
    assert (relied_on, limited) == (6.0, 2.0)
    [resplit] = restored.resplits
    assert ([who for who, _ in resplit.adjusted], resplit.dropped) == ([asset_id(1)], [])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_in_the_last_seconds_no_setpoint_is_reduced_to_what_a_ramp_could_still_reach(sign: float) -> None:
    parts = still_parts(assets=3, ramp_rate_mw_per_min=6.0)
    sessions = [connect(parts, key, agent_id=f"a{key}") for key in range(3)]
    report_sample(parts, 0, 1, 2)
    dispatch = dispatch_group(parts, sign * 12.0, duration_s=600)
    for key, session in enumerate(sessions):
        acknowledge(parts, session, dispatch.setpoints[key], "applied")
        take_setpoints(session)
    advance(parts, 597)
    # Within tolerance; in the quarter of 3 s that is left for a ramp it could gain 0.075 MW.
    report_sample(parts, 0, 1, 2, mw=sign * 3.85, setpoint=sign * 4.0)
    acknowledge(parts, sessions[2], dispatch.setpoints[2], "reverted", reason="out of order")
    advance(parts, 0.5)
    assert len(dispatch.reallocations) == 1
    assert [dispatch.setpoints[key].mw for key in (0, 1)] == [sign * 4.0] * 2
    assert dispatch.shortfall_mw == sign * 4.0
    assert [take_setpoints(session) for session in sessions[:2]] == [(), ()]


def test_a_setpoint_is_reduced_to_what_its_battery_can_hold_though_its_ramp_is_short_too() -> None:
    parts = still_parts(assets=2, ramp_rate_mw_per_min=6.0)
    sessions = [connect(parts, key, agent_id=f"a{key}") for key in range(2)]
    report_sample(parts, 0, 1)
    dispatch = dispatch_group(parts, 8.0, duration_s=600)
    for key, session in enumerate(sessions):
        acknowledge(parts, session, dispatch.setpoints[key], "applied")
    advance(parts, 597)
    report_sample(parts, 0, mw=3.85, setpoint=4.0, available_mw=3.9)
    report_sample(parts, 1, mw=3.85, setpoint=4.0)
    acknowledge(parts, sessions[1], dispatch.setpoints[1], "reverted", reason="out of order")
    advance(parts, 0.5)
    assert (dispatch.setpoints[0].mw, dispatch.setpoints[0].code) == (3.9, "limited_by_available")
    assert dispatch.shortfall_mw == pytest.approx(4.1)
