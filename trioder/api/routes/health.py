"""`/`, `/health`, `/metrics` and `/openapi.json`: the state and the description of the headend."""

from collections.abc import Callable
from typing import Any

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse

import trioder
from trioder.api.context import Headend
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query
from trioder.api.responses import json_response
from trioder.api.routes.metrics import Metrics
from trioder.api.schemas.resources import HealthResponse, IndexResponse, NoQuery, OpenApiResponse

_LINKS = (
    "assets",
    "sites",
    "fleet",
    "telemetry",
    "dispatch",
    "agents",
    "agents/sessions",
    "health",
    "metrics",
    "openapi.json",
)


def health_blueprint(headend: Headend, metrics: Metrics, describe: Callable[[], dict[str, Any]]) -> Blueprint:
    """Return the routes of the headend itself; `describe` returns the OpenAPI document."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/")
    @documented(IndexResponse)
    async def show_index() -> TrioResponse:
        """List the entry points of the API."""
        checked_query(NoQuery)
        links = {name.removesuffix(".json"): f"/{name}" for name in _LINKS}
        return json_response(IndexResponse(name="trioder headend", version=trioder.__version__, links=links))

    @blueprint.get("/health")
    @documented(HealthResponse, also={503: HealthResponse})
    async def show_health() -> TrioResponse:
        """Show the headend's health; 503 when degraded."""
        checked_query(NoQuery)
        db = headend.store.health
        degraded = db == "error" or headend.closing.is_set()
        response = HealthResponse(
            status="degraded" if degraded else "ok",
            db=db,
            db_reason=headend.store.health_reason,
            db_backlog_rows=headend.store.stats.queue_rows,
            agents=len(headend.sessions),
            assets_connected=headend.sessions.assets_connected,
            assets=len(headend.fleet.keys),
        )
        return json_response(response, status=503 if degraded else 200)

    @blueprint.get("/metrics")
    @documented(str)
    async def show_metrics() -> TrioResponse:
        """Show the metrics in Prometheus' exposition format."""
        # Any query parameter is allowed: scrapers may add their own.
        body, content_type = metrics.text(request.headers.get("Accept", ""))
        return TrioResponse(body, content_type=content_type)

    @blueprint.get("/openapi.json")
    @documented(OpenApiResponse)
    async def show_openapi() -> TrioResponse:
        """Show this OpenAPI document."""
        checked_query(NoQuery)
        return json_response(describe())

    return blueprint
