"""`/sites` and `/fleet`: what the batteries of a site, or all, do together now, and what they could."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, get_args

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndex
from trioder.api.context import Headend
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query
from trioder.api.responses import ROWS_A_CHUNK, json_answer, list_chunks, stream_answer
from trioder.api.schemas.resources import AvailableRow, FleetRow, NoQuery, PowerRow, SiteRow
from trioder.control.totals import Power, Summing, Sums
from trioder.domain.fleet import Site
from trioder.ingest.latest import Quality
from trioder.process.slices import Steps, parts_of, run_in_slices

# What it takes to add an asset up, and to make the row of a site.
_SUM_US = 5.0
_ROW_US = 20.0


def sites_blueprint(headend: Headend, index: FleetIndex) -> Blueprint:
    """The routes of assets taken together."""
    blueprint = Blueprint("sites", __name__)
    fleet = headend.fleet
    summing = Summing(fleet=headend.fleet, latest=headend.latest, sessions=headend.sessions)

    def sum_steps(keys: Sequence[int]) -> Steps[Sums]:
        sums = Sums()
        for part in parts_of(keys):
            summing.add(sums, part, headend.wall.now_ms())
            yield _SUM_US * len(part)
        return sums

    def row_steps(sites: Sequence[tuple[Site, Sequence[int]]]) -> Steps[list[dict[str, Any]]]:
        """`SiteRow`s of sites with these assets, with what names each before its sums."""
        rows = []
        for site, keys in sites:
            named = {name: getattr(site, name) for name in ("id", "name", "location", "lat", "lon")}
            sums = yield from sum_steps(keys)
            rows.append(named | _columns(sums))
            yield _ROW_US
        return rows

    async def parts_of_rows(
        sites: Sequence[tuple[Site, Sequence[int]]],
    ) -> AsyncGenerator[list[dict[str, Any]]]:
        for part in parts_of(sites):
            yield await run_in_slices(row_steps(part))

    @blueprint.get("/sites")
    @documented(list[SiteRow])
    async def list_sites() -> TrioResponse:
        """List sites with the sums over their assets, in fleet order."""
        checked_query(NoQuery)
        sites = [(site, index.keys_of_site(site.id)) for site in fleet.sites]
        if len(sites) <= ROWS_A_CHUNK:
            return json_answer(await run_in_slices(row_steps(sites)))
        return stream_answer(list_chunks(parts_of_rows(sites)))

    @blueprint.get("/fleet")
    @documented(FleetRow)
    async def show_fleet() -> TrioResponse:
        """Show the sums over all assets."""
        checked_query(NoQuery)
        sums = await run_in_slices(sum_steps(index.all_keys))
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
