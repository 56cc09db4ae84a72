"""Dispatch: bounds, delivery, waiting for an agent, and what becomes of each."""

import math

import pytest

from tests.unit.headend.parts import Parts, StillWall, asset_id, make_parts, make_session
from tests.unit.headend.stores import SlowStore
from trioder.headend import dispatcher as dispatcher_module
from trioder.headend.dispatcher import Dispatched, DispatchRefusedError
from trioder.headend.sessions import Session
from trioder.sim.model import Dispatch, DispatchRequest
from trioder.store.interface import Store
from trioder.wire.records import Acknowledgement


def still_parts(store: Store | None = None) -> Parts:
    return make_parts(assets=2, store=store, wall=StillWall())


def later(parts: Parts, seconds: float) -> None:
    assert isinstance(parts.wall, StillWall)
    parts.wall.passed_s += seconds


def dispatch(parts: Parts, mw: float, *, duration_s: int | None = None, key: int = 0) -> Dispatched:
    return parts.dispatcher.dispatch(DispatchRequest(asset_id=asset_id(key), mw=mw, duration_s=duration_s))


def mail_of(session: Session) -> tuple[Dispatch, ...]:
    return session.mailbox._take_nowait().dispatches


def state_of(parts: Parts, dispatched: Dispatched) -> str:
    record = parts.dispatcher.record_of(dispatched.dispatch.dispatch_id)
    assert record is not None
    return record.state


def test_a_connected_agent_is_sent_its_setpoint() -> None:
    parts = still_parts()
    session = parts.connect(make_session("a", 0))
    dispatched = dispatch(parts, 5.0, duration_s=60)
    assert dispatched.delivery == "sent"
    assert mail_of(session) == (dispatched.dispatch,)
    assert (dispatched.dispatch.mw, dispatched.dispatch.duration_s) == (5.0, 60)


@pytest.mark.parametrize(
    ("mw", "duration_s", "code", "words"),
    [
        (10.1, None, "out_of_bounds", r"mw is 10\.1; asset .* takes -10\.0 to 10\.0 MW"),
        (-10.1, None, "out_of_bounds", r"mw is -10\.1; asset .* takes -10\.0 to 10\.0 MW"),
        (math.nan, None, "bad_request", "mw is nan; it must be a finite number"),
        (math.inf, None, "bad_request", "mw is inf; it must be a finite number"),
        (1.0, 0, "bad_request", "duration_s is 0; it must be 1 to"),
        (1.0, 10**30, "bad_request", "duration_s is 10+; it must be 1 to"),
    ],
)
def test_what_the_asset_does_not_take_is_refused(
    mw: float, duration_s: int | None, code: str, words: str
) -> None:
    parts = still_parts()
    session = parts.connect(make_session("a", 0))
    with pytest.raises(DispatchRefusedError, match=words) as refused:
        dispatch(parts, mw, duration_s=duration_s)
    assert refused.value.code == code
    assert mail_of(session) == ()
    assert parts.counters.dispatches_refused == 1


@pytest.mark.parametrize("mw", [-10.0, 0.0, 10.0])
def test_the_limits_themselves_are_taken(mw: float) -> None:
    assert dispatch(still_parts(), mw).dispatch.mw == mw


def test_an_unknown_asset_is_refused() -> None:
    with pytest.raises(DispatchRefusedError, match=asset_id(5)) as refused:
        dispatch(still_parts(), 1.0, key=5)
    assert refused.value.code == "not_found"


def test_a_queued_dispatch_is_delivered_when_the_agent_comes_back_in_time() -> None:
    parts = still_parts()
    dispatched = dispatch(parts, 5.0)
    assert dispatched.delivery == "queued"
    later(parts, 59)
    assert mail_of(parts.connect(make_session("a", 0))) == (dispatched.dispatch,)
    assert state_of(parts, dispatched) == "sent"


def test_the_duration_counts_from_when_the_dispatch_was_made() -> None:
    parts = still_parts()
    dispatch(parts, 5.0, duration_s=50)
    later(parts, 20.5)
    [late] = mail_of(parts.connect(make_session("a", 0)))
    assert late.duration_s == 30


def test_a_dispatch_whose_time_is_over_is_not_delivered() -> None:
    parts = still_parts()
    dispatched = dispatch(parts, 5.0, duration_s=10)
    later(parts, 10)
    assert mail_of(parts.connect(make_session("a", 0))) == ()
    assert state_of(parts, dispatched) == "dropped"


@pytest.mark.parametrize("housekeeping", [True, False])
def test_an_agent_that_stays_away_gets_no_old_dispatch(housekeeping: bool) -> None:
    parts = still_parts()
    dispatched = dispatch(parts, 5.0)
    later(parts, 60)
    if housekeeping:
        parts.dispatcher.drop_overdue()
    session = parts.connect(make_session("a", 0))
    assert mail_of(session) == ()
    assert state_of(parts, dispatched) == "dropped"
    assert parts.counters.dispatches_dropped == 1


def test_a_newer_dispatch_replaces_a_queued_one() -> None:
    parts = still_parts()
    older, newer = dispatch(parts, 5.0), dispatch(parts, -5.0)
    assert mail_of(parts.connect(make_session("a", 0))) == (newer.dispatch,)
    assert (state_of(parts, older), state_of(parts, newer)) == ("replaced", "sent")


def test_a_newer_dispatch_replaces_one_that_has_not_left_yet() -> None:
    parts = still_parts()
    session = parts.connect(make_session("a", 0))
    older, newer = dispatch(parts, 5.0), dispatch(parts, -5.0)
    assert mail_of(session) == (newer.dispatch,)
    assert (state_of(parts, older), state_of(parts, newer)) == ("replaced", "sent")


def test_what_may_not_have_left_goes_to_the_next_session() -> None:
    parts = still_parts()
    session = parts.connect(make_session("a", 0))
    dispatched = dispatch(parts, 5.0)
    parts.disconnect(session)
    assert state_of(parts, dispatched) == "queued"
    assert mail_of(parts.connect(make_session("a", 0))) == (dispatched.dispatch,)


def test_what_may_not_have_left_goes_to_the_session_that_superseded() -> None:
    parts = still_parts()
    older = parts.connect(make_session("a", 0))
    dispatched = dispatch(parts, 5.0)
    newer = parts.connect(make_session("a", 0))
    parts.disconnect(older)
    assert mail_of(newer) == (dispatched.dispatch,)


def test_a_lost_dispatch_never_overwrites_a_newer_one() -> None:
    parts = still_parts()
    older = parts.connect(make_session("a", 0))
    dispatch(parts, 5.0)
    newer = parts.connect(make_session("a", 0))
    latest = dispatch(parts, 6.0)
    parts.disconnect(older)
    assert mail_of(newer) == (latest.dispatch,)


def test_the_agents_answer_is_remembered() -> None:
    store = SlowStore()
    parts = still_parts(store)
    session = parts.connect(make_session("a", 0))
    dispatched = dispatch(parts, 5.0)
    answer = Acknowledgement(
        dispatch_id=dispatched.dispatch.dispatch_id,
        asset_id=asset_id(0),
        status="rejected",
        ts_unix_ms=1,
        reason="in maintenance",
    )
    parts.dispatcher.acknowledged(answer, session=session)
    record = parts.dispatcher.record_of(dispatched.dispatch.dispatch_id)
    assert record is not None
    assert (record.state, record.answer, record.reason) == ("acknowledged", "rejected", "in maintenance")
    assert store.dispatches[-1] == record
    assert parts.counters.dispatches_rejected == 1


def test_another_agents_answer_does_not_count() -> None:
    parts = still_parts()
    parts.connect(make_session("a", 0))
    dispatched = dispatch(parts, 5.0)
    answer = Acknowledgement(
        dispatch_id=dispatched.dispatch.dispatch_id, asset_id=asset_id(0), status="applied", ts_unix_ms=1
    )
    parts.dispatcher.acknowledged(answer, session=make_session("b", 1))
    assert state_of(parts, dispatched) == "sent"


def test_only_the_most_recent_dispatches_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher_module, "RECENT_DISPATCHES", 3)
    parts = still_parts()
    parts.connect(make_session("a", 0))
    made = [dispatch(parts, float(mw)) for mw in range(5)]
    assert [parts.dispatcher.record_of(one.dispatch.dispatch_id) is not None for one in made] == [
        False,
        False,
        True,
        True,
        True,
    ]
