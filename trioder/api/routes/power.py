"""`/fleet/power` and `/sites/{site_id}/power`: the last minutes, from memory; both encoded once per point."""

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndexes
from trioder.api.openapi import documented
from trioder.api.parsing import checked_id, checked_query, query_number
from trioder.api.reads import Reads
from trioder.api.responses import read_response
from trioder.schemas.power import MAX_MINUTES, RecentPowerQuery, RecentPowerResponse


def power_blueprint(indexes: FleetIndexes, reads: Reads) -> Blueprint:
    """Return the routes of recent power."""
    blueprint = Blueprint("power", __name__)

    async def response(**which: str) -> TrioResponse:
        query = checked_query(RecentPowerQuery)
        minutes = query_number(query, "minutes", lowest=1, highest=MAX_MINUTES, default=MAX_MINUTES)
        asked = which | {"minutes": str(minutes)}
        return await read_response(
            reads.power, indexes.of_request(), {name: [value] for name, value in asked.items()}
        )

    @blueprint.get("/fleet/power")
    @documented(RecentPowerResponse, role="viewer", query=RecentPowerQuery, has_etag=True)
    async def show_fleet_power() -> TrioResponse:
        """Show the power of all assets over the last minutes."""
        return await response()

    @blueprint.get("/sites/<site_id>/power")
    @documented(RecentPowerResponse, role="viewer", query=RecentPowerQuery, errors=(404,), has_etag=True)
    async def show_site_power(site_id: str) -> TrioResponse:
        """Show the power of a site's assets over the last minutes."""
        # In lower case: the body shows it.
        return await response(site_id=known_site(site_id, indexes))

    return blueprint


def known_site(site_id: str, indexes: FleetIndexes) -> str:
    """Return the id of a site that the caller sees, in lower case.

    Raises:
        ApiError: 400 or 404.
    """
    site_id = checked_id("site_id", site_id)
    indexes.of_request().keys_of_site(site_id)
    return site_id
