"""An emergency stop holds its assets at 0 MW until it is resumed."""

from itertools import permutations

import pytest
import trio

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
from tests.unit.headend.parts import Parts, asset_id
from tests.unit.headend.stores import SlowStore
from trioder.control.model import Dispatch
from trioder.domain.access import ALL_TENANTS
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.fleet import Fleet, FleetChange
from trioder.domain.site_limits import SiteLimits, SiteLimitsRecord
from trioder.process.slices import run_at_once

FLEET = DispatchTarget(kind="fleet")


def asset(key: int) -> DispatchTarget:
    return DispatchTarget(kind="asset", id=asset_id(key))


def stop(parts: Parts, target: DispatchTarget = FLEET) -> Dispatch:
    keys = [parts.fleet.index_by_id[target.id]] if target.kind == "asset" else list(parts.fleet.keys)
    stops = parts.dispatcher.stops
    return run_at_once(stops.stop_steps(target, keys, tenant=ALL_TENANTS, requested_by="anna"))


def resume(parts: Parts, target: DispatchTarget = FLEET) -> None:
    found = parts.dispatcher.stops.find(target, tenant=ALL_TENANTS)
    assert found is not None
    run_at_once(parts.dispatcher.stops.resume_steps(found, requested_by="anna"))


def test_all_targets_are_set_to_0_mw_without_an_end() -> None:
    parts = still_parts()
    session = connect(parts, 0, 1)
    dispatch_one(parts, 5.0, key=0)
    dispatch = stop(parts)
    setpoints = take_setpoints(session)
    assert [(one.asset_id, one.mw, one.duration_s) for one in setpoints] == [
        (asset_id(0), 0.0, None),
        (asset_id(1), 0.0, None),
    ]
    assert (dispatch.priority, dispatch.strategy, dispatch.ends_ms) == ("emergency", None, None)


def test_it_goes_ahead_of_a_group_whose_setpoints_are_not_queued_yet() -> None:
    parts = still_parts()
    session = connect(parts, 0, 1)
    report_sample(parts, 0, 1)
    group = dispatch_group(parts, 9.0, dry_run=True)
    steps = parts.dispatcher._starter.start_steps(group)
    while not group.setpoints[1].session_id:
        next(steps)
    stop(parts)
    run_at_once(steps)
    assert {setpoint.mw for setpoint in take_setpoints(session)} == {0.0}
    assert group.state == "deferred"


def test_an_asset_that_connects_later_gets_the_stop_first() -> None:
    parts = still_parts()
    dispatch_one(parts, 5.0)
    stop(parts)
    advance(parts, 100_000.0)
    assert [setpoint.mw for setpoint in take_setpoints(connect(parts, 0))] == [0.0]


def test_an_asset_that_reconnects_gets_it_again() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = stop(parts, asset(0))
    take_setpoints(session)
    acknowledge(parts, session, only(dispatch), "applied")
    parts.disconnect(session)
    session = connect(parts, 0, number=1)
    acknowledge(parts, session, only(dispatch), "active", setpoint_mw=0.0)
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [0.0]
    assert dispatch.state == "accepted"


@pytest.mark.parametrize("status", ["rejected", "expired", "completed", "reverted", "superseded"])
def test_whatever_its_agent_answers_it_is_sent_again(status: str) -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = stop(parts, asset(0))
    [first] = take_setpoints(session)
    acknowledge(parts, session, only(dispatch), status, reason="no")
    assert take_setpoints(session) == ()
    advance(parts, 30.0)
    [again] = take_setpoints(session)
    assert (again.mw, again.dispatch_id == first.dispatch_id, only(dispatch).is_open) == (0.0, False, True)


def test_without_an_acknowledgement_it_is_sent_again() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = stop(parts, asset(0))
    take_setpoints(session)
    advance(parts, 30.0)
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [0.0]
    assert dispatch.state == "sent"


def test_what_an_agent_reports_as_active_does_not_end_it() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    stop(parts, asset(0))
    lost = dispatch_one(still_parts(), 5.0)
    acknowledge(parts, session, only(lost), "active", setpoint_mw=5.0)
    current = parts.dispatcher.in_force(0)
    assert current is not None
    assert current.dispatch.is_stop


def test_the_headends_model_obeys() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch_one(parts, 5.0)
    stop(parts)
    parts.disconnect(session)
    assert parts.dispatcher.setpoint_for(0, 5.0, parts.wall.now_ms()) == 0.0


def test_it_is_in_force_after_a_restart() -> None:
    store = SlowStore()
    parts = still_parts(store=store)
    session = connect(parts, 0)
    operator = dispatch_one(parts, 5.0)
    acknowledge(parts, session, only(operator), "applied")
    parts.dispatcher.flush()
    stop(parts, asset(0))
    again = still_parts()
    again.dispatcher.recover(store.recorded.values())
    session = connect(again, 0)
    acknowledge(again, session, only(operator), "active", setpoint_mw=5.0)
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [0.0]
    found = again.dispatcher.history.get(operator.dispatch_id)
    assert found is not None
    assert found.state == "deferred"
    resume(again, asset(0))
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [5.0]


def test_it_is_in_force_after_a_kill_though_what_it_displaced_is_recorded_as_in_force() -> None:
    store = SlowStore()
    before = still_parts(store=store)
    session = connect(before, 0, 1)
    dispatch = dispatch_one(before, 5.0)
    acknowledge(before, session, only(dispatch), "applied")
    advance(before, 1)
    record = store.dispatches[-1]
    assert record.state == "accepted"
    stop(before, asset(0))
    stop(before)
    # The former stop is resumed, and the headend killed before it records who has taken over.
    held = store.dispatches[-1]
    assert held.by_state == {"deferred": 1, "sent": 1}
    after = still_parts()
    after.dispatcher.recover([record, held])
    current = after.dispatcher.in_force(0)
    assert current is not None
    assert (current.dispatch.is_stop, current.mw) == (True, 0.0)
    assert [one.mw for one in take_setpoints(connect(after, 0, 1, agent_id="b"))] == [0.0, 0.0]
    resume(after)
    assert after.dispatcher.in_force(0) is not None


def test_later_dispatches_wait_until_it_is_resumed() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    stop(parts, asset(0))
    dispatch = dispatch_one(parts, 5.0, duration_s=60)
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [0.0]
    advance(parts, 10.0)
    resume(parts, asset(0))
    [setpoint] = take_setpoints(session)
    assert (setpoint.mw, setpoint.duration_s, dispatch.state) == (5.0, 50, "sent")


def test_after_a_resume_an_asset_without_a_dispatch_stays_at_0_mw() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch = stop(parts, asset(0))
    resume(parts, asset(0))
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [0.0]
    assert (dispatch.state, only(dispatch).reason) == ("cancelled", "resumed by anna")
    assert parts.dispatcher.stops.find(asset(0), tenant=ALL_TENANTS) is None


@pytest.mark.parametrize("ended_first", [FLEET, asset(0)])
def test_an_asset_is_free_when_no_stop_covers_it(ended_first: DispatchTarget) -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch_one(parts, 5.0)
    stop(parts, asset(0))
    stop(parts)
    take_setpoints(session)
    resume(parts, ended_first)
    assert {setpoint.mw for setpoint in take_setpoints(session)} <= {0.0}
    current = parts.dispatcher.in_force(0)
    assert current is not None
    assert current.dispatch.is_stop
    resume(parts, FLEET if ended_first != FLEET else asset(0))
    assert [setpoint.mw for setpoint in take_setpoints(session)] == [5.0]


@pytest.mark.parametrize("order", list(permutations(("fleet", "site", "asset"))))
def test_of_three_stops_those_that_are_left_hold_in_whatever_order_they_are_resumed(
    order: tuple[str, ...],
) -> None:
    parts = still_parts()
    session = connect(parts, 0)
    dispatch_one(parts, 5.0)
    site = DispatchTarget(kind="site", id=parts.fleet.sites[0].id)
    targets = {"fleet": FLEET, "site": site, "asset": asset(0)}
    for target in targets.values():
        stop(parts, target)
    for kind in order:
        current = parts.dispatcher.in_force(0)
        assert current is not None
        assert current.dispatch.is_stop
        resume(parts, targets[kind])
    assert take_setpoints(session)[0].mw == 5.0


def test_a_stop_of_what_is_stopped_changes_nothing() -> None:
    parts = still_parts()
    session = connect(parts, 0)
    first = stop(parts)
    take_setpoints(session)
    assert stop(parts) is first
    assert take_setpoints(session) == ()


def test_new_assets_of_a_stopped_fleet_are_stopped() -> None:
    parts = still_parts(assets=2)
    dispatch = stop(parts)
    change = with_more_assets(parts, 3)
    parts.latest.fleet_changed(change)
    parts.dispatcher.fleet_changed(change)
    assert set(dispatch.setpoints) == {0, 1, 2}
    assert [setpoint.mw for setpoint in take_setpoints(connect(parts, 2))] == [0.0]


def with_more_assets(parts: Parts, count: int) -> FleetChange:
    """The fleet file is reloaded with more batteries."""
    return parts.fleet.reload(Fleet(sites=parts.fleet.sites, assets=still_parts(assets=count).fleet.assets))


def test_new_assets_of_a_stopped_fleet_are_stopped_after_a_restart_too() -> None:
    store = SlowStore()
    before = still_parts(assets=2, store=store)
    connect(before, 0, 1)
    stop(before)
    advance(before, 1)
    after = still_parts(assets=3)
    after.dispatcher.recover(store.dispatches[-1:])
    assert [setpoint.mw for setpoint in take_setpoints(connect(after, 2, agent_id="new"))] == [0.0]
    assert after.dispatcher.setpoint_for(2, 5.0, after.wall.now_ms()) == 0.0


def test_assets_that_are_added_while_a_stop_is_built_are_stopped() -> None:
    parts = still_parts(assets=2)
    steps = parts.dispatcher.stops.stop_steps(FLEET, (0, 1), tenant=ALL_TENANTS, requested_by="anna")
    next(steps)
    change = with_more_assets(parts, 3)
    parts.latest.fleet_changed(change)
    parts.dispatcher.fleet_changed(change)
    dispatch = run_at_once(steps)
    assert set(dispatch.setpoints) == {0, 1, 2}
    assert parts.dispatcher.in_force(2) is dispatch.setpoints[2]


def test_assets_that_are_added_during_a_resume_are_free() -> None:
    parts = still_parts(assets=600)
    dispatch = stop(parts)
    steps = parts.dispatcher.stops.resume_steps(dispatch, requested_by="anna")
    next(steps)
    assert dispatch.count_by_state["queued"]
    change = with_more_assets(parts, 601)
    parts.latest.fleet_changed(change)
    parts.dispatcher.fleet_changed(change)
    run_at_once(steps)
    assert (dispatch.state, parts.dispatcher.in_force(600)) == ("cancelled", None)


async def test_a_stop_beside_another_of_the_same_target_returns_when_that_has_stopped_all() -> None:
    assets = 2_000
    parts = still_parts(assets=assets)
    connect(parts, *range(assets))
    stops, stopped = parts.dispatcher.stops, []

    async def post() -> None:
        dispatch = await stops.stop(FLEET, range(assets), tenant=ALL_TENANTS, requested_by="anna")
        assert all(parts.dispatcher.in_force(key) is not None for key in range(assets))
        stopped.append(dispatch)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(post)
    assert stopped[0] is stopped[1] is stopped[2]
    await stops.resume(stopped[0], requested_by="anna")
    assert parts.dispatcher.in_force(0) is None


def test_a_resume_takes_over_within_the_limit_of_a_large_site_at_once() -> None:
    assets = 1_500
    parts = still_parts(assets=assets)
    connect(parts, *range(assets))
    report_sample(parts, *range(assets))
    dispatch_group(parts, 3_000.0)
    stop(parts)
    parts.dispatcher.site_limits.set(
        SiteLimitsRecord(
            site_id=parts.fleet.sites[0].id,
            limits=SiteLimits(export_mw=1_200.0),
            until_ms=None,
            set_ms=parts.wall.now_ms(),
            set_by="anna",
        )
    )
    calls = 0
    committed_mw = parts.dispatcher.site_power.committed_mw

    def counted(key: int, *, charging: bool) -> float:
        nonlocal calls
        calls += 1
        return committed_mw(key, charging=charging)

    parts.dispatcher.site_power.committed_mw = counted  # type: ignore[method-assign]
    resume(parts)
    in_force = [parts.dispatcher.in_force(key) for key in range(assets)]
    assert sum(setpoint.mw for setpoint in in_force if setpoint is not None) == pytest.approx(1_200.0)
    # Not of each of the site for each of the site.
    assert calls < 20 * assets


async def test_little_else_runs_while_a_stop_is_sent_to_many() -> None:
    assets = 5_000
    parts = still_parts(assets=assets)
    session = connect(parts, *range(assets))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await parts.dispatcher.stops.stop(FLEET, range(assets), tenant=ALL_TENANTS, requested_by="anna")
        nursery.cancel_scope.cancel()
    assert len(take_setpoints(session)) == assets
    # Some does, for the event loop is not to be held for long either; with slices of 2 ms about 40.
    assert 1 <= turns <= 10
