"""`/telemetry`: the latest samples from memory, and the history from the store."""

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndex, FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query, is_id, query_limit, query_time_ms
from trioder.api.reads import Reads
from trioder.api.representations import row_answer
from trioder.api.responses import answer_response, list_response, read_response
from trioder.api.schemas.resources import (
    DEFAULT_HISTORY_ROWS,
    MAX_HISTORY_ROWS,
    HistoryQuery,
    HistoryRow,
    LatestQuery,
    NoQuery,
    TelemetryRow,
)
from trioder.api.telemetry_rows import finite
from trioder.domain.assets import Asset
from trioder.domain.telemetry import PastSample
from trioder.process.rfc3339 import format_ms
from trioder.store.interface import StoreUnavailableError


def telemetry_blueprint(headend: Headend, indexes: FleetIndexes, reads: Reads) -> Blueprint:
    """Return the routes of telemetry."""
    blueprint = Blueprint("telemetry", __name__)
    assets = headend.fleet.assets

    @blueprint.get("/telemetry")
    @documented(list[TelemetryRow], role="viewer", query=LatestQuery, errors=(404,), has_etag=True)
    async def list_latest() -> TrioResponse:
        """List the latest samples, in fleet order; assets without a sample are omitted."""
        return await read_response(reads.latest, indexes.of_request(), checked_query(LatestQuery))

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

    @blueprint.get("/telemetry/<asset_id>/history")
    @documented(list[HistoryRow], role="viewer", query=HistoryQuery, errors=(404, 503))
    async def list_history(asset_id: str) -> TrioResponse:
        """List recorded samples of one asset, newest first; none without a database."""
        query = checked_query(HistoryQuery)
        limit = query_limit(query, highest=MAX_HISTORY_ROWS, default=DEFAULT_HISTORY_ROWS)
        start_ms, end_ms = query_time_ms(query, "start"), query_time_ms(query, "end")
        if start_ms is not None and end_ms is not None and start_ms >= end_ms:
            raise ApiError(
                400,
                f"start is {format_ms(start_ms)} and end is {format_ms(end_ms)}; start must be before end",
            )
        index = indexes.of_request()
        try:
            asset = await _asset_with_history(headend, index, asset_id)
            past = await headend.store.history(
                asset, limit=limit, start_ms=start_ms, end_ms=end_ms, scope=index.scope
            )
        except StoreUnavailableError as error:
            raise ApiError(503, f"the history cannot be read now: {error}") from None
        return list_response(past, _history_row)

    return blueprint


async def _asset_with_history(headend: Headend, index: FleetIndex, asset_id: str) -> Asset:
    if is_id(asset_id) and index.find(asset_id.lower()) is None:
        retired = await headend.store.find_retired_asset(asset_id.lower(), scope=index.scope)
        if retired is not None:
            return retired
    return headend.fleet.assets[index.key_of(asset_id)]


def _history_row(sample: PastSample) -> HistoryRow:
    telemetry = sample.telemetry
    return HistoryRow(
        asset_id=telemetry.asset_id,
        site_id=telemetry.site_id,
        timestamp=format_ms(telemetry.ts_unix_ms),
        soc_mwhr=finite(telemetry.soc_mwhr),
        soc_pct=finite(telemetry.soc_pct),
        capacity_mwhr=telemetry.capacity_mwhr,
        current_mw=finite(telemetry.current_mw),
        setpoint_mw=finite(telemetry.setpoint_mw),
        max_mw=telemetry.max_mw,
        min_mw=telemetry.min_mw,
        status=telemetry.status,
        source=sample.source,
        quality=sample.quality,
    )
