"""Small fleets for the launcher's tests."""

from uuid import UUID

from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, Site
from trioder.launcher.shards import Shard, cut_shards

SITE = Site(id=str(UUID(int=1)), name="North", location="Nowhere", lat=None, lon=None)


def fleet_of(count: int) -> Fleet:
    assets = tuple(
        Asset(
            id=str(UUID(int=1000 + number)),
            name=f"Battery {number}",
            site_id=SITE.id,
            site_name=SITE.name,
            capacity_mwhr=40.0,
            max_mw=10.0,
            min_mw=-10.0,
            charge_efficiency=0.9,
            discharge_efficiency=0.9,
            ramp_rate_mw_per_min=60.0,
        )
        for number in range(count)
    )
    return Fleet(sites=(SITE,), assets=assets)


def shards_of(*, assets: int, size: int) -> tuple[Shard, ...]:
    return cut_shards(fleet_of(assets), size)
