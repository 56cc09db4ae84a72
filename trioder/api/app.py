"""The REST application: Quart, its routes, and what holds for every request."""

from functools import cache

from quart import request
from quart.globals import request_ctx
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndex
from trioder.api.context import Headend
from trioder.api.errors import register_error_handlers
from trioder.api.http.request_log import ROUTE, RequestLog
from trioder.api.openapi import openapi_document
from trioder.api.routes.agents import agents_blueprint
from trioder.api.routes.assets import assets_blueprint
from trioder.api.routes.dispatch import dispatch_blueprint
from trioder.api.routes.dispatch_records import dispatch_records_blueprint
from trioder.api.routes.fleet import fleet_blueprint
from trioder.api.routes.health import health_blueprint
from trioder.api.routes.metrics import Metrics
from trioder.api.routes.sites import sites_blueprint
from trioder.api.routes.telemetry import telemetry_blueprint

MAX_BODY_BYTES = 1_000_000
_BODY_TIMEOUT_S = 10
# The list of a very large fleet over a slow line; each single write has a closer bound of its own.
_RESPONSE_TIMEOUT_S = 300


class _App(QuartTrio):
    async def make_default_options_response(self) -> TrioResponse:
        # Of every rule at this path: each method may have a view of its own.
        adapter = request_ctx.url_adapter
        allowed = adapter.allowed_methods() if adapter is not None else ()
        return TrioResponse(status=204, headers={"Allow": ", ".join(sorted(allowed))})


def create_app(headend: Headend) -> QuartTrio:
    """Return the ASGI application over an open headend; it owns nothing that needs closing."""
    app = _App(__name__, static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        BODY_TIMEOUT=_BODY_TIMEOUT_S,
        RESPONSE_TIMEOUT=_RESPONSE_TIMEOUT_S,
    )
    # Its redirects would be HTML.
    app.url_map.merge_slashes = False
    register_error_handlers(app, max_body_bytes=MAX_BODY_BYTES, body_timeout_s=_BODY_TIMEOUT_S)
    metrics = Metrics(headend)
    index = FleetIndex(headend.fleet)
    for blueprint in (
        assets_blueprint(headend, index),
        sites_blueprint(headend, index),
        telemetry_blueprint(headend, index),
        dispatch_blueprint(headend, index),
        dispatch_records_blueprint(headend, index),
        agents_blueprint(headend, index),
        fleet_blueprint(headend),
        health_blueprint(headend, metrics, cache(lambda: openapi_document(app))),
    ):
        app.register_blueprint(blueprint)

    @app.before_request
    async def note_route() -> None:
        # mypy: Quart types the scope as hypercorn's TypedDict, which knows no keys of others.
        request.scope[ROUTE] = request.url_rule.rule if request.url_rule is not None else ""  # type: ignore[literal-required]

    app.asgi_app = RequestLog(app.asgi_app, metrics.observe_request)  # type: ignore[assignment]  # the usual way to wrap
    return app
