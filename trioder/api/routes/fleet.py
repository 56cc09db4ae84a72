"""`/assets`, `/sites` and `/fleet`: nameplates, and sums over the assets of a site or of the whole fleet."""

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.access import AccessControl, principal
from trioder.api.asset_query import FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.ndjson import lines_response, wants_lines
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query
from trioder.api.reads import Reads, asset_row
from trioder.api.responses import json_response, read_response
from trioder.domain.access import EVERYTHING
from trioder.fleet import FleetFileError
from trioder.process.slices import run_in_slices
from trioder.schemas.resources import (
    AssetRow,
    AssetsQuery,
    FleetReloadResponse,
    FleetRow,
    NoQuery,
    SiteRow,
)

RELOAD_ACTION = "fleet.reload"


def assets_blueprint(headend: Headend, indexes: FleetIndexes, reads: Reads) -> Blueprint:
    """Return the routes of assets."""
    blueprint = Blueprint("assets", __name__)

    def row(key: int) -> AssetRow:
        return asset_row(headend.fleet.assets[key])

    @blueprint.get("/assets")
    @documented(list[AssetRow], role="viewer", query=AssetsQuery, errors=(404,), lines=True, has_etag=True)
    async def list_assets() -> TrioResponse:
        """List assets, in fleet order."""
        index, query = indexes.of_request(), checked_query(AssetsQuery)
        if wants_lines():
            return lines_response(await run_in_slices(index.key_steps(query)), row)
        return await read_response(reads.assets, index, query)

    @blueprint.get("/assets/<asset_id>")
    @documented(AssetRow, role="viewer", errors=(404,))
    async def show_asset(asset_id: str) -> TrioResponse:
        """Show one asset."""
        checked_query(NoQuery)
        return json_response(row(indexes.of_request().key_of(asset_id)))

    return blueprint


def fleet_blueprint(
    headend: Headend, indexes: FleetIndexes, access: AccessControl, reads: Reads
) -> Blueprint:
    """Return the routes of sites and of the whole fleet."""
    blueprint = Blueprint("fleet", __name__)

    @blueprint.get("/sites")
    @documented(list[SiteRow], role="viewer", has_etag=True)
    async def list_sites() -> TrioResponse:
        """List sites with the sums over their assets, in fleet order."""
        return await read_response(reads.sites, indexes.of_request(), checked_query(NoQuery))

    @blueprint.get("/fleet")
    @documented(FleetRow, role="viewer", has_etag=True)
    async def show_fleet() -> TrioResponse:
        """Show the sums over all assets."""
        return await read_response(reads.fleet, indexes.of_request(), checked_query(NoQuery))

    _add_reload(blueprint, headend, access)
    return blueprint


def _add_reload(blueprint: Blueprint, headend: Headend, access: AccessControl) -> None:
    @blueprint.post("/fleet/reload")
    @documented(FleetReloadResponse, role="admin", errors=(409,))
    async def reload_fleet() -> TrioResponse:
        """Reload the fleet file; if it has errors, nothing changes and all of them are reported."""
        checked_query(NoQuery)
        scope = principal().scope
        if scope != EVERYTHING:
            raise access.forbidden(
                RELOAD_ACTION,
                f"this needs a token for all tenants and sites; {principal().name!r} is for "
                + (f"tenant {scope.tenant}" if scope.site_ids is None else "some sites"),
            )
        try:
            change = await headend.reloader.reload()
        except FleetFileError as error:
            access.record(RELOAD_ACTION, outcome="failed", reason=f"{len(error.faults)} errors in the file")
            raise ApiError(409, f"the fleet file has errors, and nothing has changed:\n{error}") from None
        access.record(RELOAD_ACTION)
        return json_response(
            FleetReloadResponse(
                assets=len(headend.fleet.keys),
                added=len(change.added),
                changed=len(change.changed),
                retired=len(change.retired),
            )
        )
