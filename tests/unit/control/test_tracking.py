"""Whether a battery does what it was asked: found in time, and not where there is nothing to find."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.control.driver import (
    acknowledge,
    advance,
    connect,
    dispatch_one,
    only,
    report_sample,
    still_parts,
)
from tests.unit.headend.parts import Parts, make_fleet
from trioder.control.model import Dispatch
from trioder.domain.assets import Asset
from trioder.domain.power_tracker import Finding, PowerTracker, tolerance_mw
from trioder.gateway.sessions import Session
from trioder.sim.bess import initial_state, tick_asset, with_setpoint

[PLAIN] = make_fleet(1).assets


def in_force(mw: float, **asked: float | None) -> tuple[Parts, Session, Dispatch]:
    """A dispatch to one battery of 10 MW, whose agent has accepted it; it was at rest."""
    parts = still_parts()
    session = connect(parts, 0)
    report_sample(parts, 0)
    dispatch = dispatch_one(parts, mw, **asked)
    acknowledge(parts, session, only(dispatch), "applied")
    return parts, session, dispatch


def do(
    parts: Parts, mw: float, *, setpoint: float, seconds: float, every_s: float = 4.0, **says: float
) -> None:
    """The battery delivers `mw` for so long, a sample each pulse."""
    for _ in range(round(seconds / every_s)):
        advance(parts, every_s)
        report_sample(parts, 0, mw=mw, setpoint=setpoint, **says)


@pytest.mark.parametrize("mw", [0.0, -5.0, 2.0, 9.0])
def test_a_battery_that_never_follows_its_setpoint_is_deviating_within_10_s(mw: float) -> None:
    parts, _, dispatch = in_force(5.0, duration_s=60)
    do(parts, mw, setpoint=5.0, seconds=4)
    assert dispatch.state == "accepted"
    do(parts, mw, setpoint=5.0, seconds=4)
    setpoint = only(dispatch)
    assert (setpoint.state, setpoint.reason) == ("deviating", f"{mw:g} MW instead of 5 MW")
    assert (parts.counters.dispatches_deviating, parts.dispatcher.deviating()) == (1, 1)


@pytest.mark.parametrize("ends", ["by its agent", "by the clock"])
def test_what_was_never_seen_to_track_is_not_completed(ends: str) -> None:
    parts, session, dispatch = in_force(5.0, duration_s=20)
    do(parts, -5.0, setpoint=5.0, seconds=20)
    if ends == "by its agent":
        acknowledge(parts, session, only(dispatch), "completed", reason="20 s were over")
    else:
        advance(parts, 2)
    setpoint = only(dispatch)
    assert setpoint.state == "not_tracked"
    assert "its power was never within 0.2 MW of 5 MW, and -5 MW on average" in (setpoint.reason or "")
    assert setpoint.mean_mw == -5.0
    [row] = parts.dispatcher.record_of(dispatch).members
    assert (row.state, row.mean_mw) == ("not_tracked", -5.0)
    assert parts.counters.dispatches_completed == 0


def test_the_mean_leaves_out_the_way_there() -> None:
    parts, _, dispatch = in_force(5.0, duration_s=60)
    report_sample(parts, 0, mw=1.0, setpoint=5.0)
    do(parts, 5.0, setpoint=5.0, seconds=8)
    do(parts, 4.9, setpoint=5.0, seconds=8)
    assert only(dispatch).mean_mw == pytest.approx(4.95)


def test_a_setpoint_that_ended_within_its_ramp_is_not_judged_by_the_ramp() -> None:
    parts, session, dispatch = in_force(5.0, duration_s=1)
    acknowledge(parts, session, only(dispatch), "completed", reason="1 s was over")
    assert (dispatch.state, only(dispatch).reason) == (
        "not_tracked",
        "1 s was over; no sample came while it was in force",
    )


def test_a_battery_that_leaves_its_setpoint_for_more_than_10_s_deviates_and_may_return() -> None:
    parts, _, dispatch = in_force(5.0)
    do(parts, 5.0, setpoint=5.0, seconds=20)
    tracking_ms = only(dispatch).tracking_ms
    do(parts, 0.0, setpoint=5.0, seconds=12)
    assert dispatch.state == "tracking"
    do(parts, 0.0, setpoint=5.0, seconds=4)
    assert dispatch.state == "deviating"
    do(parts, 5.0, setpoint=5.0, seconds=4)
    assert dispatch.state == "deviating"
    do(parts, 5.0, setpoint=5.0, seconds=4)
    assert (dispatch.state, only(dispatch).tracking_ms) == ("tracking", tracking_ms)


def test_one_that_tracked_and_deviates_at_the_end_is_completed_with_a_reason() -> None:
    parts, session, dispatch = in_force(5.0, duration_s=60)
    do(parts, 5.0, setpoint=5.0, seconds=20)
    do(parts, 1.0, setpoint=5.0, seconds=20)
    acknowledge(parts, session, only(dispatch), "completed", reason="60 s were over")
    assert (dispatch.state, only(dispatch).reason) == (
        "completed",
        "60 s were over; deviating at the end: 1 MW instead of 5 MW",
    )


def test_a_short_excursion_is_not_a_deviation() -> None:
    parts, _, dispatch = in_force(5.0)
    for _ in range(10):
        do(parts, 5.0, setpoint=5.0, seconds=4)
        do(parts, 3.0, setpoint=5.0, seconds=8)
    assert (dispatch.state, parts.counters.dispatches_deviating) == ("tracking", 0)


def test_a_battery_that_only_does_what_it_reports_as_available_is_not_deviating() -> None:
    parts, _, dispatch = in_force(5.0, duration_s=600)
    do(parts, 5.0, setpoint=5.0, seconds=20)
    do(parts, 2.0, setpoint=5.0, seconds=60, available_mw=2.0)
    assert (dispatch.state, parts.counters.dispatches_limited) == ("tracking", 1)
    assert only(dispatch).reason == "the battery reports that it can do 2 of 5 MW"
    # What it reports excuses as much as it reports, and no more.
    do(parts, -5.0, setpoint=5.0, seconds=20, available_mw=2.0)
    assert dispatch.state == "deviating"


def test_an_empty_battery_ends_without_having_tracked() -> None:
    parts, session, dispatch = in_force(5.0, duration_s=60)
    do(parts, 0.0, setpoint=5.0, seconds=60, available_mw=0.0)
    acknowledge(parts, session, only(dispatch), "completed")
    assert (dispatch.state, only(dispatch).mean_mw, parts.counters.dispatches_deviating) == (
        "not_tracked",
        0.0,
        0,
    )


@pytest.mark.parametrize("mw", [0.0, 0.05, -0.1])
def test_a_setpoint_within_the_tolerance_is_tracked_by_a_battery_at_rest(mw: float) -> None:
    parts, _, dispatch = in_force(mw)
    do(parts, 0.0, setpoint=mw, seconds=40)
    assert dispatch.state == "tracking"


def test_a_setpoint_that_is_renewed_every_2_s_is_never_deviating() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    report_sample(parts, 0)
    for step in range(60):
        dispatch = dispatch_one(parts, float(step % 10), duration_s=10)
        acknowledge(parts, session, only(dispatch), "applied", remaining_s=10.0)
        advance(parts, 2)
        if step % 2:
            # The mean over a pulse in which there were two setpoints.
            report_sample(parts, 0, mw=step % 10 - 0.5, setpoint=float(step % 10))
    assert (parts.counters.dispatches_deviating, parts.counters.dispatches_not_tracked) == (0, 0)


def test_implausible_and_old_values_are_not_compared() -> None:
    parts, _, dispatch = in_force(5.0)
    for quality in (1, 2, 4):
        for _ in range(10):
            advance(parts, 4)
            report_sample(parts, 0, mw=0.0, setpoint=5.0, quality=quality)
    assert dispatch.state == "accepted"
    # Backfill: older than the newest.
    report_sample(parts, 0, mw=5.0, setpoint=5.0)
    advance(parts, 4)
    parts.wall.passed_s -= 100  # type: ignore[attr-defined]  # a still clock
    report_sample(parts, 0, mw=0.0, setpoint=0.0)
    assert dispatch.state == "tracking"


@pytest.mark.parametrize("status", ["done", "acknowledged", "APPLIED!", "nack"])
def test_an_unknown_status_is_no_consent(status: str) -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    for _ in range(3):
        acknowledge(parts, session, only(dispatch), status)
    setpoint = only(dispatch)
    assert (setpoint.state, setpoint.answer, setpoint.answered_ms) == ("sent", status, None)
    assert not dispatch.answered.is_set()
    assert parts.counters.dispatches_acknowledged_unknown == 3
    advance(parts, 30)
    assert setpoint.state == "failed"
    assert (setpoint.reason or "").startswith(
        f"its agent answered {status!r}, which is no status of the contract"
    )


def test_a_battery_that_follows_its_setpoint_after_an_unknown_status_tracks() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    acknowledge(parts, session, only(dispatch), "done")
    advance(parts, 5)
    report_sample(parts, 0, mw=5.0, setpoint=5.0)
    assert dispatch.state == "tracking"


def tracker_of(asset: Asset, mw: float) -> PowerTracker:
    return PowerTracker(setpoint_mw=mw, target_mw=mw, tolerance_mw=tolerance_mw(asset))


@settings(max_examples=150, deadline=None)
@given(
    ramp=st.sampled_from([1.0, 5.0, 60.0, 600.0]),
    from_mw=st.sampled_from([-10.0, -3.0, 0.0, 10.0]),
    mw=st.floats(-10.0, 10.0),
    pulse_s=st.sampled_from([1.0, 2.0, 4.0]),
    phase=st.floats(0.0, 1.0),
)
def test_the_model_of_a_battery_is_never_deviating_however_slow_its_ramp(
    ramp: float, from_mw: float, mw: float, pulse_s: float, phase: float
) -> None:
    asset = make_asset(ramp)
    state = initial_state(asset)._replace(current_mw=from_mw, setpoint_mw=from_mw)
    tracker = tracker_of(asset, mw)
    tracker.expect_arrival(asset, 0, from_mw)
    state = tick_asset(asset, state, pulse_s * (1 - phase))
    state = with_setpoint(state, mw)
    dt_s, now_s = pulse_s * phase, pulse_s * phase
    findings = []
    while now_s < 20.0 / ramp * 60.0 + 60.0:
        state = tick_asset(asset, state, dt_s)
        findings.append(
            tracker.add(state.current_mw, available_mw=10.0, now_ms=round(now_s * 1000), echoes=True)
        )
        dt_s = pulse_s
        now_s += pulse_s
    assert Finding.OFF_TARGET not in findings
    assert findings[-1] is Finding.ON_TARGET


@settings(max_examples=150, deadline=None)
@given(
    ramp=st.sampled_from([1.0, 5.0, 60.0, 600.0]),
    from_mw=st.sampled_from([-10.0, -3.0, 0.0, 10.0]),
    mw=st.sampled_from([-10.0, -4.0, 4.0, 10.0]),
    pulse_s=st.sampled_from([1.0, 2.0, 4.0]),
    phase=st.floats(0.0, 1.0),
    factor=st.sampled_from([0.0, -1.0]),
)
def test_nothing_and_the_opposite_are_found_within_10_s_of_the_arrival(
    *, ramp: float, from_mw: float, mw: float, pulse_s: float, phase: float, factor: float
) -> None:
    asset = make_asset(ramp)
    tracker = tracker_of(asset, mw)
    tracker.expect_arrival(asset, 0, from_mw)
    assert tracker.arrives_ms == round(abs(mw - from_mw) / ramp * 60_000)
    now_s = pulse_s * phase
    while (
        tracker.add(factor * mw, available_mw=10.0, now_ms=round(now_s * 1000), echoes=True)
        is not Finding.OFF_TARGET
    ):
        now_s += pulse_s
        assert now_s * 1000 <= tracker.arrives_ms + 10_000


def make_asset(ramp: float) -> Asset:
    return replace(PLAIN, ramp_rate_mw_per_min=ramp)
