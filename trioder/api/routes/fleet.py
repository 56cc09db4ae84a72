"""`/assets`, `/sites` and `/fleet`: nameplates, and sums over the assets of a site or of the whole fleet."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, get_args

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndex
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query
from trioder.api.responses import ROWS_PER_CHUNK, json_response, list_chunks, list_response, stream_response
from trioder.api.schemas.resources import (
    AssetRow,
    AssetsQuery,
    AvailableRow,
    FleetReloadResponse,
    FleetRow,
    NoQuery,
    PowerRow,
    SiteRow,
)
from trioder.control.totals import Power, Summing, Sums
from trioder.domain.fleet import Site
from trioder.fleet import FleetFileError
from trioder.ingest.latest import Quality
from trioder.process.slices import Steps, parts_of, run_in_slices

# The cost of adding an asset to a sum, and of a site's row.
_SUM_US = 5.0
_ROW_US = 20.0

_asset_columns = attrgetter(*AssetRow.__struct_fields__)


def assets_blueprint(headend: Headend, index: FleetIndex) -> Blueprint:
    """Return the routes of assets."""
    blueprint = Blueprint("assets", __name__)

    def row(key: int) -> AssetRow:
        return AssetRow(*_asset_columns(headend.fleet.assets[key]))

    @blueprint.get("/assets")
    @documented(list[AssetRow], query=AssetsQuery, errors=(404,))
    async def list_assets() -> TrioResponse:
        """List assets, in fleet order."""
        return list_response(await index.keys_of_query(checked_query(AssetsQuery)), row)

    @blueprint.get("/assets/<asset_id>")
    @documented(AssetRow, errors=(404,))
    async def show_asset(asset_id: str) -> TrioResponse:
        """Show one asset."""
        checked_query(NoQuery)
        return json_response(row(index.key_of(asset_id)))

    return blueprint


def fleet_blueprint(headend: Headend, index: FleetIndex) -> Blueprint:
    """Return the routes of sites and of the whole fleet."""
    blueprint = Blueprint("fleet", __name__)
    fleet = headend.fleet
    summing = Summing(fleet=fleet, latest=headend.latest, sessions=headend.sessions)

    def sum_steps(keys: Sequence[int]) -> Steps[Sums]:
        sums = Sums()
        for part in parts_of(keys):
            summing.add(sums, part, headend.wall.now_ms())
            yield _SUM_US * len(part)
        return sums

    def site_steps(sites: Sequence[tuple[Site, Sequence[int]]]) -> Steps[list[dict[str, Any]]]:
        """Return the columns of a `SiteRow` for each site with its assets."""
        rows = []
        for site, keys in sites:
            columns = {name: getattr(site, name) for name in ("id", "name", "location", "lat", "lon")}
            sums = yield from sum_steps(keys)
            rows.append(columns | _columns(sums))
            yield _ROW_US
        return rows

    @blueprint.get("/sites")
    @documented(list[SiteRow])
    async def list_sites() -> TrioResponse:
        """List sites with the sums over their assets, in fleet order."""
        checked_query(NoQuery)
        sites = [(site, index.keys_of_site(site.id)) for site in fleet.sites]
        if len(sites) <= ROWS_PER_CHUNK:
            return json_response(await run_in_slices(site_steps(sites)))
        parts = (await run_in_slices(site_steps(part)) for part in parts_of(sites))
        return stream_response(list_chunks(parts))

    @blueprint.get("/fleet")
    @documented(FleetRow)
    async def show_fleet() -> TrioResponse:
        """Show the sums over all assets."""
        checked_query(NoQuery)
        sums = await run_in_slices(sum_steps(index.all_keys))
        return json_response(FleetRow(**_columns(sums)))

    @blueprint.post("/fleet/reload")
    @documented(FleetReloadResponse, errors=(409,))
    async def reload_fleet() -> TrioResponse:
        """Reload the fleet file; if it has errors, nothing changes and all of them are reported."""
        checked_query(NoQuery)
        try:
            change = await headend.reloader.reload()
        except FleetFileError as error:
            raise ApiError(409, f"the fleet file has errors, and nothing has changed:\n{error}") from None
        return json_response(
            FleetReloadResponse(
                assets=len(fleet.keys),
                added=len(change.added),
                changed=len(change.changed),
                retired=len(change.retired),
            )
        )

    return blueprint


def _columns(sums: Sums) -> dict[str, Any]:
    return {
        "assets": sums.assets,
        "connected_assets": sums.connected,
        "live_assets": sums.live,
        # Assets without any sample included.
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
