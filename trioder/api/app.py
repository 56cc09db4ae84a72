"""The REST application: Quart, its routes, and the settings for every request."""

from dataclasses import dataclass, field
from functools import cache, partial

from quart.globals import request_ctx
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse

from trioder.api.access import AccessControl, RestLimits
from trioder.api.asset_query import FleetIndexes
from trioder.api.authentication import Authenticator, TokenVerifier
from trioder.api.context import Headend
from trioder.api.errors import register_error_handlers
from trioder.api.fast_reads import FastReads
from trioder.api.http.access_log import AccessLog, AccessLogScope
from trioder.api.http.request_log import ROUTE, RequestLog
from trioder.api.openapi import openapi_document
from trioder.api.reads import Reads
from trioder.api.routes.access import access_blueprint
from trioder.api.routes.agent_processes import agent_processes_blueprint
from trioder.api.routes.agents import agents_blueprint
from trioder.api.routes.alarms import alarms_blueprint, events_blueprint
from trioder.api.routes.allocations import allocations_blueprint
from trioder.api.routes.dispatch import dispatch_blueprint
from trioder.api.routes.fleet import assets_blueprint, fleet_blueprint
from trioder.api.routes.health import health_blueprint, health_steps
from trioder.api.routes.history import history_blueprint
from trioder.api.routes.metrics import Metrics
from trioder.api.routes.power import power_blueprint
from trioder.api.routes.schedules import schedules_blueprint
from trioder.api.routes.site_history import site_history_blueprint
from trioder.api.routes.site_limits import site_limits_blueprint
from trioder.api.routes.stops import stops_blueprint
from trioder.api.routes.stream import stream_blueprint
from trioder.api.routes.telemetry import telemetry_blueprint
from trioder.events.counters import TenantCounters

MAX_BODY_BYTES = 1_000_000
_BODY_TIMEOUT_S = 10
# For the list of a very large fleet over a slow line; each write has a shorter timeout of its own.
_RESPONSE_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class RestOptions:
    """How REST is served.

    Attributes:
        limits: of each principal.
        metrics_open: whether `/metrics` needs no token.
        verifier: of an OpenID Connect issuer's tokens, beside those of the access file; None without one.
        access_log: which requests are logged.
    """

    limits: RestLimits = field(default_factory=RestLimits)
    metrics_open: bool = False
    verifier: TokenVerifier | None = None
    access_log: AccessLogScope = "all"


class RestApp(QuartTrio):
    """The application.

    Attributes:
        fast_reads: answers the requests that the connection may answer without it.
    """

    fast_reads: FastReads

    async def make_default_options_response(self) -> TrioResponse:
        """Return the methods of all rules at the path of the request: each may have its own view."""
        adapter = request_ctx.url_adapter
        allowed = adapter.allowed_methods() if adapter is not None else ()
        return TrioResponse(status=204, headers={"Allow": ", ".join(sorted(allowed))})


def create_app(
    headend: Headend, options: RestOptions | None = None, *, access_log: AccessLog | None = None
) -> RestApp:
    """Return the ASGI application of an open headend; it needs no closing.

    Args:
        headend: see `Headend`.
        options: by default those of a headend without any.
        access_log: gets every request; by default each is logged at once.

    Raises:
        RoleNotStatedError: a route does not state the role that it needs.
    """
    options = options or RestOptions()
    app = RestApp(__name__, static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        BODY_TIMEOUT=_BODY_TIMEOUT_S,
        RESPONSE_TIMEOUT=_RESPONSE_TIMEOUT_S,
    )
    # Merging redirects, with an HTML body.
    app.url_map.merge_slashes = False
    register_error_handlers(app, max_body_bytes=MAX_BODY_BYTES, body_timeout_s=_BODY_TIMEOUT_S)
    counters = TenantCounters()
    metrics = Metrics(headend, counters)
    indexes = FleetIndexes(headend.fleet)
    reads = Reads(headend)
    access = AccessControl(
        Authenticator(headend.access, verifier=options.verifier, wall=headend.wall),
        limits=options.limits,
        audit=headend.audit,
        counters=counters,
        wall=headend.wall,
    )
    for blueprint in (
        telemetry_blueprint(headend, indexes, reads),
        history_blueprint(headend, indexes),
        stream_blueprint(headend, indexes, access),
        dispatch_blueprint(headend, indexes, access, counters),
        allocations_blueprint(headend, indexes),
        schedules_blueprint(headend, indexes, access),
        stops_blueprint(headend, indexes, access),
        agents_blueprint(headend, indexes, reads),
        agent_processes_blueprint(headend, indexes),
        alarms_blueprint(headend, indexes, access),
        events_blueprint(headend, indexes),
        assets_blueprint(headend, indexes, reads),
        fleet_blueprint(headend, indexes, access, reads),
        power_blueprint(indexes, reads),
        site_history_blueprint(headend, indexes),
        site_limits_blueprint(headend, indexes, access),
        access_blueprint(headend),
        health_blueprint(
            headend,
            indexes,
            metrics,
            cache(lambda: openapi_document(app)),
            metrics_open=options.metrics_open,
        ),
    ):
        app.register_blueprint(blueprint)
    access.read_roles(app)

    @app.before_request
    async def admit() -> None:
        current = request_ctx.request
        # mypy: Quart types the scope as hypercorn's TypedDict, which has no further keys.
        current.scope[ROUTE] = current.url_rule.rule if current.url_rule is not None else ""  # type: ignore[literal-required]
        await access.admit(current)

    request_log = RequestLog(
        app.asgi_app, metrics.observe_request, access_log=access_log or AccessLog(options.access_log)
    )
    app.asgi_app = request_log  # type: ignore[assignment]  # how middleware is added
    app.fast_reads = FastReads(
        reads,
        partial(health_steps, headend, indexes),
        indexes=indexes,
        access=access,
        request_log=request_log,
    )
    return app
