"""A dispatch to one asset: its bounds, its delivery, and how it waits for an agent."""

import math

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
from tests.unit.headend.parts import START_UNIX_S, asset_id, find_record, make_session, newest_records
from tests.unit.headend.stores import SlowStore
from trioder.domain.dispatch import DispatchRefusedError, DispatchRequest

NOW_MS = int(START_UNIX_S * 1000)


def test_a_connected_agent_is_sent_its_setpoint() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0, duration_s=60, reversion_mw=-1.0)
    assert dispatch.state == "sent"
    [reported] = take_setpoints(session)
    assert (reported.dispatch_id, reported.mw, reported.duration_s) == (dispatch.dispatch_id, 5.0, 60)
    assert (reported.reversion_mw, reported.group_id, reported.valid_until_ms) == (-1.0, "", None)


@pytest.mark.parametrize(
    ("mw", "asked", "code", "message"),
    [
        (10.1, {}, "out_of_bounds", r"mw is 10\.1; asset .* takes -10\.0 to 10\.0 MW"),
        (-10.1, {}, "out_of_bounds", r"mw is -10\.1; asset .* takes -10\.0 to 10\.0 MW"),
        (math.nan, {}, "bad_request", "mw is nan; it must be a finite number"),
        (math.inf, {}, "bad_request", "mw is inf; it must be a finite number"),
        (1.0, {"reversion_mw": 11.0}, "out_of_bounds", r"reversion_mw is 11\.0; asset"),
        (1.0, {"reversion_mw": math.nan}, "bad_request", "reversion_mw is nan"),
        (1.0, {"duration_s": 0}, "bad_request", "duration_s is 0; it must be 1 to"),
        (1.0, {"duration_s": -5}, "bad_request", "duration_s is -5; it must be 1 to"),
        (1.0, {"duration_s": 10**30}, "bad_request", "duration_s is 10+; it must be 1 to"),
        (
            1.0,
            {"valid_until_ms": NOW_MS},
            "bad_request",
            "valid_until is 2027-01-15T08:00:00.000Z; it",
        ),
        (1.0, {"valid_until_ms": NOW_MS * 2}, "bad_request", "valid_until is 2084"),
        (1.0, {"duration_s": 5, "valid_until_ms": NOW_MS + 1}, "bad_request", "both given"),
        (1.0, {"expires_in_s": 0.0}, "bad_request", r"expires_in_s is 0\.0; it must be more than 0"),
        (1.0, {"expires_in_s": math.nan}, "bad_request", "expires_in_s is nan"),
        (1.0, {"expires_in_s": 1e9}, "bad_request", "at most 86400 s"),
    ],
)
def test_what_the_asset_does_not_take_is_refused_and_nothing_is_dispatched(
    mw: float, asked: dict[str, float], code: str, message: str
) -> None:
    parts = still_parts()
    session = connect(parts, 0)
    with pytest.raises(DispatchRefusedError, match=message) as refused:
        dispatch_one(parts, mw, **asked)
    assert refused.value.code == code
    assert take_setpoints(session) == ()
    assert newest_records(parts.dispatcher, 10, counts=lambda _: True) == []
    assert parts.counters.dispatches_refused == 1


@pytest.mark.parametrize("mw", [-10.0, 0.0, 10.0])
def test_the_limits_themselves_are_taken(mw: float) -> None:
    assert only(dispatch_one(still_parts(), mw)).mw == mw


def test_an_unknown_asset_is_refused() -> None:
    with pytest.raises(DispatchRefusedError, match=asset_id(5)) as refused:
        dispatch_one(still_parts(), 1.0, key=5)
    assert refused.value.code == "not_found"


def test_a_queued_dispatch_is_delivered_when_the_agent_reconnects_in_time() -> None:
    parts = still_parts()
    dispatch = dispatch_one(parts, 5.0)
    assert dispatch.state == "queued"
    advance(parts, 59)
    [reported] = take_setpoints(connect(parts, 0))
    assert reported.dispatch_id == dispatch.dispatch_id
    assert dispatch.state == "sent"


def test_the_duration_counts_from_when_the_dispatch_was_made() -> None:
    parts = still_parts()
    dispatch_one(parts, 5.0, duration_s=50)
    advance(parts, 20.5)
    [late] = take_setpoints(connect(parts, 0))
    assert late.duration_s == 30


def test_valid_until_goes_out_with_the_seconds_that_are_left_for_agents_that_know_only_those() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch_one(parts, 5.0, valid_until_ms=NOW_MS + 4_200)
    [reported] = take_setpoints(session)
    assert (reported.valid_until_ms, reported.duration_s) == (NOW_MS + 4_200, 5)


def test_a_dispatch_whose_time_is_over_is_not_delivered() -> None:
    parts = still_parts()
    dispatch = dispatch_one(parts, 5.0, duration_s=10)
    advance(parts, 10)
    assert take_setpoints(connect(parts, 0)) == ()
    assert (dispatch.state, only(dispatch).reason) == ("expired", "its 10 s were over before its agent came")


@pytest.mark.parametrize(("expires_in_s", "after_s"), [(None, 60.0), (2.5, 2.5)])
def test_an_agent_that_reconnects_late_gets_no_old_dispatch(
    expires_in_s: float | None, after_s: float
) -> None:
    parts = still_parts()
    dispatch = dispatch_one(parts, 5.0, expires_in_s=expires_in_s)
    advance(parts, after_s - 0.1)
    assert dispatch.state == "queued"
    advance(parts, 0.1)
    assert dispatch.state == "expired"
    assert take_setpoints(connect(parts, 0)) == ()
    assert only(dispatch).reason == f"its agent was away for {after_s:g} s"
    assert parts.counters.dispatches_expired == 1


def test_an_overdue_setpoint_is_not_delivered_even_before_the_next_check() -> None:
    parts = still_parts()
    dispatch = dispatch_one(parts, 5.0)
    parts.wall.passed_s += 60  # type: ignore[attr-defined]  # a still clock
    assert take_setpoints(connect(parts, 0)) == ()
    assert dispatch.state == "expired"


def test_a_newer_dispatch_supersedes_a_queued_one() -> None:
    parts = still_parts()
    older, newer = dispatch_one(parts, 5.0), dispatch_one(parts, -5.0)
    [reported] = take_setpoints(connect(parts, 0))
    assert reported.dispatch_id == newer.dispatch_id
    assert (older.state, newer.state) == ("superseded", "sent")
    assert only(older).reason == f"by {newer.dispatch_id}"


def test_a_newer_dispatch_replaces_one_that_has_not_left_yet() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    older, newer = dispatch_one(parts, 5.0), dispatch_one(parts, -5.0)
    assert [reported.dispatch_id for reported in take_setpoints(session)] == [newer.dispatch_id]
    assert (older.state, newer.state) == ("superseded", "sent")


def test_what_was_not_answered_is_sent_again_to_the_next_session() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    take_setpoints(session)
    parts.disconnect(session)
    assert dispatch.state == "queued"
    [again] = take_setpoints(connect(parts, 0, number=1))
    assert again.dispatch_id == dispatch.dispatch_id


def test_what_was_answered_is_not_sent_again() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    acknowledge(parts, session, only(dispatch), "applied")
    parts.disconnect(session)
    assert take_setpoints(connect(parts, 0, number=1)) == ()
    assert dispatch.state == "accepted"


def test_what_was_not_answered_goes_to_the_session_that_supersedes() -> None:
    parts = still_parts()
    older = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    newer = connect(parts, 0, number=1)
    parts.disconnect(older)
    assert [reported.dispatch_id for reported in take_setpoints(newer)] == [dispatch.dispatch_id]
    assert dispatch.state == "sent"


def test_a_lost_dispatch_never_overwrites_a_newer_one() -> None:
    parts = still_parts()
    older = connect(parts, 0)
    dispatch_one(parts, 5.0)
    newer = connect(parts, 0, number=1)
    latest = dispatch_one(parts, 6.0)
    parts.disconnect(older)
    assert [reported.dispatch_id for reported in take_setpoints(newer)] == [latest.dispatch_id]


def test_an_agent_that_is_too_old_for_a_reversion_is_not_sent_one() -> None:
    parts = still_parts()
    dispatch = dispatch_one(parts, 5.0, duration_s=60, reversion_mw=-1.0)
    session = connect(parts, 0, protocol=0)
    assert take_setpoints(session) == ()
    assert (dispatch.state, only(dispatch).reason) == (
        "failed",
        "its agent is too old to know reversion_mw, which is -1",
    )
    assert parts.counters.dispatches_delivered_late == 0


def test_a_reversion_that_the_connected_agent_does_not_know_is_refused_and_supersedes_nothing() -> None:
    parts = still_parts()
    connect(parts, 0, protocol=0)
    former = dispatch_one(parts, 4.0)
    with pytest.raises(DispatchRefusedError, match=r"reversion_mw is -1\.0; the agent .* is too old"):
        dispatch_one(parts, 5.0, duration_s=60, reversion_mw=-1.0)
    assert former.state == "sent"


def test_another_agents_answer_does_not_count() -> None:
    parts = still_parts()
    connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    acknowledge(parts, make_session("b", 1), only(dispatch), "applied")
    assert dispatch.state == "sent"


def test_a_dry_run_dispatches_nothing() -> None:
    store = SlowStore()
    parts = still_parts(store=store)
    session = connect(parts, 0)
    request_state = dispatch_one(parts, 1.0).state
    take_setpoints(session)
    records = len(store.dispatches)
    planned = parts.dispatcher.dispatch(
        # A value that would supersede.
        DispatchRequest(asset_id=asset_id(0), mw=2.0),
        dry_run=True,
    )
    assert only(planned).mw == 2.0
    assert take_setpoints(session) == ()
    assert len(store.dispatches) == records
    assert find_record(parts.dispatcher, planned.dispatch_id) is None
    assert request_state == "sent"


def test_every_dispatch_is_recorded_at_once_and_its_changes_soon() -> None:
    store = SlowStore()
    parts = still_parts(store=store)
    session = connect(parts, 0)
    dispatch = dispatch_one(parts, 5.0)
    assert [record.state for record in store.dispatches] == ["sent"]
    acknowledge(parts, session, only(dispatch), "rejected", reason="in maintenance")
    advance(parts, 0.5)
    assert store.dispatches[-1].members[0].reason == "in maintenance"
    assert (store.dispatches[-1].state, store.dispatches[-1].is_open) == ("rejected", False)
    written = len(store.dispatches)
    advance(parts, 5)
    assert len(store.dispatches) == written


def test_of_a_group_only_those_that_have_changed_are_recorded_again() -> None:
    store = SlowStore()
    parts = still_parts(assets=4, store=store)
    session = connect(parts, 0, 1, 2)
    report_sample(parts, 0, 1, 2)
    dispatch = dispatch_group(parts, 6.0)
    assert store.changed == [frozenset(range(4))]
    assert list(dispatch.excluded) == [3]
    acknowledge(parts, session, dispatch.setpoints[1], "applied")
    advance(parts, 0.5)
    assert store.changed[1:] == [frozenset({1})]
    assert [setpoint.state for setpoint in store.dispatches[-1].members] == ["sent", "accepted", "sent"]


def test_only_the_last_of_the_ended_dispatches_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = still_parts()
    monkeypatch.setattr(parts.dispatcher.history, "_max_dispatches", 3)
    connect(parts, 0)
    made = [dispatch_one(parts, float(mw)) for mw in range(6)]
    # Five have been superseded, of which three are remembered; the last one is open.
    found = [parts.dispatcher.history.get(one.dispatch_id) is not None for one in made]
    assert found == [False, False, *[True] * 4]
