"""A dispatch that is cancelled ends at its reversion, and nothing that an agent sends revives it."""

import pytest

from tests.unit.control.driver import (
    acknowledge,
    advance,
    connect,
    dispatch_group,
    dispatch_one,
    only,
    report_sample,
    still_parts,
    take_setpoints,
)
from tests.unit.headend.parts import Parts
from tests.unit.headend.stores import SlowStore
from trioder.control.model import Dispatch
from trioder.process.slices import run_at_once


def cancel(parts: Parts, dispatch: Dispatch) -> int:
    steps = parts.dispatcher._cancellation.cancel_steps(dispatch, reason="cancelled by anna")
    return run_at_once(steps)


def test_a_connected_asset_is_sent_its_reversion_without_a_lease() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, duration_s=60, reversion_mw=1.0)
    take_setpoints(session)
    assert cancel(parts, dispatch) == 1
    [setpoint] = take_setpoints(session)
    assert (setpoint.mw, setpoint.duration_s, setpoint.dispatch_id) == (1.0, None, "")
    assert (dispatch.state, only(dispatch).reason) == ("cancelled", "cancelled by anna")


def test_what_is_not_sent_yet_is_replaced_in_the_queue() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    cancel(parts, dispatch_one(parts, 5.0))
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [0.0]


def test_a_queued_setpoint_is_never_sent() -> None:
    parts = still_parts()
    cancel(parts, dispatch_one(parts, 5.0))
    assert take_setpoints(connect(parts, 0)) == ()


def test_an_asset_that_is_away_is_cleared_when_it_reconnects() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    acknowledge(parts, session, only(dispatch), "applied")
    parts.disconnect(session)
    cancel(parts, dispatch)
    assert [setpoint.mw for setpoint in take_setpoints(connect(parts, 0, number=1))] == [0.0]


@pytest.mark.parametrize("status", ["applied", "clamped", "superseded", "completed", "reverted", "rejected"])
def test_a_late_acknowledgement_changes_nothing(status: str) -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    cancel(parts, dispatch)
    take_setpoints(session)
    acknowledge(parts, session, only(dispatch), status)
    assert dispatch.state == "cancelled"
    # Perhaps its reversion once more.
    assert {setpoint.mw for setpoint in take_setpoints(session)} <= {0.0}


def test_a_report_that_it_is_active_is_cleared() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    cancel(parts, dispatch)
    take_setpoints(session)
    acknowledge(parts, session, only(dispatch), "active", setpoint_mw=5.0)
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [0.0]
    assert parts.dispatcher.in_force(0) is None


def test_after_a_restart_a_report_of_a_cancelled_dispatch_is_cleared() -> None:
    store = SlowStore()
    parts = still_parts(store=store)
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    parts.disconnect(session)
    cancel(parts, dispatch)
    again = still_parts()
    again.dispatcher.recover(store.recorded.values())
    session = connect(again, 0)
    acknowledge(again, session, only(dispatch), "active", setpoint_mw=5.0)
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [0.0]
    assert again.dispatcher.in_force(0) is None


def test_an_asset_of_the_headends_model_goes_to_its_reversion() -> None:
    parts = still_parts()
    cancel(parts, dispatch_one(parts, 5.0, reversion_mw=1.0))
    assert parts.dispatcher.setpoint_for(0, 5.0, parts.wall.now_ms()) == 1.0


def test_a_cancelled_group_is_not_reallocated() -> None:
    parts = still_parts(assets=3)
    session = connect(parts, 0, 1, 2)
    report_sample(parts, 0, 1, 2)
    dispatch = dispatch_group(parts, 9.0)
    take_setpoints(session)
    assert cancel(parts, dispatch) == 3
    advance(parts, 20.0)
    assert (dispatch.state, dispatch.reallocations) == ("cancelled", [])
    assert {setpoint.mw for setpoint in take_setpoints(session)} == {0.0}


def test_a_group_can_be_cancelled_while_it_is_being_started() -> None:
    parts = still_parts(assets=3)
    session = connect(parts, 0, 1, 2)
    report_sample(parts, 0, 1, 2)
    dispatch = dispatch_group(parts, 9.0, dry_run=True)
    parts.dispatcher._registry.start(dispatch)
    cancel(parts, dispatch)
    run_at_once(parts.dispatcher._starter.start_steps(dispatch))
    assert (dispatch.state, take_setpoints(session)) == ("cancelled", ())


def test_the_later_dispatch_of_an_asset_stays() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    former, later = dispatch_one(parts, 5.0), dispatch_one(parts, 3.0)
    assert cancel(parts, former) == 0
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [3.0]
    assert later.state == "sent"
