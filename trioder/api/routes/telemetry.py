"""`/telemetry`: the latest samples, from memory."""

from math import isfinite

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.ndjson import lines_response, wants_lines
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query
from trioder.api.responses import json_response, list_response
from trioder.api.schemas.resources import (
    LatestQuery,
    NoQuery,
    TelemetryRow,
)
from trioder.control.model import AssetSetpoint
from trioder.ingest.latest import LatestView
from trioder.process.rfc3339 import format_ms


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
    @documented(list[TelemetryRow], role="viewer", query=LatestQuery, errors=(404,), lines=True)
    async def list_latest() -> TrioResponse:
        """List the latest samples, in fleet order; assets without a sample are omitted."""
        keys = await indexes.of_request().keys_of_query(checked_query(LatestQuery), has_row=has_sample)
        return lines_response(keys, row) if wants_lines() else list_response(keys, row)

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

    return blueprint


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


def _finite(value: float) -> float | None:
    """Return None for the values that JSON cannot represent."""
    return value if isfinite(value) else None
