"""The headend's options for REST: the limits of a token, and open metrics."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

import click

from trioder.access.limits import Rate
from trioder.api import RestLimits, RestOptions

F = TypeVar("F", bound=Callable[..., None])

_option = partial(click.option, show_default=True, show_envvar=True)
# A burst is what may come at once after a pause.
_BURST_S = 2
_DEFAULTS = RestLimits()


def rest_options(command: F) -> F:
    """Add the options to a command; it gets them as `rest`, `RestOptions`."""

    @_option(
        "--rest-requests-per-s",
        envvar="HEADEND_REST_REQUESTS_PER_S",
        type=click.IntRange(min=1),
        default=round(_DEFAULTS.requests.per_s),
        help="REST requests a second of one token; twice as many at once.",
    )
    @_option(
        "--rest-dispatches-per-min",
        envvar="HEADEND_REST_DISPATCHES_PER_MIN",
        type=click.IntRange(min=1),
        default=round(_DEFAULTS.dispatches.per_s * 60),
        help="POST /dispatch a minute of one token, dry runs included.",
    )
    @_option(
        "--rest-open-streams",
        envvar="HEADEND_REST_OPEN_STREAMS",
        type=click.IntRange(min=1),
        default=_DEFAULTS.open_streams,
        help="Long responses that one token may receive at once.",
    )
    @_option(
        "--metrics-open",
        envvar="METRICS_OPEN",
        is_flag=True,
        help="Answer GET /metrics without a token, with the figures of all tenants.",
    )
    @wraps(command)
    def with_rest(
        *,
        rest_requests_per_s: int,
        rest_dispatches_per_min: int,
        rest_open_streams: int,
        metrics_open: bool,
        **options: Any,
    ) -> None:
        limits = RestLimits(
            requests=Rate(per_s=rest_requests_per_s, burst=_BURST_S * rest_requests_per_s),
            dispatches=Rate(per_s=rest_dispatches_per_min / 60, burst=rest_dispatches_per_min),
            open_streams=rest_open_streams,
        )
        command(**options, rest=RestOptions(limits=limits, metrics_open=metrics_open))

    return with_rest  # type: ignore[return-value]  # with other options than `command`
