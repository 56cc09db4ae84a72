"""A command to many assets: one record, one message an agent, and what happens when a member drops out."""

import math

import pytest

from tests.unit.control.driver import (
    answer,
    connect,
    dispatch,
    dispatch_group,
    later,
    mail_of,
    still_parts,
    tell,
)
from tests.unit.headend.parts import Parts, asset_id
from trioder.control.requests import DispatchRefusedError
from trioder.domain.dispatch import DispatchRecord
from trioder.gateway.sessions import Session


def fleet_of_four() -> tuple[Parts, Session, Session]:
    """Four batteries of 10 MW at half charge, two on each of two agents."""
    parts = still_parts(assets=4)
    first, second = connect(parts, 0, 1, agent_id="a"), connect(parts, 2, 3, agent_id="b")
    tell(parts, 0, 1, 2, 3)
    return parts, first, second


def record_of(parts: Parts, dispatch_id: str) -> DispatchRecord:
    found = parts.dispatcher.find(dispatch_id)
    assert found is not None
    return found


def test_each_agent_is_sent_its_assets_shares_under_one_id() -> None:
    parts, first, second = fleet_of_four()
    command = dispatch_group(parts, 20.0, duration_s=60)
    sent = [*mail_of(first), *mail_of(second)]
    assert [told.asset_id for told in sent] == [asset_id(key) for key in range(4)]
    assert {told.dispatch_id for told in sent} == {told.group_id for told in sent} == {command.dispatch_id}
    assert [told.mw for told in sent] == [5.0] * 4
    assert (command.state, command.shortfall_mw) == ("sent", 0.0)
    assert parts.counters.dispatches_group == 1


def test_assets_that_are_away_or_stale_get_nothing_and_are_told_of() -> None:
    parts = still_parts(assets=4)
    connect(parts, 0, 1, 2)
    tell(parts, 0, 1)
    later(parts, 20)
    tell(parts, 0)
    command = dispatch_group(parts, 4.0)
    assert {key: member.mw for key, member in command.setpoints.items()} == {0: 4.0}
    assert {key: code for key, (code, _) in command.excluded.items()} == {
        1: "stale",
        2: "no_telemetry",
        3: "not_connected",
    }


def test_what_nobody_can_hold_is_the_shortfall() -> None:
    parts, first, _ = fleet_of_four()
    command = dispatch_group(parts, 50.0, duration_s=60)
    assert (command.allocated_mw, command.shortfall_mw) == (40.0, 10.0)
    assert [told.mw for told in mail_of(first)] == [10.0, 10.0]


def test_a_group_of_which_nobody_can_be_reached_has_failed() -> None:
    parts = still_parts(assets=2)
    command = dispatch_group(parts, 4.0)
    assert (command.state, command.shortfall_mw, command.setpoints) == ("failed", 4.0, {})
    assert command.answered.is_set()
    later(parts, 10)
    assert record_of(parts, command.dispatch_id).resplits == ()


@pytest.mark.parametrize("asked", [{"mw": math.nan}, {"mw": 1.0, "reversion_mw": math.inf}])
def test_a_total_that_is_no_number_is_refused(asked: dict[str, float]) -> None:
    parts, first, _ = fleet_of_four()
    with pytest.raises(DispatchRefusedError, match="must be a finite number"):
        dispatch_group(parts, **asked)
    assert mail_of(first) == ()


def test_a_reversion_is_split_as_well_and_refused_where_it_cannot_be_held() -> None:
    parts, first, second = fleet_of_four()
    dispatch_group(parts, 20.0, duration_s=60, reversion_mw=-8.0)
    assert [told.reversion_mw for told in (*mail_of(first), *mail_of(second))] == [-2.0] * 4
    with pytest.raises(DispatchRefusedError, match=r"reversion_mw is 41\.0; .* can hold 40 MW"):
        dispatch_group(parts, 20.0, duration_s=60, reversion_mw=41.0)


def test_an_agent_that_is_too_old_for_the_reversion_is_left_out() -> None:
    parts = still_parts(assets=2)
    connect(parts, 0, agent_id="a")
    connect(parts, 1, agent_id="old", protocol=0)
    tell(parts, 0, 1)
    former = dispatch(parts, 1.0, key=1)
    command = dispatch_group(parts, 4.0, duration_s=60, reversion_mw=-2.0)
    assert command.excluded == {1: ("too_old", "none: its agent is too old to know reversion_mw")}
    assert command.setpoints[0].reversion_mw == -2.0
    assert former.state == "sent"


def test_a_dry_run_gives_the_same_allocations_and_commands_nothing() -> None:
    parts, first, second = fleet_of_four()
    planned = dispatch_group(parts, 30.0, dry_run=True, duration_s=60, strategy="equal")
    assert mail_of(first) == mail_of(second) == ()
    assert parts.dispatcher.in_force(0) is None
    given = dispatch_group(parts, 30.0, duration_s=60, strategy="equal")
    assert [(m.key, m.mw, m.code, m.allocation) for m in planned.setpoints.values()] == [
        (m.key, m.mw, m.code, m.allocation) for m in given.setpoints.values()
    ]


def test_a_newer_group_supersedes_the_older_one_without_a_re_split() -> None:
    parts, first, second = fleet_of_four()
    older = dispatch_group(parts, 20.0, duration_s=10)
    newer = dispatch_group(parts, -20.0, duration_s=10)
    later(parts, 1)
    assert (older.state, newer.state) == ("superseded", "sent")
    assert older.reallocations == newer.reallocations == []
    assert [told.mw for told in (*mail_of(first), *mail_of(second))] == [-5.0] * 4


def test_a_member_that_is_gone_for_long_is_re_split_onto_the_others_and_that_is_on_the_record() -> None:
    parts, first, second = fleet_of_four()
    command = dispatch_group(parts, 20.0, duration_s=600)
    mail_of(first), mail_of(second)
    for key, session in ((0, first), (1, first), (2, second), (3, second)):
        answer(parts, session, command.setpoints[key], "applied")
    parts.disconnect(second)
    later(parts, 4.9)
    assert command.reallocations == []
    tell(parts, 0, 1, mw=5.0, setpoint=5.0)
    later(parts, 0.1)
    assert [(told.asset_id, told.mw) for told in mail_of(first)] == [(asset_id(0), 10.0), (asset_id(1), 10.0)]
    [resplit] = record_of(parts, command.dispatch_id).resplits
    assert (resplit.changed, resplit.shortfall_mw) == (2, 0.0)
    assert [dropped for dropped, _ in resplit.dropped] == [asset_id(2), asset_id(3)]
    assert resplit.dropped[0][1] == "not connected for 5 s"
    assert [member.state for member in command.setpoints.values()] == ["sent", "sent", "failed", "failed"]
    # The duration that is left, and an id of its own: the agents have the old one already.
    assert command.setpoints[0].wire_id == resplit.wire_id != command.dispatch_id
    answer(parts, first, command.setpoints[0], "applied")
    assert command.setpoints[0].state == "accepted"


def test_an_asset_that_comes_back_after_its_share_was_released_ends_it() -> None:
    parts, first, second = fleet_of_four()
    command = dispatch_group(parts, 20.0, duration_s=600)
    answer(parts, second, command.setpoints[2], "applied")
    answer(parts, second, command.setpoints[3], "applied")
    parts.disconnect(second)
    later(parts, 5)
    back = connect(parts, 2, 3, agent_id="b", number=1)
    ended = mail_of(back)
    assert [(told.asset_id, told.mw, told.duration_s) for told in ended] == [
        (asset_id(2), 0.0, None),
        (asset_id(3), 0.0, None),
    ]
    assert first is not back
    assert parts.dispatcher.in_force(2) is None


def test_a_member_that_refuses_is_re_split_at_once() -> None:
    parts, first, _ = fleet_of_four()
    command = dispatch_group(parts, 12.0, duration_s=600)
    answer(parts, first, command.setpoints[0], "rejected", reason="in maintenance")
    later(parts, 0.5)
    assert [member.mw for member in command.setpoints.values()] == [3.0, 4.0, 4.0, 4.0]
    [resplit] = command.reallocations
    assert resplit.dropped == [(asset_id(0), "rejected: in maintenance")]


def test_a_member_that_is_commanded_on_its_own_leaves_the_group_to_the_others() -> None:
    parts, _, _ = fleet_of_four()
    command = dispatch_group(parts, 12.0, duration_s=600)
    own = dispatch(parts, -7.0, key=1)
    later(parts, 0.5)
    assert [member.mw for member in command.setpoints.values()] == [4.0, 3.0, 4.0, 4.0]
    member = parts.dispatcher.in_force(1)
    assert member is not None
    assert member.dispatch is own


def test_a_stale_member_drops_out() -> None:
    parts, _, _ = fleet_of_four()
    command = dispatch_group(parts, 12.0, duration_s=600)
    later(parts, 10)
    tell(parts, 0, 1, 2)
    later(parts, 3)
    assert command.reallocations[0].dropped == [(asset_id(3), "stale, last heard of 13.0 s ago")]


def test_what_the_others_cannot_take_over_is_the_shortfall_from_then_on() -> None:
    parts, first, _ = fleet_of_four()
    command = dispatch_group(parts, 36.0, duration_s=600)
    answer(parts, first, command.setpoints[0], "rejected", reason="no")
    later(parts, 0.5)
    assert command.shortfall_mw == pytest.approx(6.0)
    assert command.reallocations[0].shortfall_mw == pytest.approx(6.0)


def test_re_splitting_can_be_turned_off() -> None:
    parts, first, second = fleet_of_four()
    command = dispatch_group(parts, 12.0, duration_s=600, resplit=False)
    answer(parts, first, command.setpoints[0], "rejected", reason="no")
    mail_of(first), mail_of(second)
    later(parts, 1)
    assert mail_of(first) == mail_of(second) == ()
    assert command.reallocations == []


def test_a_group_whose_time_is_over_is_not_re_split_any_more() -> None:
    parts, _, second = fleet_of_four()
    command = dispatch_group(parts, 12.0, duration_s=10)
    parts.disconnect(second)
    parts.wall.passed_s += 10  # type: ignore[attr-defined]  # a still clock
    later(parts, 0)
    assert command.reallocations == []


def test_a_group_is_completed_with_its_members() -> None:
    parts, first, second = fleet_of_four()
    command = dispatch_group(parts, 12.0, duration_s=10)
    for key, session in ((0, first), (1, first), (2, second), (3, second)):
        answer(parts, session, command.setpoints[key], "applied")
    assert command.answered.is_set()
    assert command.state == "accepted"
    tell(parts, 0, 1, 2, 3, mw=3.0, setpoint=3.0)
    assert command.state == "tracking"
    later(parts, 12.1)
    assert (command.state, command.reallocations) == ("completed", [])
