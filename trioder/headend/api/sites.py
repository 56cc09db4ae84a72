"""`/sites`: each site with what its batteries can do, and what they do now."""

from math import fsum

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.fleet import Site
from trioder.headend.api.answers import ROWS_A_CHUNK, list_answer
from trioder.headend.api.inputs import checked_query
from trioder.headend.api.models import NoQuery, SiteRow
from trioder.headend.api.openapi import documented
from trioder.headend.api.selection import FleetIndex
from trioder.headend.service import Headend


def sites_blueprint(headend: Headend, index: FleetIndex) -> Blueprint:
    """The routes of sites."""
    blueprint = Blueprint("sites", __name__)
    sites = headend.fleet.sites
    # A site costs what its assets cost.
    rows_a_chunk = max(1, ROWS_A_CHUNK * len(sites) // max(1, len(headend.fleet.assets)))

    @blueprint.get("/sites")
    @documented(list[SiteRow])
    async def list_sites() -> TrioResponse:
        """List sites with the sums over their assets, in fleet order."""
        checked_query(NoQuery)
        return list_answer(
            range(len(sites)),
            lambda position: _row(headend, index, sites[position]),
            rows_a_chunk=rows_a_chunk,
        )

    return blueprint


def _row(headend: Headend, index: FleetIndex, site: Site) -> SiteRow:
    keys = index.keys_of_site(site.id)
    assets = [headend.fleet.assets[key] for key in keys]
    now_ms = headend.wall.now_ms()
    views = [headend.latest.view(key, now_ms) for key in keys]
    live = [view.telemetry for view in views if view is not None and view.quality != "stale"]
    return SiteRow(
        id=site.id,
        name=site.name,
        location=site.location,
        lat=site.lat,
        lon=site.lon,
        assets=len(assets),
        capacity_mwhr=fsum(asset.capacity_mwhr for asset in assets),
        max_mw=fsum(asset.max_mw for asset in assets),
        min_mw=fsum(asset.min_mw for asset in assets),
        live_assets=len(live),
        stale_assets=len(assets) - len(live),
        current_mw=fsum(telemetry.current_mw for telemetry in live),
        setpoint_mw=fsum(telemetry.setpoint_mw for telemetry in live),
        soc_mwhr=fsum(telemetry.soc_mwhr for telemetry in live),
    )
