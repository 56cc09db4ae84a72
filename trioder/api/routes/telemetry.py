"""`/telemetry`: the latest samples from memory, and the history from the store."""

from math import isfinite

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndex, FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query, is_id, query_limit, query_time_ms
from trioder.api.responses import json_response, list_response
from trioder.api.schemas.resources import (
    DEFAULT_HISTORY_ROWS,
    MAX_HISTORY_ROWS,
    HistoryQuery,
    HistoryRow,
    LatestQuery,
    NoQuery,
    TelemetryRow,
)
from trioder.control.model import AssetSetpoint
from trioder.domain.assets import Asset
from trioder.domain.telemetry import PastSample
from trioder.ingest.latest import LatestView
from trioder.process.rfc3339 import format_ms
from trioder.store.interface import StoreUnavailableError


def telemetry_blueprint(headend: Headend, indexes: FleetIndexes) -> Blueprint:
    """Return the routes of telemetry."""
    blueprint = Blueprint("telemetry", __name__)
    assets, latest = headend.fleet.assets, headend.latest

    def row(key: int) -> TelemetryRow | None:
        now_ms = headend.wall.now_ms()
        view = latest.view(key, now_ms)
        return None if view is None else _row(view, headend.dispatcher.in_force(key), now_ms)

    def has_sample(key: int) -> bool:
        return latest.state(key) is not None

    @blueprint.get("/telemetry")
    @documented(list[TelemetryRow], role="viewer", query=LatestQuery, errors=(404,))
    async def list_latest() -> TrioResponse:
        """List the latest samples, in fleet order; assets without a sample are omitted."""
        keys = await indexes.of_request().keys_of_query(checked_query(LatestQuery), has_row=has_sample)
        return list_response(keys, row)

    @blueprint.get("/telemetry/<asset_id>")
    @documented(TelemetryRow, role="viewer", errors=(404,))
    async def show_latest(asset_id: str) -> TrioResponse:
        """Show the latest sample of one asset."""
        checked_query(NoQuery)
        key = indexes.of_request().key_of(asset_id)
        latest_row = row(key)
        if latest_row is None:
            raise ApiError(404, f"there is no sample of asset {assets[key].id} yet")
        return json_response(latest_row)

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


def _row(view: LatestView, setpoint: AssetSetpoint | None, now_ms: int) -> TelemetryRow:
    telemetry = view.telemetry
    ends_ms = None if setpoint is None else setpoint.ends_ms
    return TelemetryRow(
        asset_id=telemetry.asset_id,
        site_id=telemetry.site_id,
        site_name=telemetry.site_name,
        timestamp=format_ms(telemetry.ts_unix_ms),
        soc_mwhr=_finite(telemetry.soc_mwhr),
        soc_pct=_finite(telemetry.soc_pct),
        capacity_mwhr=telemetry.capacity_mwhr,
        current_mw=_finite(telemetry.current_mw),
        setpoint_mw=_finite(telemetry.setpoint_mw),
        max_mw=telemetry.max_mw,
        min_mw=telemetry.min_mw,
        status=telemetry.status if isfinite(telemetry.current_mw) else None,
        available_discharge_mw=_finite(telemetry.available_discharge_mw),
        available_charge_mw=_finite(telemetry.available_charge_mw),
        source=view.source,
        age_s=view.age_s,
        quality=view.quality,
        dispatch_id=None if setpoint is None else setpoint.dispatch.dispatch_id,
        remaining_s=None if ends_ms is None else max(0, ends_ms - now_ms) / 1000,
    )


def _history_row(sample: PastSample) -> HistoryRow:
    telemetry = sample.telemetry
    return HistoryRow(
        asset_id=telemetry.asset_id,
        site_id=telemetry.site_id,
        timestamp=format_ms(telemetry.ts_unix_ms),
        soc_mwhr=_finite(telemetry.soc_mwhr),
        soc_pct=_finite(telemetry.soc_pct),
        capacity_mwhr=telemetry.capacity_mwhr,
        current_mw=_finite(telemetry.current_mw),
        setpoint_mw=_finite(telemetry.setpoint_mw),
        max_mw=telemetry.max_mw,
        min_mw=telemetry.min_mw,
        status=telemetry.status,
        source=sample.source,
        quality=sample.quality,
    )


def _finite(value: float) -> float | None:
    """Return None for the values that JSON cannot represent."""
    return value if isfinite(value) else None
