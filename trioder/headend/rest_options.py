"""The headend's options for REST: a token's limits, the request log, open metrics, an OpenID issuer."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

import click

from trioder.access.limits import Rate
from trioder.api import AccessLogScope, RestLimits, RestOptions
from trioder.api.authentication import TokenVerifier
from trioder.domain.access import ROLES, Role

F = TypeVar("F", bound=Callable[..., None])

_option = partial(click.option, show_default=True, show_envvar=True)
# A burst is what may come at once after a pause.
_BURST_S = 2
_DEFAULTS = RestLimits()


def rest_options(command: F) -> F:
    """Add the options to a command; it gets them as `rest`, `RestOptions`."""

    @_limit_options
    @_issuer_options
    @_option(
        "--metrics-open",
        envvar="METRICS_OPEN",
        is_flag=True,
        help="Answer GET /metrics without a token, with the figures of all tenants.",
    )
    @_option(
        "--access-log",
        envvar="ACCESS_LOG",
        type=click.Choice(["all", "errors"], case_sensitive=False),
        default="all",
        help="Which requests have a log line, at level info: all, or those answered with 4xx and 5xx.",
    )
    @wraps(command)
    def with_rest(
        *,
        limits: RestLimits,
        verifier: TokenVerifier | None,
        metrics_open: bool,
        access_log: AccessLogScope,
        **options: Any,
    ) -> None:
        rest = RestOptions(limits=limits, metrics_open=metrics_open, verifier=verifier, access_log=access_log)
        command(**options, rest=rest)

    return with_rest  # type: ignore[return-value]  # with other options than `command`


def _limit_options(command: F) -> F:
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
    @wraps(command)
    def with_limits(
        *, rest_requests_per_s: int, rest_dispatches_per_min: int, rest_open_streams: int, **options: Any
    ) -> None:
        limits = RestLimits(
            requests=Rate(per_s=rest_requests_per_s, burst=_BURST_S * rest_requests_per_s),
            dispatches=Rate(per_s=rest_dispatches_per_min / 60, burst=rest_dispatches_per_min),
            open_streams=rest_open_streams,
        )
        command(**options, limits=limits)

    return with_limits  # type: ignore[return-value]  # with other options than `command`


def _issuer_options(command: F) -> F:
    @_option(
        "--oidc-issuer",
        envvar="HEADEND_OIDC_ISSUER",
        default="",
        show_default=False,
        help="The URL of an OpenID Connect issuer whose tokens REST accepts.",
    )
    @_option(
        "--oidc-audience",
        envvar="HEADEND_OIDC_AUDIENCE",
        default="",
        show_default=False,
        help="The audience of its tokens for this headend.",
    )
    @_option(
        "--oidc-role-claim",
        envvar="HEADEND_OIDC_ROLE_CLAIM",
        default="roles",
        help="The claim with the roles or groups of the user; a dot descends into an object.",
    )
    @_option(
        "--oidc-roles",
        envvar="HEADEND_OIDC_ROLES",
        default=",".join(f"{role}={role}" for role in ROLES),
        callback=_parsed_roles,
        help="Which value of that claim gives which role: role=value, separated by commas.",
    )
    @_option(
        "--oidc-tenant-claim",
        envvar="HEADEND_OIDC_TENANT_CLAIM",
        default="tenant",
        help="The claim with the tenant; users without it are of the tenant default.",
    )
    @_option(
        "--oidc-sites-claim",
        envvar="HEADEND_OIDC_SITES_CLAIM",
        default="sites",
        help="The claim with a list of site ids; users without it see all sites of their tenant.",
    )
    @wraps(command)
    def with_issuer(
        *,
        oidc_issuer: str,
        oidc_audience: str,
        oidc_role_claim: str,
        oidc_roles: dict[Role, frozenset[str]],
        oidc_tenant_claim: str,
        oidc_sites_claim: str,
        **options: Any,
    ) -> None:
        verifier = None
        if oidc_issuer:
            verifier = _verifier(
                issuer=oidc_issuer,
                audience=oidc_audience,
                role_claim=oidc_role_claim,
                roles=oidc_roles,
                tenant_claim=oidc_tenant_claim,
                sites_claim=oidc_sites_claim,
            )
        command(**options, verifier=verifier)

    return with_issuer  # type: ignore[return-value]  # with other options than `command`


def _verifier(**settings: Any) -> TokenVerifier:
    # Not at the top: its libraries take 0.2 s to import, and few headends need them.
    from trioder.access.oidc import OidcSettings, OidcVerifier  # noqa: PLC0415

    try:
        return OidcVerifier(OidcSettings(**settings))
    except ValueError as error:
        raise click.UsageError(f"HEADEND_OIDC_ISSUER and HEADEND_OIDC_AUDIENCE: {error}") from None


def _parsed_roles(
    _context: click.Context, _parameter: click.Parameter, text: str
) -> dict[Role, frozenset[str]]:
    values: dict[Role, set[str]] = {role: set() for role in ROLES}
    for pair in text.split(","):
        name, _, value = (part.strip() for part in pair.partition("="))
        role = next((role for role in ROLES if role == name), None)
        if role is None or not value:
            raise click.BadParameter(
                f"{pair.strip()!r} is not role=value, such as operator=grid; the roles are {', '.join(ROLES)}"
            )
        values[role].add(value)
    return {role: frozenset(of_role) for role, of_role in values.items()}
