"""`/telemetry`: the latest samples, from memory."""

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.ndjson import lines_response, wants_lines
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query
from trioder.api.reads import Reads
from trioder.api.representations import row_answer
from trioder.api.responses import answer_response, read_response
from trioder.process.slices import run_in_slices
from trioder.schemas.resources import (
    LatestQuery,
    NoQuery,
    TelemetryRow,
)


def telemetry_blueprint(headend: Headend, indexes: FleetIndexes, reads: Reads) -> Blueprint:
    """Return the routes of telemetry."""
    blueprint = Blueprint("telemetry", __name__)
    assets = headend.fleet.assets

    @blueprint.get("/telemetry")
    @documented(
        list[TelemetryRow], role="viewer", query=LatestQuery, errors=(404,), lines=True, has_etag=True
    )
    async def list_latest() -> TrioResponse:
        """List the latest samples, in fleet order; assets without a sample are omitted."""
        index, query = indexes.of_request(), checked_query(LatestQuery)
        if wants_lines():
            return lines_response(
                await run_in_slices(reads.latest.key_steps(index, query)), reads.latest.line
            )
        return await read_response(reads.latest, index, query)

    @blueprint.get("/telemetry/<asset_id>")
    @documented(TelemetryRow, role="viewer", errors=(404,))
    async def show_latest(asset_id: str) -> TrioResponse:
        """Show the latest sample of one asset."""
        checked_query(NoQuery)
        index = indexes.of_request()
        row = reads.latest.one(index, asset_id)
        if row is None:
            raise ApiError(404, f"there is no sample of asset {assets[index.key_of(asset_id)].id} yet")
        return answer_response(row_answer(row))

    return blueprint
