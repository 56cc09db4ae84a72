"""The states of dispatches: allowed transitions, agents' statuses, and the state of a group."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioder.control.model import AssetSetpoint, Dispatch
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.lifecycle import (
    IN_FORCE,
    PENDING,
    STATES,
    TERMINAL,
    DispatchState,
    can_transition,
    state_of_group,
    state_of_status,
)

states = st.sampled_from(STATES)


def make_command(setpoints: int) -> Dispatch:
    dispatch = Dispatch(
        dispatch_id="d",
        target=DispatchTarget(kind="assets"),
        mw=1.0,
        expires_in_s=60,
        dispatched_ms=0,
        queue_until_ms=60_000,
        ends_ms=None,
    )
    for key in range(setpoints):
        setpoint = AssetSetpoint(
            dispatch=dispatch, key=key, mw=1.0, reversion_mw=0.0, wire_id="d", queue_until_ms=60_000
        )
        dispatch.add(setpoint)
    return dispatch


def test_every_state_is_of_one_kind() -> None:
    assert {"deferred", *PENDING, *IN_FORCE, *TERMINAL} == set(STATES)
    assert 1 + len(PENDING) + len(IN_FORCE) + len(TERMINAL) == len(STATES)


@given(state=states)
def test_an_ended_dispatch_stays_as_it_ended(state: DispatchState) -> None:
    followed = any(can_transition(state, following) for following in STATES)
    assert followed == (state not in TERMINAL)


@given(state=states)
def test_whatever_registry_can_be_superseded_and_can_fail(state: DispatchState) -> None:
    assert can_transition(state, "superseded") == can_transition(state, "failed") == (state not in TERMINAL)
    assert can_transition(state, "cancelled") == (state not in TERMINAL)


@given(state=states)
def test_every_open_state_but_itself_can_be_deferred(state: DispatchState) -> None:
    assert can_transition(state, "deferred") == (state not in TERMINAL and state != "deferred")


@given(state=st.sampled_from(sorted(IN_FORCE)), following=st.sampled_from(sorted(PENDING)))
def test_an_applied_setpoint_is_never_pending_again(state: DispatchState, following: DispatchState) -> None:
    assert not can_transition(state, following)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("applied", "accepted"),
        ("Accepted", "accepted"),
        ("ok", "accepted"),
        ("CLAMPED", "clamped"),
        ("rejected", "rejected"),
        ("refused", "rejected"),
        ("completed", "completed"),
        ("expired", "expired"),
        ("reverted", "failed"),
        ("active", "accepted"),
        ("done", None),
        ("applied ", None),
        ("tracking", None),
        ("", None),
    ],
)
def test_a_status_stands_for_a_state_only_if_it_is_in_the_contract(
    status: str, state: DispatchState | None
) -> None:
    assert state_of_status(status) == state


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({}, "failed"),
        ({"queued": 1, "tracking": 9}, "queued"),
        ({"sent": 1, "rejected": 9}, "sent"),
        ({"accepted": 2, "tracking": 1}, "accepted"),
        ({"accepted": 2, "clamped": 1}, "clamped"),
        ({"tracking": 1, "rejected": 4}, "tracking"),
        ({"tracking": 4, "deviating": 1}, "deviating"),
        ({"not_tracked": 2, "superseded": 1}, "not_tracked"),
        ({"completed": 1, "superseded": 8}, "completed"),
        ({"superseded": 2, "failed": 1}, "superseded"),
        ({"rejected": 3}, "rejected"),
    ],
)
def test_a_group_is_as_far_as_its_last_open_setpoint(
    counts: dict[DispatchState, int], state: DispatchState
) -> None:
    assert state_of_group(Counter(counts)) == state


@given(steps=st.lists(st.tuples(st.integers(0, 3), states), max_size=40))
def test_whatever_happens_counts_and_times_agree_with_the_states(
    steps: list[tuple[int, DispatchState]],
) -> None:
    dispatch = make_command(4)
    for now_ms, (key, state) in enumerate(steps, start=1):
        setpoint = dispatch.setpoints[key]
        before = setpoint.state
        changed = setpoint.transition(state, now_ms=now_ms)
        assert changed == can_transition(before, state)
        assert setpoint.state == (state if changed else before)
        assert (setpoint.ended_ms is not None) == (setpoint.state in TERMINAL)
    found = Counter(setpoint.state for setpoint in dispatch.setpoints.values())
    assert +dispatch.count_by_state == found
    assert dispatch.ended == all(setpoint.state in TERMINAL for setpoint in dispatch.setpoints.values())
    nobody_waits = not any(setpoint.state in PENDING for setpoint in dispatch.setpoints.values())
    if nobody_waits:
        assert dispatch.answered.is_set()
    assert dispatch.state == state_of_group(found)
