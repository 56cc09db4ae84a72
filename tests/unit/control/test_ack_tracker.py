"""The states of a dispatch that was sent: by its agent's acknowledgement, its telemetry, and the clock."""

from dataclasses import replace

import pytest

from tests.unit.control.driver import (
    acknowledge,
    advance,
    connect,
    dispatch_one,
    only,
    report_sample,
    still_parts,
    take_setpoints,
)
from tests.unit.headend.parts import asset_id, find_record
from trioder.gateway.sessions import Session
from trioder.wire.records import Acknowledgement


@pytest.mark.parametrize(
    ("status", "state"),
    [("applied", "accepted"), ("clamped", "clamped"), ("rejected", "rejected"), ("expired", "expired")],
)
def test_the_agents_acknowledgement_is_recorded_with_its_status_and_reason(status: str, state: str) -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    acknowledge(parts, session, only(dispatch), status, reason="5 MW is 1 too many")
    setpoint = only(dispatch)
    assert (setpoint.state, setpoint.answer, setpoint.reason) == (state, status, "5 MW is 1 too many")
    assert setpoint.answered_ms == parts.wall.now_ms()
    assert dispatch.answered.is_set()


def test_a_dispatch_tracks_once_the_power_is_within_tolerance_of_the_setpoint() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    acknowledge(parts, session, only(dispatch), "applied")
    # 2 % of 10 MW.
    report_sample(parts, 0, mw=4.79, setpoint=5.0)
    assert dispatch.state == "accepted"
    report_sample(parts, 0, mw=4.81, setpoint=5.0)
    assert dispatch.state == "tracking"
    assert only(dispatch).tracking_ms == parts.wall.now_ms()


def test_the_right_power_under_another_setpoint_is_not_tracking() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    acknowledge(parts, session, only(dispatch), "applied")
    report_sample(parts, 0, mw=5.0, setpoint=5.01)
    assert dispatch.state == "accepted"


def test_a_clamped_dispatch_tracks_what_is_held_instead() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    parts.dispatcher.limits.report(0, capacity_mwhr=40.0, max_mw=6.0, min_mw=-6.0)
    dispatch = dispatch_one(parts, 10.0)
    setpoint = only(dispatch)
    acknowledge(parts, session, setpoint, "clamped", reason="10 MW is outside of -6..6 MW; held at 6 MW")
    report_sample(parts, 0, mw=6.0, setpoint=10.0)
    assert (dispatch.state, setpoint.held_mw) == ("tracking", 6.0)


def test_an_agent_that_never_answers_is_understood_by_what_it_does() -> None:
    parts = still_parts()
    connect(parts, 0, protocol=0)
    dispatch = dispatch_one(parts, 5.0, duration_s=60)
    advance(parts, 5)
    report_sample(parts, 0, mw=5.0, setpoint=5.0)
    assert dispatch.state == "tracking"
    advance(parts, 58)
    assert dispatch.state == "completed"


def test_an_agent_that_answers_is_not_guessed_at_before_it_has() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 0.0, duration_s=60)
    advance(parts, 10)
    # As it was before, by chance.
    report_sample(parts, 0, mw=0.0, setpoint=0.0)
    assert dispatch.state == "sent"
    acknowledge(parts, session, only(dispatch), "applied", remaining_s=60.0)
    report_sample(parts, 0, mw=0.0, setpoint=0.0)
    advance(parts, 10)
    report_sample(parts, 0, mw=0.0, setpoint=0.0)
    assert dispatch.state == "tracking"


def test_an_agent_that_neither_acknowledges_nor_tracks_fails_the_dispatch() -> None:
    parts = still_parts()
    connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    advance(parts, 29.9)
    assert dispatch.state == "sent"
    advance(parts, 0.1)
    assert (dispatch.state, only(dispatch).reason) == ("failed", "its agent has not answered within 30 s")


def test_a_dispatch_is_completed_when_its_agent_reports_it() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, duration_s=60)
    acknowledge(parts, session, only(dispatch), "applied")
    report_sample(parts, 0, mw=5.0, setpoint=5.0)
    advance(parts, 60)
    assert dispatch.state == "tracking"
    acknowledge(parts, session, only(dispatch), "completed", reason="60 s were over; now 0 MW")
    assert (dispatch.state, only(dispatch).reason) == ("completed", "60 s were over; now 0 MW")


def test_a_dispatch_is_completed_by_the_clock_when_its_agent_does_not_report_it() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, duration_s=60)
    acknowledge(parts, session, only(dispatch), "applied")
    report_sample(parts, 0, mw=5.0, setpoint=5.0)
    advance(parts, 61.9)
    assert dispatch.state == "tracking"
    advance(parts, 0.1)
    assert (dispatch.state, only(dispatch).reason) == ("completed", "its time is over")


def test_the_agent_reports_how_long_its_setpoint_lasts_by_its_own_clock() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, duration_s=60)
    advance(parts, 5)
    acknowledge(parts, session, only(dispatch), "applied", remaining_s=60.0)
    report_sample(parts, 0, mw=5.0, setpoint=5.0)
    advance(parts, 61.9)
    assert dispatch.state == "tracking"
    advance(parts, 0.2)
    assert dispatch.state == "completed"


def test_a_setpoint_without_an_end_is_never_completed_by_the_clock() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    acknowledge(parts, session, only(dispatch), "applied")
    advance(parts, 1e6)
    assert dispatch.state == "accepted"


def test_a_battery_that_its_agent_has_reverted_fails_the_dispatch() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    acknowledge(parts, session, only(dispatch), "applied")
    acknowledge(parts, session, only(dispatch), "reverted", reason="no headend for 30 s; now 0 MW")
    assert (dispatch.state, only(dispatch).reason) == ("failed", "no headend for 30 s; now 0 MW")


def test_a_repeated_or_late_acknowledgement_changes_nothing() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    older = dispatch_one(parts, 5.0)
    acknowledge(parts, session, only(older), "applied")
    answered_ms = only(older).answered_ms
    advance(parts, 1)
    acknowledge(parts, session, only(older), "applied")
    assert (older.state, only(older).answered_ms) == ("accepted", answered_ms)
    newer = dispatch_one(parts, 6.0)
    acknowledge(parts, session, only(older), "completed")
    assert (older.state, newer.state) == ("superseded", "sent")


def test_an_agent_that_reconnects_under_a_dispatch_has_taken_it() -> None:
    parts = still_parts()
    first = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, duration_s=600)
    take_setpoints(first)
    parts.disconnect(first)
    second = connect(parts, 0, number=1)
    acknowledge(parts, second, only(dispatch), "active", setpoint_mw=5.0, remaining_s=590.0)
    assert dispatch.state == "accepted"
    assert only(dispatch).ends_ms == parts.wall.now_ms() + 590_000


def test_a_dispatch_from_before_the_headends_start_is_adopted() -> None:
    parts = still_parts()
    session = connect(parts, 0, 1)
    for key, mw in ((0, 5.0), (1, -2.0)):
        reported = Acknowledgement(
            dispatch_id="of-another-life",
            asset_id=asset_id(key),
            status="active",
            ts_unix_ms=1,
            setpoint_mw=mw,
            remaining_s=30.0,
            reversion_mw=1.0,
        )
        parts.dispatcher.acknowledged(reported, session=session)
    found = find_record(parts.dispatcher, "of-another-life")
    assert found is not None
    assert (found.state, found.mw, [setpoint.mw for setpoint in found.members]) == (
        "accepted",
        3.0,
        [5.0, -2.0],
    )
    report_sample(parts, 0, mw=5.0, setpoint=5.0)
    setpoint = parts.dispatcher.in_force(0)
    assert setpoint is not None
    assert (setpoint.state, setpoint.dispatch.dispatch_id) == ("tracking", "of-another-life")
    advance(parts, 33)
    assert parts.dispatcher.in_force(0) is None


def test_an_agent_cannot_make_dispatches_up_one_after_the_other() -> None:
    parts = still_parts()

    def report(number: int, session: Session) -> None:
        reported = Acknowledgement(
            dispatch_id=f"made up {number}",
            asset_id=asset_id(0),
            status="active",
            ts_unix_ms=1,
            setpoint_mw=5.0,
            remaining_s=30.0,
        )
        parts.dispatcher.acknowledged(reported, session=session)

    session = connect(parts, 0)
    for number in range(100):
        report(number, session)
    assert [number for number in range(100) if parts.dispatcher.history.get(f"made up {number}")] == [0]
    setpoint = parts.dispatcher.in_force(0)
    assert setpoint is not None
    assert setpoint.dispatch.dispatch_id == "made up 0"
    # What a battery holds when its agent returns is believed again.
    report(100, connect(parts, 0, number=1))
    assert parts.dispatcher.history.get("made up 100")


def test_an_acknowledgement_of_an_unknown_dispatch_is_ignored() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    reported = Acknowledgement(dispatch_id="never", asset_id=asset_id(0), status="applied", ts_unix_ms=1)
    parts.dispatcher.acknowledged(reported, session=session)
    assert find_record(parts.dispatcher, "never") is None
    assert parts.counters.dispatches_acknowledged == 1


@pytest.mark.parametrize("status", ["applied", "active"])
def test_an_agent_under_a_failed_setpoint_is_released_from_it(status: str) -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, reversion_mw=-1.0)
    take_setpoints(session)
    advance(parts, 30)
    assert dispatch.state == "failed"
    acknowledge(parts, session, only(dispatch), status, setpoint_mw=5.0)
    assert [(reported.mw, reported.duration_s) for reported in take_setpoints(session)] == [(-1.0, None)]
    assert dispatch.state == "failed"


def test_what_an_undelivered_dispatch_was_to_supersede_is_ended_when_its_agent_reconnects_under_it() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    older = dispatch_one(parts, 5.0)
    acknowledge(parts, session, only(older), "applied")
    parts.disconnect(session)
    newer = dispatch_one(parts, 2.0)
    advance(parts, 61)
    assert (older.state, newer.state) == ("superseded", "expired")
    back = connect(parts, 0, number=1)
    acknowledge(parts, back, only(older), "active", setpoint_mw=5.0)
    assert [reported.mw for reported in take_setpoints(back)] == [0.0]


def test_an_agent_under_a_failed_setpoint_is_left_alone_when_a_newer_dispatch_has_its_asset() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    older = dispatch_one(parts, 5.0)
    newer = dispatch_one(parts, 6.0)
    take_setpoints(session)
    acknowledge(parts, session, only(older), "applied")
    assert take_setpoints(session) == ()
    assert newer.state == "sent"


def test_a_late_report_of_what_is_in_force_does_not_change_one_that_has_ended() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, duration_s=60)
    acknowledge(parts, session, only(dispatch), "applied")
    advance(parts, 62)
    before = parts.dispatcher.record_of(dispatch)
    acknowledge(parts, session, only(dispatch), "active", setpoint_mw=5.0, remaining_s=3.0)
    assert parts.dispatcher.record_of(dispatch) == before


def test_a_sample_from_before_a_renewal_of_the_same_power_is_no_answer_to_it() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    acknowledge(parts, session, only(dispatch_one(parts, 5.0, duration_s=60)), "applied")
    advance(parts, 30)
    renewal = dispatch_one(parts, 5.0, duration_s=60)
    report_sample(parts, 0, mw=5.0, setpoint=5.0)
    assert renewal.state == "sent"
    assert not renewal.answered.is_set()


def test_an_answer_counts_though_the_telemetry_was_there_first() -> None:
    parts = still_parts()
    session = connect(parts, 0, protocol=0)
    dispatch = dispatch_one(parts, 5.0, duration_s=60)
    advance(parts, 6)
    report_sample(parts, 0, mw=5.0, setpoint=5.0)
    assert dispatch.state == "tracking"
    acknowledge(parts, session, only(dispatch), "applied", remaining_s=57.0)
    setpoint = only(dispatch)
    assert (setpoint.answer, setpoint.answered_ms) == ("applied", parts.wall.now_ms())
    assert setpoint.ends_ms == parts.wall.now_ms() + 57_000


def test_a_rejection_counts_though_the_telemetry_tracks() -> None:
    parts = still_parts()
    session = connect(parts, 0, protocol=0)
    dispatch = dispatch_one(parts, 5.0)
    advance(parts, 6)
    report_sample(parts, 0, mw=5.0, setpoint=5.0)
    acknowledge(parts, session, only(dispatch), "rejected", reason="in maintenance")
    assert (dispatch.state, only(dispatch).reason) == ("rejected", "in maintenance")


def test_an_asset_that_is_sent_a_newer_dispatch_is_not_adopted_under_an_unknown_one() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    newer = dispatch_one(parts, 6.0)
    reported = Acknowledgement(
        dispatch_id="of-another-life",
        asset_id=asset_id(0),
        status="active",
        ts_unix_ms=1,
        setpoint_mw=5.0,
    )
    parts.dispatcher.acknowledged(reported, session=session)
    assert find_record(parts.dispatcher, "of-another-life") is None
    assert newer.state == "sent"


def test_an_adopted_dispatch_that_has_ended_registry_again_with_another_asset() -> None:
    parts = still_parts()
    session = connect(parts, 0, 1)
    reported = Acknowledgement(
        dispatch_id="of-another-life",
        asset_id=asset_id(0),
        status="active",
        ts_unix_ms=1,
        setpoint_mw=5.0,
    )
    parts.dispatcher.acknowledged(reported, session=session)
    dispatch_one(parts, 1.0)
    parts.dispatcher.acknowledged(replace(reported, asset_id=asset_id(1)), session=session)
    log = parts.dispatcher.history
    assert "of-another-life" in {dispatch.dispatch_id for dispatch in log}
    assert log._ended_setpoints == 0


def test_what_was_superseded_by_one_that_its_agent_left_with_unread_is_ended_when_that_has_expired() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    older = dispatch_one(parts, 5.0)
    acknowledge(parts, session, only(older), "applied")
    newer = dispatch_one(parts, 2.0)
    parts.disconnect(session)
    advance(parts, 61)
    assert newer.state == "expired"
    back = connect(parts, 0, number=1)
    acknowledge(parts, back, only(older), "active", setpoint_mw=5.0)
    assert [reported.mw for reported in take_setpoints(back)] == [0.0]
