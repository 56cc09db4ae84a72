"""The REST application: Quart, its routes, and the settings for every request."""

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
from trioder.api.routes.dispatch import dispatch_blueprint
from trioder.api.routes.fleet import assets_blueprint, fleet_blueprint
from trioder.api.routes.health import health_blueprint
from trioder.api.routes.metrics import Metrics
from trioder.api.routes.telemetry import telemetry_blueprint

MAX_BODY_BYTES = 1_000_000
_BODY_TIMEOUT_S = 10
# For the list of a very large fleet over a slow line; each write has a shorter timeout of its own.
_RESPONSE_TIMEOUT_S = 300


class _App(QuartTrio):
    async def make_default_options_response(self) -> TrioResponse:
        # The methods of all rules at this path: each may have its own view.
        adapter = request_ctx.url_adapter
        allowed = adapter.allowed_methods() if adapter is not None else ()
        return TrioResponse(status=204, headers={"Allow": ", ".join(sorted(allowed))})


def create_app(headend: Headend) -> QuartTrio:
    """Return the ASGI application of an open headend; it needs no closing."""
    app = _App(__name__, static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        BODY_TIMEOUT=_BODY_TIMEOUT_S,
        RESPONSE_TIMEOUT=_RESPONSE_TIMEOUT_S,
    )
    # Merging redirects, with an HTML body.
    app.url_map.merge_slashes = False
    register_error_handlers(app, max_body_bytes=MAX_BODY_BYTES, body_timeout_s=_BODY_TIMEOUT_S)
    metrics = Metrics(headend)
    index = FleetIndex(headend.fleet)
    for blueprint in (
        telemetry_blueprint(headend, index),
        dispatch_blueprint(headend, index),
        agents_blueprint(headend, index),
        assets_blueprint(headend, index),
        fleet_blueprint(headend, index),
        health_blueprint(headend, metrics, cache(lambda: openapi_document(app))),
    ):
        app.register_blueprint(blueprint)

    @app.before_request
    async def record_route() -> None:
        # mypy: Quart types the scope as hypercorn's TypedDict, which has no further keys.
        request.scope[ROUTE] = request.url_rule.rule if request.url_rule is not None else ""  # type: ignore[literal-required]

    app.asgi_app = RequestLog(app.asgi_app, metrics.observe_request)  # type: ignore[assignment]  # how middleware is added
    return app
