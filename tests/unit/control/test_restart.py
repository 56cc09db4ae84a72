"""A headend goes on with the dispatches of the one before it."""

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
from tests.unit.headend.parts import find_record
from tests.unit.headend.stores import SlowStore
from trioder.domain.dispatch import DispatchRecord


def records(store: SlowStore) -> list[DispatchRecord]:
    newest = {record.dispatch_id: record for record in store.dispatches}
    return [record for record in newest.values() if record.is_open]


def test_queued_and_unacknowledged_setpoints_are_sent_when_their_agent_connects() -> None:
    store = SlowStore()
    before = still_parts(store=store)
    session = connect(before, 0)
    unanswered, queued = dispatch_one(before, 5.0, key=0), dispatch_one(before, 6.0, key=1)
    take_setpoints(session)
    after = still_parts()
    advance(after, 30)
    after.dispatcher.recover(records(store))
    reported = take_setpoints(connect(after, 0, 1))
    assert [one.dispatch_id for one in reported] == [unanswered.dispatch_id, queued.dispatch_id]


def test_what_has_expired_meanwhile_is_not_sent() -> None:
    store = SlowStore()
    dispatch = dispatch_one(still_parts(store=store), 5.0)
    after = still_parts()
    advance(after, 61)
    after.dispatcher.recover(records(store))
    assert take_setpoints(connect(after, 0)) == ()
    found = find_record(after.dispatcher, dispatch.dispatch_id)
    assert found is not None
    assert found.state == "expired"


def test_what_is_in_force_is_followed_on_and_ends_when_it_was_to_end() -> None:
    store = SlowStore()
    before = still_parts(store=store)
    session = connect(before, 0)
    dispatch = dispatch_one(before, 5.0, duration_s=100)
    acknowledge(before, session, only(dispatch), "applied", remaining_s=100.0)
    advance(before, 1)
    after = still_parts()
    advance(after, 30)
    after.dispatcher.recover(records(store))
    again = connect(after, 0)
    assert take_setpoints(again) == ()
    setpoint = after.dispatcher.in_force(0)
    assert setpoint is not None
    report_sample(after, 0, mw=5.0, setpoint=5.0)
    assert setpoint.state == "tracking"
    advance(after, 72.1)
    assert setpoint.state == "completed"


def test_the_newest_of_an_assets_dispatches_is_the_one_in_force() -> None:
    store = SlowStore()
    before = still_parts(store=store)
    older = dispatch_one(before, 5.0)
    open_records = records(store)
    advance(before, 1)
    newer = dispatch_one(before, 6.0)
    # The older one's end was not recorded any more.
    open_records += [record for record in records(store) if record.dispatch_id == newer.dispatch_id]
    after = still_parts()
    advance(after, 2)
    after.dispatcher.recover(reversed(open_records))
    setpoint = after.dispatcher.in_force(0)
    assert setpoint is not None
    assert setpoint.dispatch.dispatch_id == newer.dispatch_id
    found = find_record(after.dispatcher, older.dispatch_id)
    assert found is not None
    assert found.state == "superseded"


def test_a_group_whose_agent_does_not_reconnect_is_re_split() -> None:
    store = SlowStore()
    before = still_parts(assets=2, store=store)
    session = connect(before, 0, 1)
    report_sample(before, 0, 1)
    group = dispatch_group(before, 8.0, duration_s=600)
    for setpoint in group.setpoints.values():
        acknowledge(before, session, setpoint, "applied")
    advance(before, 1)
    after = still_parts(assets=2)
    advance(after, 2)
    after.dispatcher.recover(records(store))
    back = connect(after, 0)
    report_sample(after, 0, mw=4.0, setpoint=4.0)
    advance(after, 34)
    report_sample(after, 0, mw=4.0, setpoint=4.0)
    advance(after, 1)
    assert [reported.mw for reported in take_setpoints(back)] == [8.0]


def test_assets_that_have_left_the_fleet_have_failed_and_their_shares_are_short() -> None:
    store = SlowStore()
    before = still_parts(assets=4, store=store)
    connect(before, 0, 1, 2, 3)
    report_sample(before, 0, 1, 2, 3)
    group = dispatch_group(before, 8.0, duration_s=600)
    single = dispatch_one(before, 1.0, key=3)
    advance(before, 1)
    after_store = SlowStore()
    after = still_parts(assets=2, store=after_store)
    after.dispatcher.recover(records(store))
    found = find_record(after.dispatcher, group.dispatch_id)
    assert found is not None
    assert [(one.state, one.reason) for one in found.members[2:]] == [
        ("failed", "its asset has left the fleet"),
        ("superseded", f"by {single.dispatch_id}"),
    ]
    assert found.by_state == {"queued": 2, "failed": 1, "superseded": 1}
    assert found.allocated_mw + found.shortfall_mw == pytest.approx(8.0)
    # Nothing becomes of it any more, and it is not read again at each start.
    [ended] = [one for one in after_store.dispatches if one.dispatch_id == single.dispatch_id]
    assert (ended.state, ended.is_open) == ("failed", False)


def test_what_assets_that_have_left_the_fleet_held_is_taken_over_by_the_others() -> None:
    store = SlowStore()
    before = still_parts(assets=4, store=store)
    session = connect(before, 0, 1, 2, 3)
    report_sample(before, 0, 1, 2, 3)
    group = dispatch_group(before, 8.0, duration_s=600)
    for setpoint in group.setpoints.values():
        acknowledge(before, session, setpoint, "applied")
    advance(before, 1)
    after = still_parts(assets=2)
    after.dispatcher.recover(records(store))
    back = connect(after, 0, 1)
    advance(after, 10)
    report_sample(after, 0, 1, mw=2.0, setpoint=2.0)
    advance(after, 10)
    assert [reported.mw for reported in take_setpoints(back)] == [4.0, 4.0]
    found = find_record(after.dispatcher, group.dispatch_id)
    assert found is not None
    assert (found.allocated_mw, found.shortfall_mw) == (8.0, 0.0)


def test_whose_it_is_and_who_requested_it_is_continued() -> None:
    store = SlowStore()
    made = dispatch_one(still_parts(store=store), 5.0, tenant="*", requested_by="ann")
    after = still_parts()
    after.dispatcher.recover(records(store))
    found = find_record(after.dispatcher, made.dispatch_id)
    assert found is not None
    assert (found.tenant, found.requested_by) == ("*", "ann")
