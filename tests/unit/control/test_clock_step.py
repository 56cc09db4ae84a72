"""The headend's clock is set: nothing that was dispatched gets more or less time, and its times are right."""

from dataclasses import replace

import pytest

from tests.unit.control.driver import (
    acknowledge,
    advance,
    connect,
    dispatch_group,
    dispatch_one,
    only,
    report_sample,
    step,
    still_parts,
    take_setpoints,
)
from tests.unit.headend.parts import newest_records
from tests.unit.headend.stores import SlowStore
from tests.unit.process.fake_clock import STEPS_S
from trioder.domain.dispatch import DispatchRecord, DispatchRefusedError

every_step = pytest.mark.parametrize("by_s", [sign * size_s for size_s in STEPS_S for sign in (1, -1)])


def last_record(store: SlowStore) -> DispatchRecord:
    return store.dispatches[-1]


@every_step
def test_a_setpoint_in_force_ends_after_its_duration(by_s: float) -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, duration_s=60)
    acknowledge(parts, session, only(dispatch), "applied", remaining_s=60.0)
    advance(parts, 20)
    step(parts, by_s)
    advance(parts, 0)
    assert dispatch.state == "accepted"
    assert only(dispatch).ends_ms == parts.wall.now_ms() + 40_000
    advance(parts, 41.9)
    assert dispatch.state == "accepted"
    advance(parts, 0.2)
    assert dispatch.state == "not_tracked"


@every_step
def test_one_that_waits_expires_after_its_time(by_s: float) -> None:
    parts = still_parts()
    dispatch = dispatch_one(parts, 5.0, expires_in_s=60.0)
    advance(parts, 20)
    step(parts, by_s)
    advance(parts, 39.9)
    assert dispatch.state == "queued"
    advance(parts, 0.1)
    assert dispatch.state == "expired"


@every_step
def test_one_that_is_not_answered_fails_after_its_time(by_s: float) -> None:
    parts = still_parts()
    connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    advance(parts, 10)
    step(parts, by_s)
    advance(parts, 19.9)
    assert dispatch.state == "sent"
    advance(parts, 0.1)
    assert dispatch.state == "failed"


@every_step
def test_what_is_delivered_late_has_what_is_left_of_its_duration(by_s: float) -> None:
    parts = still_parts()
    dispatch_one(parts, 5.0, duration_s=600, expires_in_s=600.0)
    advance(parts, 100)
    step(parts, by_s)
    assert [reported.duration_s for reported in take_setpoints(connect(parts, 0))] == [500]


@every_step
def test_no_setpoint_of_a_group_is_taken_for_disconnected_or_stale(by_s: float) -> None:
    parts = still_parts(assets=3)
    first, second = connect(parts, 0, 1, agent_id="a"), connect(parts, 2, agent_id="b")
    report_sample(parts, 0, 1, 2)
    group = dispatch_group(parts, 9.0, duration_s=600)
    for key, session in ((0, first), (1, first), (2, second)):
        acknowledge(parts, session, group.setpoints[key], "applied")
    parts.disconnect(second)
    advance(parts, 2)
    step(parts, by_s)
    # Its samples are timed by a clock that was right all the time, or is as wrong as ours was.
    report_sample(parts, 0, 1, mw=3.0, setpoint=3.0)
    advance(parts, 2)
    assert group.reallocations == []
    advance(parts, 1.1)
    assert len(group.reallocations) == 1


def test_valid_until_is_an_instant_of_the_right_clock() -> None:
    parts = still_parts()
    step(parts, -3_600.0)
    now_ms = parts.wall.now_ms()
    for over_ms in (now_ms + 600_000, now_ms + 3_599_000):
        assert dispatch_one(parts, 5.0, valid_until_ms=over_ms).state == "queued"
    step(parts, 3_600.0)
    with pytest.raises(DispatchRefusedError, match="must be after now"):
        dispatch_one(parts, 5.0, valid_until_ms=now_ms + 600_000)


def test_one_whose_valid_until_turns_out_to_be_over_is_ended_at_its_agent() -> None:
    parts = still_parts()
    step(parts, -3_600.0)
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, valid_until_ms=parts.wall.now_ms() + 600_000, reversion_mw=1.0)
    acknowledge(parts, session, only(dispatch), "applied", remaining_s=600.0)
    take_setpoints(session)
    step(parts, 3_600.0)
    assert dispatch.state == "not_tracked"
    assert [(reported.mw, reported.duration_s) for reported in take_setpoints(session)] == [(1.0, None)]


def test_one_that_waits_with_a_valid_until_that_is_over_expires() -> None:
    parts = still_parts()
    step(parts, -3_600.0)
    dispatch = dispatch_one(parts, 5.0, valid_until_ms=parts.wall.now_ms() + 600_000, expires_in_s=3_600.0)
    step(parts, 3_600.0)
    advance(parts, 0)
    assert dispatch.state == "expired"


def test_a_setpoint_whose_valid_until_is_in_the_future_lasts_until_then() -> None:
    parts = still_parts()
    step(parts, -60.0)
    session = connect(parts, 0)
    valid_until_ms = parts.wall.now_ms() + 600_000
    dispatch = dispatch_one(parts, 5.0, valid_until_ms=valid_until_ms)
    acknowledge(parts, session, only(dispatch), "applied", remaining_s=540.0)
    step(parts, 60.0)
    assert only(dispatch).ends_ms == valid_until_ms
    advance(parts, 543)
    assert dispatch.state == "not_tracked"


@every_step
def test_records_have_the_right_time_and_order(by_s: float) -> None:
    store = SlowStore()
    parts = still_parts(store=store)
    ended = dispatch_one(parts, 4.0, expires_in_s=1.0)
    advance(parts, 2)
    current = dispatch_one(parts, 5.0, expires_in_s=600.0)
    step(parts, by_s)
    record = last_record(store)
    assert record.dispatch_id == current.dispatch_id
    assert record.dispatched_ms == parts.wall.now_ms()
    advance(parts, 1)
    newest = dispatch_one(parts, 6.0)
    found = newest_records(parts.dispatcher, 10, counts=lambda _: True)
    assert [one.dispatch_id for one in found] == [
        dispatch.dispatch_id for dispatch in (newest, current, ended)
    ]


@pytest.mark.parametrize("ahead_s", STEPS_S)
def test_a_record_of_a_clock_that_was_ahead_is_bounded_by_its_duration(ahead_s: float) -> None:
    store = SlowStore()
    before = still_parts(store=store)
    before.wall.adjust(ahead_s)
    session = connect(before, 0)
    dispatch = dispatch_one(before, 5.0, duration_s=60)
    acknowledge(before, session, only(dispatch), "applied", remaining_s=60.0)
    before.dispatcher.flush()
    after = still_parts()
    after.dispatcher.recover([last_record(store)])
    setpoint = after.dispatcher.in_force(0)
    assert setpoint is not None
    assert setpoint.ends_ms is not None
    assert 0 < setpoint.ends_ms - after.wall.now_ms() <= 60_000
    advance(after, 62.1)
    assert after.dispatcher.in_force(0) is None


def test_a_record_that_waits_is_bounded_by_its_expiry() -> None:
    store = SlowStore()
    before = still_parts(store=store)
    before.wall.adjust(3_600.0)
    dispatch_one(before, 5.0, expires_in_s=60.0)
    after = still_parts()
    after.dispatcher.recover([last_record(store)])
    setpoint = after.dispatcher.in_force(0)
    assert setpoint is not None
    advance(after, 60.1)
    assert setpoint.state == "expired"


def test_a_resplit_has_the_right_time_as_well() -> None:
    parts = still_parts(assets=2)
    first, second = connect(parts, 0, agent_id="a"), connect(parts, 1, agent_id="b")
    report_sample(parts, 0, 1)
    group = dispatch_group(parts, 8.0, duration_s=600)
    acknowledge(parts, first, group.setpoints[0], "applied")
    acknowledge(parts, second, group.setpoints[1], "rejected")
    advance(parts, 0)
    [before] = group.reallocations
    step(parts, 3_600.0)
    assert group.reallocations == [replace(before, at_ms=before.at_ms + 3_600_000)]
