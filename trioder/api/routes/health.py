"""`/`, `/health`, `/metrics` and `/openapi.json`: the headend about itself."""

from collections.abc import Callable
from typing import Any

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse

import trioder
from trioder.api.context import Headend
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query
from trioder.api.responses import json_answer
from trioder.api.routes.metrics import Metrics
from trioder.api.schemas.resources import HealthAnswer, IndexAnswer, NoQuery, OpenApiAnswer

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
    """The routes of the headend itself; `describe` gives the OpenAPI document."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/")
    @documented(IndexAnswer)
    async def show_index() -> TrioResponse:
        """Show where to go from here."""
        checked_query(NoQuery)
        links = {name.removesuffix(".json"): f"/{name}" for name in _LINKS}
        return json_answer(IndexAnswer(name="trioder headend", version=trioder.__version__, links=links))

    @blueprint.get("/health")
    @documented(HealthAnswer, also={503: HealthAnswer})
    async def show_health() -> TrioResponse:
        """Show how the headend is; 503 when it is degraded."""
        checked_query(NoQuery)
        db = headend.store.health
        degraded = db == "error" or headend.closing.is_set()
        answer = HealthAnswer(
            status="degraded" if degraded else "ok",
            db=db,
            db_reason=headend.store.health_reason,
            db_backlog_rows=headend.store.stats.queue_rows,
            agents=len(headend.sessions),
            assets_connected=headend.sessions.assets_connected,
            assets=len(headend.fleet.keys),
        )
        return json_answer(answer, status=503 if degraded else 200)

    @blueprint.get("/metrics")
    @documented(str)
    async def show_metrics() -> TrioResponse:
        """Show the metrics as Prometheus reads them."""
        # Scrapers may add parameters of their own: they are let be.
        body, content_type = metrics.text(request.headers.get("Accept", ""))
        return TrioResponse(body, content_type=content_type)

    @blueprint.get("/openapi.json")
    @documented(OpenApiAnswer)
    async def show_openapi() -> TrioResponse:
        """Show this description."""
        checked_query(NoQuery)
        return json_answer(describe())

    return blueprint
