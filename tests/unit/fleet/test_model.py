"""A fleet that is reloaded keeps each asset's position, whatever is added, removed and changed."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, Site

SITE = Site(id="00000000-0000-4000-8000-0000000000aa", name="Site", location="Here")


def asset(number: int, *, capacity_mwhr: float = 10.0) -> Asset:
    return Asset(
        id=f"00000000-0000-4000-8000-{number:012d}",
        name=f"Battery {number}",
        site_id=SITE.id,
        capacity_mwhr=capacity_mwhr,
        max_mw=5.0,
        min_mw=-5.0,
        charge_efficiency=0.9,
        discharge_efficiency=0.9,
        ramp_rate_mw_per_min=60.0,
    )


def fleet(*assets: Asset) -> Fleet:
    return Fleet(sites=(SITE,), assets=assets)


def test_added_changed_and_retired_assets_are_named() -> None:
    live = fleet(asset(1), asset(2), asset(3))
    change = live.reload(fleet(asset(4), asset(3, capacity_mwhr=9.0), asset(1)))
    assert (list(change.added), list(change.changed), list(change.retired)) == ([3], [2], [1])
    assert list(live.keys) == [3, 2, 0]
    assert live.assets[2].capacity_mwhr == 9.0
    # Where a retired asset was, its description stays.
    assert live.assets[1] == asset(2)
    assert asset(2).id not in live.index_by_id


def test_an_asset_whose_site_moves_to_another_tenant_has_changed() -> None:
    other = Site(id="00000000-0000-4000-8000-0000000000bb", name="Other", location="There")
    elsewhere = replace(asset(2), site_id=other.id)
    live = Fleet(sites=(SITE, other), assets=(asset(1), elsewhere))
    change = live.reload(Fleet(sites=(replace(SITE, tenant="north"), other), assets=(asset(1), elsewhere)))
    assert (list(change.added), list(change.changed), list(change.retired)) == ([], [0], [])
    assert (live.tenant_of(0), live.tenant_of(1)) == ("north", "default")


def test_a_retired_asset_keeps_the_tenant_of_its_last_site() -> None:
    former = Site(id="00000000-0000-4000-8000-0000000000bb", name="F", location="There", tenant="north")
    live = Fleet(sites=(SITE, former), assets=(asset(1), replace(asset(2), site_id=former.id)))
    for _ in range(2):
        live.reload(fleet(asset(1)))
        assert live.tenant_of(1) == "north"


def test_a_retired_asset_returns_to_its_place() -> None:
    live = fleet(asset(1), asset(2))
    live.reload(fleet(asset(1)))
    change = live.reload(fleet(replace(asset(2), name="renamed"), asset(1)))
    assert (list(change.added), list(change.changed), list(change.retired)) == ([1], [], [])
    assert live.assets[1].name == "renamed"


def test_the_lists_that_others_hold_follow() -> None:
    live = fleet(asset(1))
    assets, asset_ids = live.assets, live.asset_ids
    live.reload(fleet(asset(1), asset(2)))
    assert [one.id for one in assets] == asset_ids == [asset(1).id, asset(2).id]


@given(st.lists(st.lists(st.integers(1, 9), unique=True), min_size=2, max_size=6))
def test_positions_never_move_and_the_fleet_is_the_newest_file(files: list[list[int]]) -> None:
    live = fleet(*map(asset, files[0]))
    position_by_id: dict[str, int] = {}
    for numbers in files[1:]:
        before = set(live.index_by_id)
        change = live.reload(fleet(*map(asset, numbers)))
        assert [live.assets[key].id for key in live.keys] == [asset(number).id for number in numbers]
        assert {live.asset_ids[key] for key in change.added} == set(live.index_by_id) - before
        assert {live.asset_ids[key] for key in change.retired} == before - set(live.index_by_id)
        for asset_id, key in live.index_by_id.items():
            assert position_by_id.setdefault(asset_id, key) == key
