"""An agent cannot report a setpoint to last longer than it was dispatched for."""

from dataclasses import replace

import pytest
import structlog.testing

from tests.unit.control.driver import (
    acknowledge,
    advance,
    connect,
    dispatch_one,
    only,
    report_sample,
    still_parts,
)
from tests.unit.headend.parts import asset_id
from trioder.domain.dispatch import MAX_DURATION_S
from trioder.wire.records import Acknowledgement

WARNING = "agent reports that a setpoint lasts longer than was dispatched"


@pytest.mark.parametrize("remaining_s", [60.5, 3_600.0, 86_430.0, 9.9e8])
def test_the_first_answer_is_bounded_by_the_duration(remaining_s: float) -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, duration_s=60)
    advance(parts, 2)
    acknowledge(parts, session, only(dispatch), "applied", remaining_s=remaining_s)
    assert only(dispatch).ends_ms == parts.wall.now_ms() + 60_000


def test_an_answer_on_a_slow_way_may_report_its_whole_duration() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, duration_s=60)
    advance(parts, 8)
    with structlog.testing.capture_logs() as logs:
        acknowledge(parts, session, only(dispatch), "applied", remaining_s=60.0)
    assert only(dispatch).ends_ms == parts.wall.now_ms() + 60_000
    assert [entry for entry in logs if entry["event"] == WARNING] == []


def test_an_agent_that_reboots_with_a_wrong_clock_does_not_prolong_what_it_has_answered() -> None:
    parts = still_parts()
    first = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, duration_s=30)
    acknowledge(parts, first, only(dispatch), "applied", remaining_s=30.0)
    ends_ms = only(dispatch).ends_ms
    advance(parts, 3)
    parts.disconnect(first)
    back = connect(parts, 0, number=1)
    with structlog.testing.capture_logs() as logs:
        acknowledge(parts, back, only(dispatch), "active", setpoint_mw=5.0, remaining_s=86_420.0)
    assert only(dispatch).ends_ms == ends_ms
    [warning] = [entry for entry in logs if entry["event"] == WARNING]
    assert (warning["remaining_s"], warning["bounded_to_s"]) == (86_420.0, 27.0)
    assert parts.counters.leases_bounded == 1


def test_an_end_may_become_earlier() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, duration_s=60)
    acknowledge(parts, session, only(dispatch), "applied", remaining_s=60.0)
    acknowledge(parts, session, only(dispatch), "active", remaining_s=12.0)
    assert only(dispatch).ends_ms == parts.wall.now_ms() + 12_000


def test_a_report_that_waited_on_its_way_is_no_reason_to_warn() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, duration_s=60)
    acknowledge(parts, session, only(dispatch), "applied", remaining_s=60.0)
    advance(parts, 3)
    with structlog.testing.capture_logs() as logs:
        acknowledge(parts, session, only(dispatch), "active", remaining_s=60.0)
    assert only(dispatch).ends_ms == parts.wall.now_ms() + 57_000
    assert [entry for entry in logs if entry["event"] == WARNING] == []


def test_one_that_was_to_hold_may_be_reported_to_end() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    acknowledge(parts, session, only(dispatch), "applied", remaining_s=300.0)
    assert only(dispatch).ends_ms == parts.wall.now_ms() + 300_000


def test_an_unknown_dispatch_is_adopted_for_no_longer_than_any_may_last() -> None:
    parts = still_parts()
    session = connect(parts, 0, 1)
    report = Acknowledgement(
        dispatch_id="of-another-life",
        asset_id=asset_id(0),
        status="active",
        ts_unix_ms=1,
        setpoint_mw=5.0,
        remaining_s=9.9e8,
    )
    parts.dispatcher.acknowledged(report, session=session)
    setpoint = parts.dispatcher.in_force(0)
    assert setpoint is not None
    assert setpoint.ends_ms == parts.wall.now_ms() + MAX_DURATION_S * 1000
    assert parts.counters.leases_bounded == 1
    parts.dispatcher.acknowledged(replace(report, asset_id=asset_id(1), remaining_s=60.0), session=session)
    assert parts.counters.leases_bounded == 1


@pytest.mark.parametrize("skew_s", [-3_600.0, 3_600.0])
def test_an_asset_is_seen_to_track_whatever_its_agents_clock_says(skew_s: float) -> None:
    parts = still_parts()
    session = connect(parts, 0)
    session.clock_skew_s = skew_s
    dispatch = dispatch_one(parts, 5.0, duration_s=60)
    acknowledge(parts, session, only(dispatch), "applied", remaining_s=60.0)
    parts.wall.adjust(skew_s)
    samples_ms = parts.wall.now_ms()
    parts.wall.adjust(-skew_s)
    report_sample(parts, 0, mw=5.0, setpoint=5.0, ts_ms=samples_ms)
    assert dispatch.state == "tracking"
