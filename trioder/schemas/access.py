"""The bodies and parameters of `/whoami` and `/audit`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from trioder.domain.access import AuditOutcome, Role
from trioder.schemas.resources import DEFAULT_HISTORY_ROWS, MAX_HISTORY_ROWS, Id, Time


class WhoAmIResponse(Struct, kw_only=True):
    """The caller, as its token authenticates it.

    `kind` is `open` where no access control is configured. `tenant` is `*` for all tenants, `sites` null for
    all sites of the tenant; expires_at is null for a token that does not expire, or whose end is not known.
    """

    name: str
    kind: Literal["token", "oidc", "open"]
    role: Role
    tenant: str
    sites: list[Id] | None
    expires_at: Time | None


class AuditRow(Struct, kw_only=True):
    """A command, a change of access, or a refused attempt.

    `number` grows with time. `outcome` is `refused` for what was not permitted, and `failed` for what was
    permitted and did not succeed; `reason` says why. What is not known is empty.
    """

    number: int
    time: Time
    principal: str
    kind: str
    tenant: str
    peer: str
    action: str
    target: str
    outcome: AuditOutcome
    reason: str
    request_id: str


class AuditQuery(Struct, kw_only=True):
    """Which records, newest first."""

    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_ROWS, description="Maximum number of rows.")] = (
        DEFAULT_HISTORY_ROWS
    )
    before: Annotated[int, Meta(ge=1, description="Only those with a smaller number.")] | None = None
    principal: Annotated[str, Meta(description="Only those of this principal.")] | None = None
