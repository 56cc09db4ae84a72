"""A dispatch to many assets: one record, one message an agent, and what happens when a setpoint drops out."""

import math

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
from tests.unit.headend.parts import Parts, asset_id, find_record
from trioder.domain.dispatch import DispatchRecord, DispatchRefusedError
from trioder.gateway.sessions import Session


def fleet_of_four() -> tuple[Parts, Session, Session]:
    """Four batteries of 10 MW at half charge, two on each of two agents."""
    parts = still_parts(assets=4)
    first, second = connect(parts, 0, 1, agent_id="a"), connect(parts, 2, 3, agent_id="b")
    report_sample(parts, 0, 1, 2, 3)
    return parts, first, second


def record_of(parts: Parts, dispatch_id: str) -> DispatchRecord:
    found = find_record(parts.dispatcher, dispatch_id)
    assert found is not None
    return found


def test_each_agent_is_sent_its_assets_shares_under_one_id() -> None:
    parts, first, second = fleet_of_four()
    dispatch = dispatch_group(parts, 20.0, duration_s=60)
    sent = [*take_setpoints(first), *take_setpoints(second)]
    assert [reported.asset_id for reported in sent] == [asset_id(key) for key in range(4)]
    assert (
        {reported.dispatch_id for reported in sent}
        == {reported.group_id for reported in sent}
        == {dispatch.dispatch_id}
    )
    assert [reported.mw for reported in sent] == [5.0] * 4
    assert (dispatch.state, dispatch.shortfall_mw) == ("sent", 0.0)
    assert parts.counters.dispatches_group == 1


def test_disconnected_and_stale_assets_get_no_share_and_are_listed() -> None:
    parts = still_parts(assets=4)
    connect(parts, 0, 1, 2)
    report_sample(parts, 0, 1)
    advance(parts, 20)
    report_sample(parts, 0)
    dispatch = dispatch_group(parts, 4.0)
    assert {key: setpoint.mw for key, setpoint in dispatch.setpoints.items()} == {0: 4.0}
    assert {key: code for key, (code, _) in dispatch.excluded.items()} == {
        1: "stale",
        2: "no_telemetry",
        3: "not_connected",
    }


def test_what_nobody_can_hold_is_the_shortfall() -> None:
    parts, first, _ = fleet_of_four()
    dispatch = dispatch_group(parts, 50.0, duration_s=60)
    assert (dispatch.allocated_mw, dispatch.shortfall_mw) == (40.0, 10.0)
    assert [reported.mw for reported in take_setpoints(first)] == [10.0, 10.0]


def test_a_group_of_unreachable_assets_has_failed() -> None:
    parts = still_parts(assets=2)
    dispatch = dispatch_group(parts, 4.0)
    assert (dispatch.state, dispatch.shortfall_mw, dispatch.setpoints) == ("failed", 4.0, {})
    assert dispatch.answered.is_set()
    advance(parts, 10)
    assert record_of(parts, dispatch.dispatch_id).resplits == ()


@pytest.mark.parametrize("asked", [{"mw": math.nan}, {"mw": 1.0, "reversion_mw": math.inf}])
def test_a_total_that_is_no_number_is_refused(asked: dict[str, float]) -> None:
    parts, first, _ = fleet_of_four()
    with pytest.raises(DispatchRefusedError, match="must be a finite number"):
        dispatch_group(parts, **asked)
    assert take_setpoints(first) == ()


def test_a_reversion_is_split_as_well_and_refused_where_it_cannot_be_held() -> None:
    parts, first, second = fleet_of_four()
    dispatch_group(parts, 20.0, duration_s=60, reversion_mw=-8.0)
    assert [reported.reversion_mw for reported in (*take_setpoints(first), *take_setpoints(second))] == [
        -2.0
    ] * 4
    with pytest.raises(DispatchRefusedError, match=r"reversion_mw is 41\.0; .* can hold 40 MW"):
        dispatch_group(parts, 20.0, duration_s=60, reversion_mw=41.0)


def test_an_agent_that_is_too_old_for_the_reversion_is_left_out() -> None:
    parts = still_parts(assets=2)
    connect(parts, 0, agent_id="a")
    connect(parts, 1, agent_id="old", protocol=0)
    report_sample(parts, 0, 1)
    former = dispatch_one(parts, 1.0, key=1)
    dispatch = dispatch_group(parts, 4.0, duration_s=60, reversion_mw=-2.0)
    assert dispatch.excluded == {1: ("too_old", "none: its agent is too old to know reversion_mw")}
    assert dispatch.setpoints[0].reversion_mw == -2.0
    assert former.state == "sent"


def test_a_dry_run_gives_the_same_allocations_and_dispatches_nothing() -> None:
    parts, first, second = fleet_of_four()
    planned = dispatch_group(parts, 30.0, dry_run=True, duration_s=60, strategy="equal")
    assert take_setpoints(first) == take_setpoints(second) == ()
    assert parts.dispatcher.in_force(0) is None
    given = dispatch_group(parts, 30.0, duration_s=60, strategy="equal")
    assert [(m.key, m.mw, m.code, m.allocation) for m in planned.setpoints.values()] == [
        (m.key, m.mw, m.code, m.allocation) for m in given.setpoints.values()
    ]


def test_a_newer_group_supersedes_the_older_one_without_a_re_split() -> None:
    parts, first, second = fleet_of_four()
    older = dispatch_group(parts, 20.0, duration_s=10)
    newer = dispatch_group(parts, -20.0, duration_s=10)
    advance(parts, 1)
    assert (older.state, newer.state) == ("superseded", "sent")
    assert older.reallocations == newer.reallocations == []
    assert [reported.mw for reported in (*take_setpoints(first), *take_setpoints(second))] == [-5.0] * 4


def test_a_setpoint_disconnected_for_long_is_re_split_onto_the_others_and_that_is_recorded() -> None:
    parts, first, second = fleet_of_four()
    dispatch = dispatch_group(parts, 20.0, duration_s=600)
    take_setpoints(first), take_setpoints(second)
    for key, session in ((0, first), (1, first), (2, second), (3, second)):
        acknowledge(parts, session, dispatch.setpoints[key], "applied")
    parts.disconnect(second)
    advance(parts, 4.9)
    assert dispatch.reallocations == []
    report_sample(parts, 0, 1, mw=5.0, setpoint=5.0)
    advance(parts, 0.1)
    assert [(reported.asset_id, reported.mw) for reported in take_setpoints(first)] == [
        (asset_id(0), 10.0),
        (asset_id(1), 10.0),
    ]
    [resplit] = record_of(parts, dispatch.dispatch_id).resplits
    assert (resplit.changed, resplit.shortfall_mw) == (2, 0.0)
    assert [dropped for dropped, _ in resplit.dropped] == [asset_id(2), asset_id(3)]
    assert resplit.dropped[0][1] == "not connected for 5 s"
    assert [setpoint.state for setpoint in dispatch.setpoints.values()] == [
        "sent",
        "sent",
        "failed",
        "failed",
    ]
    # The duration that is left, and an id of its own: the agents have the old one already.
    assert dispatch.setpoints[0].wire_id == resplit.wire_id != dispatch.dispatch_id
    acknowledge(parts, first, dispatch.setpoints[0], "applied")
    assert dispatch.setpoints[0].state == "accepted"


def test_an_asset_that_reconnects_after_its_share_was_released_ends_it() -> None:
    parts, first, second = fleet_of_four()
    dispatch = dispatch_group(parts, 20.0, duration_s=600)
    acknowledge(parts, second, dispatch.setpoints[2], "applied")
    acknowledge(parts, second, dispatch.setpoints[3], "applied")
    parts.disconnect(second)
    advance(parts, 5)
    back = connect(parts, 2, 3, agent_id="b", number=1)
    ended = take_setpoints(back)
    assert [(reported.asset_id, reported.mw, reported.duration_s) for reported in ended] == [
        (asset_id(2), 0.0, None),
        (asset_id(3), 0.0, None),
    ]
    assert first is not back
    assert parts.dispatcher.in_force(2) is None


def test_a_setpoint_that_refuses_is_re_split_at_once() -> None:
    parts, first, _ = fleet_of_four()
    dispatch = dispatch_group(parts, 12.0, duration_s=600)
    acknowledge(parts, first, dispatch.setpoints[0], "rejected", reason="in maintenance")
    advance(parts, 0.5)
    assert [setpoint.mw for setpoint in dispatch.setpoints.values()] == [3.0, 4.0, 4.0, 4.0]
    [resplit] = dispatch.reallocations
    assert resplit.dropped == [(asset_id(0), "rejected: in maintenance")]


def test_a_setpoint_that_is_dispatched_on_its_own_leaves_the_group_to_the_others() -> None:
    parts, _, _ = fleet_of_four()
    dispatch = dispatch_group(parts, 12.0, duration_s=600)
    own = dispatch_one(parts, -7.0, key=1)
    advance(parts, 0.5)
    assert [setpoint.mw for setpoint in dispatch.setpoints.values()] == [4.0, 3.0, 4.0, 4.0]
    setpoint = parts.dispatcher.in_force(1)
    assert setpoint is not None
    assert setpoint.dispatch is own


def test_a_stale_setpoint_drops_out() -> None:
    parts, _, _ = fleet_of_four()
    dispatch = dispatch_group(parts, 12.0, duration_s=600)
    advance(parts, 10)
    report_sample(parts, 0, 1, 2)
    advance(parts, 3)
    assert dispatch.reallocations[0].dropped == [(asset_id(3), "stale, last heard of 13.0 s ago")]


def test_what_the_others_cannot_take_over_is_the_shortfall_from_then_on() -> None:
    parts, first, _ = fleet_of_four()
    dispatch = dispatch_group(parts, 36.0, duration_s=600)
    acknowledge(parts, first, dispatch.setpoints[0], "rejected", reason="no")
    advance(parts, 0.5)
    assert dispatch.shortfall_mw == pytest.approx(6.0)
    assert dispatch.reallocations[0].shortfall_mw == pytest.approx(6.0)


def test_re_splitting_can_be_turned_off() -> None:
    parts, first, second = fleet_of_four()
    dispatch = dispatch_group(parts, 12.0, duration_s=600, resplit=False)
    acknowledge(parts, first, dispatch.setpoints[0], "rejected", reason="no")
    take_setpoints(first), take_setpoints(second)
    advance(parts, 1)
    assert take_setpoints(first) == take_setpoints(second) == ()
    assert dispatch.reallocations == []


def test_a_group_whose_time_is_over_is_not_re_split_any_more() -> None:
    parts, _, second = fleet_of_four()
    dispatch = dispatch_group(parts, 12.0, duration_s=10)
    parts.disconnect(second)
    parts.wall.passed_s += 10  # type: ignore[attr-defined]  # a still clock
    advance(parts, 0)
    assert dispatch.reallocations == []


def test_a_group_is_completed_with_its_setpoints() -> None:
    parts, first, second = fleet_of_four()
    dispatch = dispatch_group(parts, 12.0, duration_s=10)
    for key, session in ((0, first), (1, first), (2, second), (3, second)):
        acknowledge(parts, session, dispatch.setpoints[key], "applied")
    assert dispatch.answered.is_set()
    assert dispatch.state == "accepted"
    report_sample(parts, 0, 1, 2, 3, mw=3.0, setpoint=3.0)
    assert dispatch.state == "tracking"
    advance(parts, 12.1)
    assert (dispatch.state, dispatch.reallocations) == ("completed", [])
