"""`/`, `/health`, `/metrics` and `/openapi.json`: the state and the description of the headend."""

from collections.abc import Callable
from typing import Any

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse

import trioder
from trioder.api.access import known_principal
from trioder.api.asset_query import FleetIndexes
from trioder.api.context import Headend
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query
from trioder.api.representations import Answer, json_answer
from trioder.api.responses import answer_response, json_response
from trioder.api.routes.metrics import Metrics, connected_steps
from trioder.domain.access import EVERYTHING, Principal
from trioder.process.slices import Steps, run_in_slices
from trioder.schemas.resources import HealthResponse, IndexResponse, NoQuery, OpenApiResponse

_LINKS = (
    "assets",
    "sites",
    "fleet",
    "telemetry",
    "stream",
    "dispatch",
    "stops",
    "schedules",
    "agents",
    "agents/sessions",
    "alarms",
    "events",
    "whoami",
    "audit",
    "health",
    "metrics",
    "openapi.json",
)


def health_blueprint(
    headend: Headend,
    indexes: FleetIndexes,
    metrics: Metrics,
    describe: Callable[[], dict[str, Any]],
    *,
    metrics_open: bool,
) -> Blueprint:
    """Return the routes of the headend itself.

    Args:
        headend: the headend.
        indexes: of its fleet.
        metrics: its metrics.
        describe: returns the OpenAPI document.
        metrics_open: whether `/metrics` needs no token, and then shows everything.
    """
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/")
    @documented(IndexResponse, role=None)
    async def show_index() -> TrioResponse:
        """List the entry points of the API."""
        checked_query(NoQuery)
        links = {name.removesuffix(".json"): f"/{name}" for name in _LINKS}
        return json_response(IndexResponse(name="trioder headend", version=trioder.__version__, links=links))

    @blueprint.get("/health")
    @documented(HealthResponse, role=None, also={503: HealthResponse})
    async def show_health() -> TrioResponse:
        """Show the headend's health; 503 when degraded. Without a token, where one is needed: no numbers."""
        checked_query(NoQuery)
        return answer_response(await run_in_slices(health_steps(headend, indexes, known_principal())))

    @blueprint.get("/metrics")
    @documented(str, role=None if metrics_open else "viewer")
    async def show_metrics() -> TrioResponse:
        """Show the metrics in Prometheus' exposition format."""
        # Any query parameter is allowed: scrapers may add their own.
        index = indexes.of_request()
        connected = await run_in_slices(connected_steps(headend, index))
        body, content_type = metrics.text(request.headers.get("Accept", ""), index, connected)
        return TrioResponse(body, content_type=content_type)

    @blueprint.get("/openapi.json")
    @documented(OpenApiResponse, role=None)
    async def show_openapi() -> TrioResponse:
        """Show this OpenAPI document."""
        checked_query(NoQuery)
        return json_response(describe())

    return blueprint


def health_steps(headend: Headend, indexes: FleetIndexes, caller: Principal | None) -> Steps[Answer]:
    """Return the headend's health as this caller sees it, in steps; None is nobody."""
    db = headend.store.health
    degraded = db == "error" or headend.closing.is_set()
    response = HealthResponse(status="degraded" if degraded else "ok", db=db)
    if caller is not None and caller.scope == EVERYTHING:
        response.db_reason = headend.store.health_reason
        response.db_backlog_rows = headend.store.stats.queue_rows
        response.agents = len(headend.sessions)
        response.assets_connected = headend.sessions.assets_connected
        response.assets = len(headend.fleet.keys)
    elif caller is not None:
        index = indexes.of(caller.scope)
        connected = yield from connected_steps(headend, index)
        response.agents, response.assets_connected = connected.agents, connected.assets
        response.assets = len(index.all_keys)
    return json_answer(response, status=503 if degraded else 200)
