"""A dispatch with a higher priority has the asset; a lower one waits, and takes over for its time left."""

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
from tests.unit.control.test_cancellation import cancel
from tests.unit.headend.stores import SlowStore


def schedule(parts, mw, **asked):  # type: ignore[no-untyped-def]  # a test's shorthand
    return dispatch_one(parts, mw, priority="schedule", **asked)


def test_a_lower_priority_waits() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    operator = dispatch_one(parts, 5.0)
    lower = schedule(parts, 2.0, duration_s=60)
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [5.0]
    assert (operator.state, lower.state) == ("sent", "deferred")
    assert operator.dispatch_id in (only(lower).reason or "")


def test_it_takes_over_for_the_time_that_is_left() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    lower = schedule(parts, 2.0, duration_s=60)
    first_id = only(lower).wire_id
    operator = dispatch_one(parts, 5.0, duration_s=20)
    acknowledge(parts, session, only(operator), "applied")
    take_setpoints(session)
    advance(parts, 20.0)
    acknowledge(parts, session, only(operator), "completed")
    [setpoint] = take_setpoints(session)
    assert (setpoint.mw, setpoint.duration_s) == (2.0, 40)
    assert setpoint.dispatch_id not in {first_id, lower.dispatch_id}
    acknowledge(parts, session, only(lower), "applied")
    assert lower.state == "accepted"


def test_without_an_answer_it_takes_over_soon_after_the_end() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    lower = schedule(parts, 2.0)
    operator = dispatch_one(parts, 5.0, duration_s=20)
    acknowledge(parts, session, only(operator), "applied")
    take_setpoints(session)
    advance(parts, 22.0)
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [2.0]
    assert lower.state == "sent"


def test_it_takes_over_at_once_when_the_higher_one_is_cancelled() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    schedule(parts, 2.0)
    operator = dispatch_one(parts, 5.0)
    take_setpoints(session)
    cancel(parts, operator)
    # Not the reversion first.
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [2.0]


def test_it_expires_when_its_time_is_over() -> None:
    parts = still_parts()
    connect(parts, 0)
    dispatch_one(parts, 5.0)
    lower = schedule(parts, 2.0, duration_s=60)
    advance(parts, 60.0)
    assert (lower.state, only(lower).reason) == ("expired", "its time was over while it was deferred")


def test_one_that_was_tracking_before_completes() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    lower = schedule(parts, 2.0, duration_s=60)
    acknowledge(parts, session, only(lower), "applied")
    for _ in range(3):
        report_sample(parts, 0, mw=2.0, setpoint=2.0)
        advance(parts, 4.0)
    assert lower.state == "tracking"
    dispatch_one(parts, 5.0)
    advance(parts, 60.0)
    assert lower.state == "completed"


def test_an_equal_priority_supersedes_as_ever() -> None:
    parts = still_parts()
    first, second = schedule(parts, 2.0), schedule(parts, 3.0)
    assert (first.state, second.state) == ("superseded", "queued")
    operator = dispatch_one(parts, 5.0)
    third = schedule(parts, 4.0)
    assert (second.state, third.state, operator.state) == ("superseded", "deferred", "queued")


@pytest.mark.parametrize("status", ["applied", "superseded", "active", "rejected"])
def test_what_its_agent_sends_meanwhile_changes_nothing(status: str) -> None:
    parts = still_parts()
    session = connect(parts, 0)
    lower = schedule(parts, 2.0)
    operator = dispatch_one(parts, 5.0)
    take_setpoints(session)
    acknowledge(parts, session, only(lower), status, setpoint_mw=2.0)
    assert (lower.state, operator.state, take_setpoints(session)) == ("deferred", "sent", ())


def test_a_deferred_dispatch_can_be_cancelled() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    operator = dispatch_one(parts, 5.0)
    lower = schedule(parts, 2.0)
    take_setpoints(session)
    assert cancel(parts, lower) == 1
    assert take_setpoints(session) == ()
    cancel(parts, operator)
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [0.0]


def test_deferred_members_keep_their_share_of_a_group() -> None:
    parts = still_parts(assets=3)
    session = connect(parts, 0, 1, 2)
    report_sample(parts, 0, 1, 2)
    group = dispatch_group(parts, 9.0, priority="schedule")
    operator = dispatch_one(parts, -5.0, key=1)
    take_setpoints(session)
    for _ in range(5):
        report_sample(parts, 0, 1, 2, mw=3.0, setpoint=3.0)
        advance(parts, 4.0)
    assert {setpoint.mw for setpoint in group.setpoints.values()} == {3.0}
    assert (group.state, group.shortfall_mw, group.reallocations) == ("deferred", 0.0, [])
    take_setpoints(session)
    cancel(parts, operator)
    [setpoint] = take_setpoints(session)
    assert (setpoint.mw, setpoint.group_id) == (3.0, group.dispatch_id)


def test_reallocations_leave_deferred_members_alone() -> None:
    parts = still_parts(assets=3)
    session = connect(parts, 0, 1)
    other = connect(parts, 2, agent_id="b")
    report_sample(parts, 0, 1, 2)
    group = dispatch_group(parts, 9.0, priority="schedule")
    dispatch_one(parts, -5.0, key=1)
    parts.disconnect(other)
    take_setpoints(session)
    advance(parts, 6.0)
    report_sample(parts, 0, 1)
    advance(parts, 1.0)
    assert [(one.state, one.mw) for one in group.setpoints.values()] == [
        ("sent", 6.0),
        ("deferred", 3.0),
        ("failed", 3.0),
    ]


def test_priorities_and_deferred_setpoints_survive_a_restart() -> None:
    store = SlowStore()
    parts = still_parts(store=store)
    connect(parts, 0)
    dispatch_one(parts, 5.0)
    lower = schedule(parts, 2.0, duration_s=600)
    parts.dispatcher.flush()
    again = still_parts()
    again.dispatcher.recover(store.recorded.values())
    session = connect(again, 0)
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [5.0]
    found = again.dispatcher.history.get(lower.dispatch_id)
    assert found is not None
    assert (found.state, found.priority) == ("deferred", "schedule")
    current = again.dispatcher.in_force(0)
    assert current is not None
    cancel(again, current.dispatch)
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [2.0]


def test_a_step_of_the_clock_does_not_change_what_is_left() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    operator = dispatch_one(parts, 5.0)
    schedule(parts, 2.0, duration_s=60)
    step(parts, 3_600.0)
    advance(parts, 10.0)
    take_setpoints(session)
    cancel(parts, operator)
    [setpoint] = take_setpoints(session)
    assert (setpoint.mw, setpoint.duration_s) == (2.0, 50)
