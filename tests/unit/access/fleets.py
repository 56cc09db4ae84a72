"""A fleet of two tenants, with a site and an asset each."""

from tests.unit.access.documents import ASSET, OTHER_ASSET, OTHER_SITE, SITE
from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet, Site

UNKNOWN = "00000000-0000-4000-8000-0000000000ff"


def two_tenants() -> Fleet:
    sites = [
        Site(id=site_id, name=tenant, location="", tenant=tenant)
        for site_id, tenant in ((SITE, "alpha"), (OTHER_SITE, "beta"))
    ]
    assets = [asset_of(asset_id, site_id) for asset_id, site_id in ((ASSET, SITE), (OTHER_ASSET, OTHER_SITE))]
    return Fleet(sites=sites, assets=assets)


def asset_of(asset_id: str, site_id: str) -> Asset:
    return Asset(
        id=asset_id,
        name=asset_id,
        site_id=site_id,
        site_name="site",
        location="",
        capacity_mwhr=4.0,
        max_mw=1.0,
        min_mw=-1.0,
        charge_efficiency=0.9,
        discharge_efficiency=0.9,
        ramp_rate_mw_per_min=60.0,
    )
