"""`/sites` and `/fleet`: what the batteries of a site, or all, do together now, and what they could."""

from typing import Any, get_args

import trio
from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.fleet import Site
from trioder.headend.api.answers import ROWS_A_CHUNK, json_answer, list_answer
from trioder.headend.api.inputs import checked_query
from trioder.headend.api.models import AvailableRow, FleetRow, NoQuery, PowerRow, SiteRow
from trioder.headend.api.openapi import documented
from trioder.headend.api.selection import FleetIndex
from trioder.headend.latest import Quality
from trioder.headend.service import Headend
from trioder.headend.sums import Power, Summing, Sums


def sites_blueprint(headend: Headend, index: FleetIndex) -> Blueprint:
    """The routes of assets taken together."""
    blueprint = Blueprint("sites", __name__)
    sites = headend.fleet.sites
    summing = Summing(fleet=headend.fleet, latest=headend.latest, sessions=headend.sessions)
    # A site costs what its assets cost.
    rows_a_chunk = max(1, ROWS_A_CHUNK * len(sites) // max(1, len(headend.fleet.assets)))

    def site_row(site: Site) -> dict[str, Any]:
        """A `SiteRow`, with what names it before its sums."""
        sums = Sums()
        summing.add(sums, index.keys_of_site(site.id), headend.wall.now_ms())
        named = {name: getattr(site, name) for name in ("id", "name", "location", "lat", "lon")}
        return named | _columns(sums)

    @blueprint.get("/sites")
    @documented(list[SiteRow])
    async def list_sites() -> TrioResponse:
        """List sites with the sums over their assets, in fleet order."""
        checked_query(NoQuery)
        return list_answer(
            range(len(sites)), lambda position: site_row(sites[position]), rows_a_chunk=rows_a_chunk
        )

    @blueprint.get("/fleet")
    @documented(FleetRow)
    async def show_fleet() -> TrioResponse:
        """Show the sums over all assets."""
        checked_query(NoQuery)
        sums, keys = Sums(), index.all_keys
        now_ms = headend.wall.now_ms()
        for start in range(0, len(keys), ROWS_A_CHUNK):
            summing.add(sums, keys[start : start + ROWS_A_CHUNK], now_ms)
            await trio.lowlevel.checkpoint()
        return json_answer(FleetRow(**_columns(sums)))

    return blueprint


def _columns(sums: Sums) -> dict[str, Any]:
    return {
        "assets": sums.assets,
        "connected_assets": sums.connected,
        "live_assets": sums.live,
        # Those without any sample among them.
        "stale_assets": sums.assets - sums.live - sums.by_quality["suspect"] - sums.by_quality["bad"],
        "by_quality": {name: sums.by_quality[name] for name in get_args(Quality)},
        "capacity_mwhr": sums.capacity_mwhr,
        "max_mw": sums.max_mw,
        "min_mw": sums.min_mw,
        "current_mw": sums.current_mw,
        "setpoint_mw": sums.setpoint_mw,
        "soc_mwhr": sums.soc_mwhr,
        "available": AvailableRow(
            now=_power(sums.available_now),
            min_15=_power(sums.available["15_min"]),
            min_60=_power(sums.available["60_min"]),
        ),
    }


def _power(power: Power) -> PowerRow:
    return PowerRow(discharge_mw=power.discharge_mw, charge_mw=power.charge_mw)
