"""A site gets another tenant at a reload: what the former one dispatched ends there, and stays away."""

from dataclasses import replace

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
from tests.unit.headend.parts import Parts, asset_id, make_fleet
from tests.unit.headend.stores import SlowStore
from trioder.control.registry import LEFT_THE_TENANT
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.fleet import Fleet
from trioder.process.slices import run_at_once


def moved(count: int, *keys: int, tenant: str = "beta") -> Fleet:
    """The fleet of `still_parts`, with these assets at another site, of another tenant."""
    fleet = make_fleet(count)
    site = replace(fleet.sites[0], id=asset_id(9_000), name="South", tenant=tenant)
    assets = [
        replace(asset, site_id=site.id, site_name=site.name) if key in keys else asset
        for key, asset in enumerate(fleet.assets)
    ]
    return Fleet(sites=[*fleet.sites, site], assets=assets)


def reload(parts: Parts, newer: Fleet) -> None:
    parts.dispatcher.fleet_changed(parts.fleet.reload(newer))


def test_a_dispatch_ends_at_its_reversion_with_the_reason() -> None:
    parts = still_parts()
    session = connect(parts, 0, 1)
    ended = dispatch_one(parts, 4.0, key=1, duration_s=600, reversion_mw=1.0)
    kept = dispatch_one(parts, 2.0, key=0)
    take_setpoints(session)
    reload(parts, moved(2, 1))
    assert (ended.state, ended.setpoints[1].reason) == ("failed", LEFT_THE_TENANT)
    assert [(one.asset_id, one.mw) for one in take_setpoints(session)] == [(asset_id(1), 1.0)]
    assert kept.state == "sent"


def test_a_dispatch_that_waits_for_its_agent_is_not_sent_any_more() -> None:
    parts = still_parts()
    ended = dispatch_one(parts, 4.0, key=1, expires_in_s=60.0)
    reload(parts, moved(2, 1))
    assert ended.state == "failed"
    assert take_setpoints(connect(parts, 1)) == ()


def test_a_dispatch_for_all_tenants_goes_on() -> None:
    parts = still_parts()
    connect(parts, 0, 1)
    dispatch = dispatch_one(parts, 4.0, key=1, tenant="*")
    reload(parts, moved(2, 1))
    assert dispatch.state == "sent"


def test_the_others_of_a_group_take_over_and_the_asset_is_not_used_again() -> None:
    parts = still_parts(assets=3)
    session = connect(parts, 0, 1, 2)
    report_sample(parts, 0, 1, 2)
    dispatch = dispatch_group(parts, 9.0, duration_s=600)
    for key in range(3):
        acknowledge(parts, session, dispatch.setpoints[key], "applied")
    reload(parts, moved(3, 1))
    for _ in range(30):
        for key, setpoint in dispatch.setpoints.items():
            if setpoint.state == "sent":
                acknowledge(parts, session, setpoint, "applied")
            mw = setpoint.mw if setpoint.is_open else 0.0
            report_sample(parts, key, mw=mw, setpoint=mw, available_mw=4.0)
        advance(parts, 4)
    # 1 MW is short, and the third battery would be free and well.
    assert {key: one.mw for key, one in dispatch.setpoints.items() if one.is_open} == {0: 4.0, 2: 4.0}
    assert dispatch.shortfall_mw == 1.0
    assert dispatch.setpoints[1].reason == LEFT_THE_TENANT


def test_a_dispatch_of_before_the_start_ends_if_the_site_got_another_tenant_meanwhile() -> None:
    store = SlowStore()
    before = still_parts(store=store)
    session = connect(before, 1)
    acknowledge(before, session, dispatch_one(before, 4.0, key=1).setpoints[1], "applied")
    before.dispatcher.flush()
    after = still_parts()
    after.fleet.reload(moved(2, 1))
    after.dispatcher.recover(store.dispatches[-1:])
    assert [(one.mw, one.dispatch_id) for one in take_setpoints(connect(after, 1))] == [(0.0, "")]


def test_a_stop_stays() -> None:
    parts = still_parts()
    connect(parts, 1)
    target = DispatchTarget(kind="asset", id=asset_id(1))
    steps = parts.dispatcher.stops.stop_steps(target, [1], tenant="default", requested_by="anna")
    stop = run_at_once(steps)
    reload(parts, moved(2, 1))
    assert parts.dispatcher.in_force(1) is stop.setpoints[1]
