"""Who calls: authenticates each request, checks its role and its limits, and records what was refused.

What a caller sees is in `asset_query`; the tokens are in `trioder.access`.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import trio
from quart import Quart, Request
from quart.globals import request_ctx

from trioder.access.audit import AuditTrail
from trioder.access.limits import OpenLimit, Rate, RateLimit
from trioder.access.table import TokenError, TokenUnverifiedError
from trioder.api.authentication import CHALLENGE, Authenticator, bearer_in
from trioder.api.errors import ApiError
from trioder.api.http.request_log import AT_END, PRINCIPAL_NAME, REQUEST_ID
from trioder.domain.access import OPEN_ACCESS, AuditOutcome, AuditRecord, Principal, Role
from trioder.domain.text import escape, shorten
from trioder.events.counters import TenantCounters
from trioder.process.addresses import Address, host_of_peer
from trioder.process.wall_time import WallClock

# Of one principal, by default.
REQUESTS = Rate(per_s=100.0, burst=200)
DISPATCHES = Rate(per_s=10.0, burst=600)
OPEN_STREAMS = 20
# Of wrong tokens from one address.
WRONG_TOKENS = Rate(per_s=0.1, burst=10)
_PRINCIPAL = "trioder.principal"
_LIMITED_BY = "trioder.limited_by"
_ROLE_ATTRIBUTE = "_trioder_role"
# Who may stop may do so whatever else was asked in the same name.
_EMERGENCY = "stops.stop"
_INVALID_TOKEN = f'{CHALLENGE}, error="invalid_token"'
_INSUFFICIENT_ROLE = f'{CHALLENGE}, error="insufficient_scope"'
_MAX_REASON_LENGTH = 1_000
_MAX_PATH_LENGTH = 200


class RoleNotStatedError(Exception):
    """A route does not state the role that it needs: a defect of the program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestLimits:
    """What one principal may do.

    Attributes:
        requests: of any kind.
        dispatches: `POST /dispatch`, dry runs included.
        open_streams: responses that are being streamed, at once.
        limit_open_access: whether requests without access control are limited, too, by address.
    """

    requests: Rate = REQUESTS
    dispatches: Rate = DISPATCHES
    open_streams: int = OPEN_STREAMS
    limit_open_access: bool = False


class ReadAdmission(NamedTuple):
    """A request that may be answered, as far as that is known without waiting.

    Attributes:
        caller: None where none is needed and none is named.
        limited_as: the key of its limits; None where there are none.
    """

    caller: Principal | None
    limited_as: tuple[str, str] | None


_UNLIMITED = ReadAdmission(OPEN_ACCESS, None)


class AccessControl:
    """Admits requests: `admit` is to be called before every one of them.

    Args:
        authenticator: of tokens.
        limits: of each principal.
        audit: of what is refused.
        counters: of what is refused.
        wall: for the times in the audit.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        limits: RestLimits,
        audit: AuditTrail,
        counters: TenantCounters,
        wall: WallClock,
    ) -> None:
        self._authenticator = authenticator
        self._audit = audit
        self._counters = counters
        self._wall = wall
        self._wrong_tokens = RateLimit(WRONG_TOKENS)
        self._requests = RateLimit(limits.requests)
        self._dispatches = RateLimit(limits.dispatches)
        self._streams = OpenLimit(limits.open_streams)
        self._limits_open_access = limits.limit_open_access
        self._requests_rule = f"{limits.requests.per_s:g} requests a second"
        self._dispatches_rule = f"{limits.dispatches.per_s * 60:g} dispatches a minute"
        self._role_by_endpoint: Mapping[str, Role | None] = {}

    def read_roles(self, app: Quart) -> None:
        """Read the role that each route states.

        Raises:
            RoleNotStatedError: a route states none.
        """
        self._role_by_endpoint = {
            endpoint: stated_role(app.view_functions[endpoint], endpoint)
            for endpoint in {rule.endpoint for rule in app.url_map.iter_rules()}
        }

    async def admit(self, current: Request) -> None:
        """Authenticate a request, the current one, and check its role and limits.

        Raises:
            ApiError: 401, 403 or 429, which is recorded; or 503.
        """
        if not self._authenticator.is_on:
            _scope(current)[_PRINCIPAL] = OPEN_ACCESS
            if self._limits_open_access and not _is_emergency(current):
                self._limit(current, OPEN_ACCESS)
            return
        rule = current.url_rule
        if rule is None or current.method == "OPTIONS":
            # Of these a response has the allowed methods at most.
            return
        try:
            # A route that was added later is closed to all but admins.
            await self._admit(current, self._role_by_endpoint.get(rule.endpoint, "admin"))
        except ApiError as refusal:
            if refusal.status != 503:
                self._record_refusal(refusal)
            raise

    async def _admit(self, current: Request, role: Role | None) -> None:
        if role is None and "Authorization" not in current.headers:
            return
        caller = await self._authenticate(current)
        _scope(current)[_PRINCIPAL] = caller
        _scope(current)[PRINCIPAL_NAME] = caller.name
        is_allowed = role is None or caller.has_role(role)
        if not (is_allowed and _is_emergency(current)):
            self._limit(current, caller)
        if not is_allowed:
            raise ApiError(
                403,
                f"this needs the role {role}; {caller.kind} {caller.name!r} has the role {caller.role}",
                challenge=_INSUFFICIENT_ROLE,
            )

    def admit_now(
        self, endpoint: str, authorization: str | None, *, client: tuple[str, int] | None
    ) -> ReadAdmission | None:
        """Admit a GET; None where `admit` has to decide, or refuses. `count_now` counts it.

        Args:
            endpoint: of its route.
            authorization: the header; None without one.
            client: the address and port of the connection.
        """
        if not self._authenticator.is_on:
            if not self._limits_open_access:
                return _UNLIMITED
            admission = ReadAdmission(OPEN_ACCESS, ("open", host_of_peer(_peer(client))))
        else:
            role = self._role_by_endpoint.get(endpoint, "admin")
            if authorization is None:
                return ReadAdmission(None, None) if role is None else None
            try:
                caller = self._authenticator.authenticate_now(bearer_in((authorization,)))
            except ApiError:
                return None
            if caller is None or (role is not None and not caller.has_role(role)):
                return None
            admission = ReadAdmission(caller, (caller.kind, caller.name))
        key = admission.limited_as
        if key is not None and self._requests.wait_s(key, trio.current_time()):
            return None
        return admission

    def count_now(self, admission: ReadAdmission, *, is_stream: bool) -> Callable[[], None] | None:
        """Count a request that was admitted just now, and its open stream until the function is called.

        Returns:
            None, and nothing is counted, where `admit` or `hold_stream` would refuse it.
        """
        key = admission.limited_as
        if key is None:
            return _nothing
        if is_stream and not self._streams.acquire(key):
            return None
        self._requests.take(key, trio.current_time())
        return partial(self._streams.release, key) if is_stream else _nothing

    def _limit(self, current: Request, caller: Principal) -> None:
        _scope(current)[_LIMITED_BY] = self
        self._take(self._requests, caller, self._requests_rule)

    async def _authenticate(self, current: Request) -> Principal:
        bearer = bearer_in(current.headers.getlist("Authorization"))
        try:
            return await self._authenticator.authenticate(bearer)
        except TokenUnverifiedError as error:
            raise ApiError(503, f"the token cannot be verified now: {error}") from None
        except TokenError as error:
            # A right token passes whatever was tried from its address.
            wait_s = self._wrong_tokens.take(host_of_peer(_peer_of(current)), trio.current_time())
            if wait_s:
                raise _too_many_requests("too many wrong tokens from this address", wait_s) from None
            raise ApiError(401, f"{error}; a valid one is needed", challenge=_INVALID_TOKEN) from None

    def check_dispatch_rate(self) -> None:
        """Count a dispatch of the current request's principal.

        Raises:
            ApiError: 429.
        """
        if _LIMITED_BY in _scope():
            self._take(self._dispatches, principal(), self._dispatches_rule)

    def hold_stream(self) -> None:
        """Count an open stream of the current request's principal, until the request ends.

        Raises:
            ApiError: 429.
        """
        caller = principal()
        key = _key_of(caller)
        if not self._streams.acquire(key):
            raise self._too_many(caller, f"{self._streams.most} streamed responses at once", 1.0)
        _scope()[AT_END] = lambda: self._streams.release(key)

    def recheck_of(self, current: Request) -> Callable[[], Awaitable[str | None]]:
        """Return a check of whether the caller of an admitted request may still see what it saw.

        It returns the reason why not, and None while it may, or while that cannot be known.
        """
        caller = principal()
        bearer = None if caller == OPEN_ACCESS else bearer_in(current.headers.getlist("Authorization"))

        async def recheck() -> str | None:
            if bearer is None:
                return "a token is needed now" if self._authenticator.is_on else None
            try:
                now = await self._authenticator.authenticate(bearer)
            except TokenUnverifiedError:
                return None
            except TokenError as error:
                return str(error)
            return None if now.scope == caller.scope else "the token's tenant or sites have changed"

        return recheck

    def _take(self, limit: RateLimit, caller: Principal, rule: str) -> None:
        wait_s = limit.take(_key_of(caller), trio.current_time())
        if wait_s:
            raise self._too_many(caller, rule, wait_s)

    def _too_many(self, caller: Principal, rule: str, wait_s: float) -> ApiError:
        self._counters.refusals[caller.scope.tenant, 429] += 1
        return _too_many_requests(f"{caller.name!r} is limited to {rule}", wait_s)

    def record(
        self,
        action: str,
        *,
        target: str = "",
        tenant: str | None = None,
        outcome: Literal["ok", "failed"] = "ok",
        reason: str = "",
    ) -> None:
        """Record what the current request's principal did.

        Args:
            action: what.
            target: on what.
            tenant: whose; by default the principal's.
            outcome: whether it succeeded.
            reason: why not.
        """
        self._audit.record(self._record_of(action, target, outcome, reason, tenant=tenant))

    def forbidden(self, action: str, reason: str) -> ApiError:
        """Record what the current request's principal may not do; return the error to be raised."""
        self._counters.refusals[principal().scope.tenant, 403] += 1
        self._audit.refused(self._record_of(action, "", "refused", reason))
        return ApiError(403, reason, challenge=_INSUFFICIENT_ROLE)

    def _record_refusal(self, refusal: ApiError) -> None:
        caller = known_principal()
        if caller is not None and refusal.status == 429:
            # It was counted, and is no attempt at what the caller may not do.
            return
        self._counters.refusals["" if caller is None else caller.scope.tenant, refusal.status] += 1
        current = request_ctx.request
        action = "authenticate" if caller is None else "authorize"
        target = f"{current.method} {escape(current.path, length=_MAX_PATH_LENGTH)}"
        self._audit.refused(self._record_of(action, target, "refused", refusal.message))

    def _record_of(
        self, action: str, target: str, outcome: AuditOutcome, reason: str, *, tenant: str | None = None
    ) -> AuditRecord:
        current, caller = request_ctx.request, known_principal()
        own_tenant = "" if caller is None else caller.scope.tenant
        return AuditRecord(
            at_ms=self._wall.now_ms(),
            principal="" if caller is None else caller.name,
            kind="" if caller is None else caller.kind,
            tenant=own_tenant if tenant is None else tenant,
            peer=_peer_of(current),
            action=action,
            target=target,
            outcome=outcome,
            reason=shorten(reason, _MAX_REASON_LENGTH),
            request_id=_scope(current).get(REQUEST_ID, ""),
        )


def principal() -> Principal:
    """Return the principal of the current request, whose route needs one."""
    caller: Principal = _scope()[_PRINCIPAL]
    return caller


def known_principal() -> Principal | None:
    """Return the principal of the current request; None where it needs none and has none."""
    caller: Principal | None = _scope().get(_PRINCIPAL)
    return caller


def hold_stream() -> None:
    """Count the current request's response as an open stream, if its caller is limited.

    Raises:
        ApiError: 429: the caller has too many.
    """
    access: AccessControl | None = _scope().get(_LIMITED_BY)
    if access is not None:
        access.hold_stream()


def state_role(view: Callable[..., Any], role: Role | None) -> None:
    """State the role that a view needs; None for none."""
    setattr(view, _ROLE_ATTRIBUTE, role)


def stated_role(view: Callable[..., Any], endpoint: str) -> Role | None:
    """Return the role that the view of an endpoint needs; None for none.

    Raises:
        RoleNotStatedError: it states none.
    """
    if not hasattr(view, _ROLE_ATTRIBUTE):
        raise RoleNotStatedError(f"the route {endpoint} does not state the role that it needs: @documented")
    role: Role | None = getattr(view, _ROLE_ATTRIBUTE)
    return role


def _nothing() -> None:
    """There is nothing to be released."""


def _scope(current: Request | None = None) -> dict[str, Any]:
    # Quart types it as hypercorn's TypedDict, which has no further keys.
    return cast("dict[str, Any]", (current or request_ctx.request).scope)


def _peer_of(current: Request) -> str:
    return _peer(_scope(current).get("client"))


def _peer(client: tuple[str, int] | None) -> str:
    return "" if not client else str(Address(client[0], client[1]))


def _key_of(caller: Principal) -> tuple[str, str]:
    if caller.kind == "open":
        return caller.kind, host_of_peer(_peer_of(request_ctx.request))
    return caller.kind, caller.name


def _is_emergency(current: Request) -> bool:
    return current.url_rule is not None and current.url_rule.endpoint == _EMERGENCY


def _too_many_requests(message: str, wait_s: float) -> ApiError:
    return ApiError(429, message, retry_after_s=max(1, math.ceil(wait_s)))
