"""What the setpoints of a site add up to stays within its limits, whatever is dispatched."""

from dataclasses import replace

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
from tests.unit.control.test_cancellation import cancel
from tests.unit.headend.parts import Parts
from tests.unit.headend.stores import SlowStore
from trioder.domain.dispatch import DispatchRefusedError
from trioder.domain.fleet import Fleet, Site
from trioder.domain.site_limits import SiteLimits, SiteLimitsRecord

SOUTH = "5017e000-0000-4000-8000-000000000001"


def two_sites(*, assets: int = 4, export_mw: float | None = None, import_mw: float | None = None) -> Parts:
    """The first half of the assets is at North, which has the limits; the others are at South."""
    parts = still_parts(assets=assets)
    [north] = parts.fleet.sites
    north = replace(north, export_limit_mw=export_mw, import_limit_mw=import_mw)
    south = Site(id=SOUTH, name="South", location="Reno, NV")
    newer = Fleet(
        sites=(north, south),
        assets=[
            replace(asset, site_id=SOUTH, site_name="South") if key >= assets // 2 else asset
            for key, asset in enumerate(parts.fleet.assets)
        ],
    )
    parts.dispatcher.fleet_changed(parts.fleet.reload(newer))
    connect(parts, *range(assets))
    report_sample(parts, *range(assets))
    return parts


def limit(parts: Parts, *, site: int = 0, seconds: float | None = None, **limits: float) -> None:
    record = SiteLimitsRecord(
        site_id=parts.fleet.sites[site].id,
        limits=SiteLimits(**limits),
        until_ms=None if seconds is None else parts.wall.now_ms() + round(seconds * 1000),
        set_ms=parts.wall.now_ms(),
        set_by="anna",
    )
    parts.dispatcher.site_limits.set(record)
    parts.dispatcher.enforce_site_limits()


def sent_mw(parts: Parts) -> dict[int, float]:
    """What was queued last for each connected asset."""
    [session] = parts.sessions
    return {parts.fleet.index_by_id[one.asset_id]: one.mw for one in take_setpoints(session)}


@pytest.mark.parametrize(("mw", "verb"), [(10.0, "export"), (-10.0, "import")])
def test_a_single_dispatch_beyond_the_limit_is_refused_with_what_is_left(mw: float, verb: str) -> None:
    parts = two_sites(export_mw=12.0, import_mw=12.0)
    dispatch_one(parts, mw, key=0)
    with pytest.raises(
        DispatchRefusedError, match=f"12 MW that site .* may {verb}, 2 MW are left"
    ) as refused:
        dispatch_one(parts, mw, key=1)
    assert refused.value.code == "out_of_bounds"
    dispatch_one(parts, mw / 5.0, key=1)
    dispatch_one(parts, -mw, key=1)
    dispatch_one(parts, mw, key=2)


def test_a_reversion_counts() -> None:
    parts = two_sites(export_mw=12.0)
    dispatch_one(parts, 0.0, key=0, reversion_mw=10.0)
    with pytest.raises(DispatchRefusedError, match="2 MW are left"):
        dispatch_one(parts, -1.0, key=1, reversion_mw=3.0)


def test_a_reversion_counts_when_its_dispatch_has_ended() -> None:
    parts = two_sites(export_mw=12.0)
    dispatch = dispatch_one(parts, 1.0, key=0, reversion_mw=10.0)
    cancel(parts, dispatch)
    with pytest.raises(DispatchRefusedError, match="2 MW are left"):
        dispatch_one(parts, 3.0, key=1)


def test_what_an_asset_reports_without_a_dispatch_counts() -> None:
    parts = two_sites(export_mw=12.0)
    report_sample(parts, 0, mw=10.0, setpoint=10.0)
    with pytest.raises(DispatchRefusedError, match="2 MW are left"):
        dispatch_one(parts, 3.0, key=1)


def test_a_group_keeps_to_the_limit_and_uses_the_other_site() -> None:
    parts = two_sites(export_mw=4.0)
    group = dispatch_group(parts, 20.0)
    by_key = {key: setpoint.mw for key, setpoint in group.setpoints.items()}
    # Each has its share by what it can hold within the limit.
    assert by_key[0] + by_key[1] == pytest.approx(20.0 * 4.0 / 24.0, abs=1e-9)
    assert sum(by_key.values()) == pytest.approx(20.0, abs=1e-9)
    assert group.shortfall_mw == 0.0


@pytest.mark.parametrize("strategy", ["headroom", "capacity", "equal"])
def test_all_of_the_limit_can_be_used(strategy: str) -> None:
    parts = two_sites(export_mw=4.0)
    report_sample(parts, 0, soc=0.5)
    group = dispatch_group(parts, 24.0, duration_s=3600, strategy=strategy)
    assert group.setpoints[0].mw + group.setpoints[1].mw == pytest.approx(4.0, abs=1e-9)
    assert group.setpoints[1].code == "limited_by_site"


def test_what_no_site_has_room_for_is_the_shortfall() -> None:
    parts = two_sites(export_mw=4.0)
    assert dispatch_group(parts, 30.0).shortfall_mw == pytest.approx(6.0, abs=1e-9)


def test_a_group_leaves_the_room_that_others_have_taken() -> None:
    parts = two_sites(export_mw=4.0)
    dispatch_one(parts, 3.0, key=0, priority="operator")
    group = dispatch_group(parts, 20.0, priority="schedule")
    assert group.setpoints[1].mw <= 1.0


def test_reversions_of_a_group_keep_to_the_limit() -> None:
    parts = two_sites(export_mw=4.0)
    group = dispatch_group(parts, 8.0, reversion_mw=12.0)
    worst_mw = sum(max(group.setpoints[key].mw, group.setpoints[key].reversion_mw) for key in (0, 1))
    assert worst_mw <= 4.0
    with pytest.raises(DispatchRefusedError, match="can hold"):
        dispatch_group(parts, 8.0, reversion_mw=30.0)


def test_a_lower_limit_moves_a_groups_power_to_other_sites_at_once() -> None:
    parts = two_sites()
    group = dispatch_group(parts, 20.0)
    sent_mw(parts)
    limit(parts, export_mw=2.0)
    sent = sent_mw(parts)
    assert sent[0] + sent[1] <= 2.0
    assert sum(sent.values()) == pytest.approx(20.0, abs=1e-9)
    assert group.shortfall_mw == pytest.approx(0.0, abs=1e-9)
    assert [why for _, why in group.reallocations[0].adjusted] == ["limited by the site"] * 2


def test_without_resplit_it_is_the_shortfall() -> None:
    parts = two_sites()
    group = dispatch_group(parts, 20.0, resplit=False)
    limit(parts, export_mw=2.0)
    assert group.shortfall_mw == pytest.approx(8.0, abs=1e-9)
    assert group.allocated_mw == pytest.approx(12.0, abs=1e-9)


def test_a_lower_limit_reduces_a_single_dispatch() -> None:
    parts = two_sites()
    dispatch = dispatch_one(parts, 10.0, key=0)
    sent_mw(parts)
    limit(parts, export_mw=4.0)
    assert sent_mw(parts) == {0: pytest.approx(4.0, abs=1e-9)}
    setpoint = only(dispatch)
    assert (setpoint.code, setpoint.allocation) == ("limited_by_site", "limited by the site: 4 MW")
    assert dispatch.shortfall_mw == pytest.approx(6.0, abs=1e-9)


def test_what_an_asset_was_left_at_is_reduced() -> None:
    parts = two_sites()
    cancel(parts, dispatch_one(parts, 1.0, key=0, reversion_mw=8.0))
    sent_mw(parts)
    limit(parts, export_mw=4.0)
    assert sent_mw(parts) == {0: pytest.approx(4.0, abs=1e-9)}


def test_a_limit_ends_by_its_time_and_the_files_applies_again() -> None:
    parts = two_sites(export_mw=4.0)
    limit(parts, export_mw=20.0, seconds=60.0)
    dispatch = dispatch_one(parts, 10.0, key=0)
    [session] = parts.sessions
    acknowledge(parts, session, only(dispatch), "applied")
    advance(parts, 59.0)
    assert only(dispatch).mw == 10.0
    advance(parts, 1.0)
    assert only(dispatch).mw == pytest.approx(4.0, abs=1e-9)


def test_a_deferred_setpoint_takes_over_what_fits() -> None:
    parts = two_sites(export_mw=12.0)
    lower = dispatch_one(parts, 10.0, key=0, priority="schedule")
    operator = dispatch_one(parts, 1.0, key=0)
    dispatch_one(parts, 6.0, key=1)
    cancel(parts, operator)
    assert (lower.state, only(lower).mw, lower.shortfall_mw) == ("sent", 6.0, 4.0)


def test_the_headends_model_counts_and_obeys() -> None:
    parts = two_sites()
    [session] = parts.sessions
    dispatch = dispatch_one(parts, 10.0, key=0)
    acknowledge(parts, session, only(dispatch), "applied")
    parts.disconnect(session)
    limit(parts, export_mw=4.0)
    assert parts.dispatcher.setpoint_for(0, 10.0, parts.wall.now_ms()) == pytest.approx(4.0, abs=1e-9)


def test_a_group_that_is_being_started_keeps_to_the_room_that_is_left_then() -> None:
    parts = two_sites(export_mw=6.0)
    group = dispatch_group(parts, 20.0, dry_run=True)
    dispatch_one(parts, 6.0, key=0)
    for _ in parts.dispatcher._starter.start_steps(group):
        pass
    sent = sent_mw(parts)
    assert sent[0] + sent[1] <= 6.0


def test_limits_that_were_set_are_in_effect_after_a_restart() -> None:
    store = SlowStore()
    parts = still_parts(store=store)
    limit(parts, export_mw=4.0)
    assert [record.limits.export_mw for record in store.site_limits_set.values()] == [4.0]
    again = still_parts()
    again.dispatcher.site_limits.recover(store.site_limits_set.values())
    with pytest.raises(DispatchRefusedError, match="4 MW are left"):
        dispatch_one(again, 5.0)


def test_a_reversion_of_a_battery_that_is_away_is_reduced_when_it_is_back() -> None:
    parts = two_sites()
    [session] = parts.sessions
    dispatch = dispatch_one(parts, -5.0, key=0, duration_s=40, reversion_mw=3.0)
    acknowledge(parts, session, only(dispatch), "applied")
    parts.disconnect(session)
    cancel(parts, dispatch)
    limit(parts, export_mw=4.0)
    advance(parts, 60)
    # It has ended its setpoint by itself, and obeys the reversion.
    with pytest.raises(DispatchRefusedError, match="1 MW are left"):
        dispatch_one(parts, 2.0, key=1)
    limit(parts, export_mw=1.0)
    with pytest.raises(DispatchRefusedError, match="0 MW are left"):
        dispatch_one(parts, 2.0, key=1)
    connect(parts, 0, agent_id="b", number=1)
    advance(parts, 0.5)
    assert sent_mw(parts)[0] == pytest.approx(1.0, abs=1e-9)
    assert parts.dispatcher.site_power.committed_mw(0, charging=False) <= 1.0
