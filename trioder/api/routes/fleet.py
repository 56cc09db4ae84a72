"""`/assets`, `/sites` and `/fleet`: nameplates, and sums over the assets of a site or of the whole fleet."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.access import AccessControl, principal
from trioder.api.asset_query import FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query
from trioder.api.responses import ROWS_PER_CHUNK, json_response, list_chunks, list_response, stream_response
from trioder.api.schemas.resources import (
    AssetRow,
    AssetsQuery,
    FleetReloadResponse,
    FleetRow,
    NoQuery,
    SiteRow,
)
from trioder.api.sums import SUM_US, Sums, add_assets, sum_columns
from trioder.domain.access import EVERYTHING
from trioder.domain.fleet import Site
from trioder.fleet import FleetFileError
from trioder.process.rfc3339 import format_ms
from trioder.process.slices import Steps, parts_of, run_in_slices

RELOAD_ACTION = "fleet.reload"
# The cost of a site's row.
_ROW_US = 20.0

_asset_columns = attrgetter(*AssetRow.__struct_fields__)


def assets_blueprint(headend: Headend, indexes: FleetIndexes) -> Blueprint:
    """Return the routes of assets."""
    blueprint = Blueprint("assets", __name__)

    def row(key: int) -> AssetRow:
        return AssetRow(*_asset_columns(headend.fleet.assets[key]))

    @blueprint.get("/assets")
    @documented(list[AssetRow], role="viewer", query=AssetsQuery, errors=(404,))
    async def list_assets() -> TrioResponse:
        """List assets, in fleet order."""
        return list_response(await indexes.of_request().keys_of_query(checked_query(AssetsQuery)), row)

    @blueprint.get("/assets/<asset_id>")
    @documented(AssetRow, role="viewer", errors=(404,))
    async def show_asset(asset_id: str) -> TrioResponse:
        """Show one asset."""
        checked_query(NoQuery)
        return json_response(row(indexes.of_request().key_of(asset_id)))

    return blueprint


def fleet_blueprint(headend: Headend, indexes: FleetIndexes, access: AccessControl) -> Blueprint:
    """Return the routes of sites and of the whole fleet."""
    blueprint = Blueprint("fleet", __name__)
    table = headend.dispatcher.site_limits

    def sum_steps(keys: Sequence[int]) -> Steps[Sums]:
        sums = Sums()
        for part in parts_of(keys):
            add_assets(sums, part, headend)
            yield SUM_US * len(part)
        return sums

    def site_steps(sites: Sequence[tuple[Site, Sequence[int]]]) -> Steps[list[dict[str, Any]]]:
        """Return the columns of a `SiteRow` for each site with its assets."""
        rows = []
        for site, keys in sites:
            columns = {name: getattr(site, name) for name in ("id", "name", "location", "lat", "lon")}
            limits, record = table.limits_of(site.id), table.set_by_user(site.id)
            columns["export_limit_mw"], columns["import_limit_mw"] = limits.export_mw, limits.import_mw
            until_ms = None if record is None else record.until_ms
            columns["limits_until"] = None if until_ms is None else format_ms(until_ms)
            sums = yield from sum_steps(keys)
            rows.append(columns | sum_columns(sums))
            yield _ROW_US
        return rows

    @blueprint.get("/sites")
    @documented(list[SiteRow], role="viewer")
    async def list_sites() -> TrioResponse:
        """List sites with the sums over their assets, in fleet order."""
        checked_query(NoQuery)
        index = indexes.of_request()
        sites = [(site, index.keys_by_site[site.id]) for site in index.sites]
        if len(sites) <= ROWS_PER_CHUNK:
            return json_response(await run_in_slices(site_steps(sites)))
        parts = (await run_in_slices(site_steps(part)) for part in parts_of(sites))
        return stream_response(list_chunks(parts))

    @blueprint.get("/fleet")
    @documented(FleetRow, role="viewer")
    async def show_fleet() -> TrioResponse:
        """Show the sums over all assets."""
        checked_query(NoQuery)
        sums = await run_in_slices(sum_steps(indexes.of_request().all_keys))
        return json_response(FleetRow(**sum_columns(sums)))

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
