"""A headend goes on with the commands of the one before it."""

import pytest

from tests.unit.control.driver import (
    answer,
    connect,
    dispatch,
    dispatch_group,
    later,
    mail_of,
    only,
    still_parts,
    tell,
)
from tests.unit.headend.stores import SlowStore
from trioder.domain.dispatch import DispatchRecord


def records(store: SlowStore) -> list[DispatchRecord]:
    newest = {record.dispatch_id: record for record in store.dispatches}
    return [record for record in newest.values() if record.is_open]


def test_what_was_queued_or_not_answered_is_sent_when_its_agent_comes() -> None:
    store = SlowStore()
    before = still_parts(store=store)
    session = connect(before, 0)
    unanswered, queued = dispatch(before, 5.0, key=0), dispatch(before, 6.0, key=1)
    mail_of(session)
    after = still_parts()
    later(after, 30)
    after.dispatcher.recover(records(store))
    told = mail_of(connect(after, 0, 1))
    assert [one.dispatch_id for one in told] == [unanswered.dispatch_id, queued.dispatch_id]


def test_what_has_expired_meanwhile_is_not_sent() -> None:
    store = SlowStore()
    command = dispatch(still_parts(store=store), 5.0)
    after = still_parts()
    later(after, 61)
    after.dispatcher.recover(records(store))
    assert mail_of(connect(after, 0)) == ()
    found = after.dispatcher.find(command.dispatch_id)
    assert found is not None
    assert found.state == "expired"


def test_what_is_in_force_is_followed_on_and_ends_when_it_was_to_end() -> None:
    store = SlowStore()
    before = still_parts(store=store)
    session = connect(before, 0)
    command = dispatch(before, 5.0, duration_s=100)
    answer(before, session, only(command), "applied", remaining_s=100.0)
    later(before, 1)
    after = still_parts()
    later(after, 30)
    after.dispatcher.recover(records(store))
    again = connect(after, 0)
    assert mail_of(again) == ()
    member = after.dispatcher.in_force(0)
    assert member is not None
    tell(after, 0, mw=5.0, setpoint=5.0)
    assert member.state == "tracking"
    later(after, 72.1)
    assert member.state == "completed"


def test_the_newest_of_an_assets_commands_is_the_one_in_force() -> None:
    store = SlowStore()
    before = still_parts(store=store)
    older = dispatch(before, 5.0)
    living = records(store)
    later(before, 1)
    newer = dispatch(before, 6.0)
    # The older one's end was not recorded any more.
    living += [record for record in records(store) if record.dispatch_id == newer.dispatch_id]
    after = still_parts()
    later(after, 2)
    after.dispatcher.recover(reversed(living))
    member = after.dispatcher.in_force(0)
    assert member is not None
    assert member.dispatch.dispatch_id == newer.dispatch_id
    found = after.dispatcher.find(older.dispatch_id)
    assert found is not None
    assert found.state == "superseded"


def test_a_group_whose_member_does_not_come_back_is_re_split() -> None:
    store = SlowStore()
    before = still_parts(assets=2, store=store)
    session = connect(before, 0, 1)
    tell(before, 0, 1)
    group = dispatch_group(before, 8.0, duration_s=600)
    for member in group.setpoints.values():
        answer(before, session, member, "applied")
    later(before, 1)
    after = still_parts(assets=2)
    later(after, 2)
    after.dispatcher.recover(records(store))
    back = connect(after, 0)
    tell(after, 0, mw=4.0, setpoint=4.0)
    later(after, 34)
    tell(after, 0, mw=4.0, setpoint=4.0)
    later(after, 1)
    assert [told.mw for told in mail_of(back)] == [8.0]


def test_assets_that_have_left_the_fleet_have_failed_and_their_shares_are_short() -> None:
    store = SlowStore()
    before = still_parts(assets=4, store=store)
    connect(before, 0, 1, 2, 3)
    tell(before, 0, 1, 2, 3)
    group = dispatch_group(before, 8.0, duration_s=600)
    single = dispatch(before, 1.0, key=3)
    later(before, 1)
    after_store = SlowStore()
    after = still_parts(assets=2, store=after_store)
    after.dispatcher.recover(records(store))
    found = after.dispatcher.find(group.dispatch_id)
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
    tell(before, 0, 1, 2, 3)
    group = dispatch_group(before, 8.0, duration_s=600)
    for member in group.setpoints.values():
        answer(before, session, member, "applied")
    later(before, 1)
    after = still_parts(assets=2)
    after.dispatcher.recover(records(store))
    back = connect(after, 0, 1)
    later(after, 10)
    tell(after, 0, 1, mw=2.0, setpoint=2.0)
    later(after, 10)
    assert [told.mw for told in mail_of(back)] == [4.0, 4.0]
    found = after.dispatcher.find(group.dispatch_id)
    assert found is not None
    assert (found.allocated_mw, found.shortfall_mw) == (8.0, 0.0)
