"""Who may see and command what: roles, tenants, principals, and the records of the audit."""

import re
from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["viewer", "operator", "admin"]
# Each role may do what those before it may.
ROLES: Final[tuple[Role, ...]] = ("viewer", "operator", "admin")

# The tenant of a site for which the fleet file names none.
DEFAULT_TENANT: Final = "default"
# Of principals that see every tenant, and of dispatches to several.
ALL_TENANTS: Final = "*"

TENANT_RULE: Final = "1 to 64 lower-case letters, digits and hyphens, beginning with a letter"
_TENANT = re.compile(r"[a-z][a-z0-9-]{0,63}")

AuditOutcome = Literal["ok", "refused", "failed"]


def is_tenant(name: str) -> bool:
    """Whether this is the name of a tenant, by `TENANT_RULE`."""
    return _TENANT.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The part of the fleet that a caller sees and commands.

    Attributes:
        tenant: whose sites; `ALL_TENANTS` for all.
        site_ids: of these, the only ones; None for all of the tenant's.
    """

    tenant: str = ALL_TENANTS
    site_ids: frozenset[str] | None = None

    def includes(self, *, tenant: str, site_id: str) -> bool:
        """Whether a site of this tenant is within the scope."""
        return self.tenant in {ALL_TENANTS, tenant} and (self.site_ids is None or site_id in self.site_ids)


EVERYTHING: Final = Scope()


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated caller of REST.

    Attributes:
        name: of the token, or the subject of an OpenID Connect token; unique within its kind.
        kind: how it was authenticated; `open` where no access control is configured.
        role: the highest that it has.
        scope: what it sees.
        expires_ms: until when it is authenticated; Unix time; None where it does not end or is not known.
    """

    name: str
    kind: Literal["token", "oidc", "open"]
    role: Role
    scope: Scope = EVERYTHING
    expires_ms: int | None = None

    def has_role(self, role: Role) -> bool:
        """Whether its role includes `role`."""
        return ROLES.index(self.role) >= ROLES.index(role)


# Every request where no access control is configured.
OPEN_ACCESS: Final = Principal(name="anonymous", kind="open", role="admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One command, change of access or refused attempt. Never changed once recorded.

    Attributes:
        at_ms: when; Unix time.
        principal: who: a principal's name, an agent's identity, or empty when unknown.
        kind: of the principal: `token`, `oidc`, `open`, `agent`, `access_file`, or empty when unknown.
        tenant: whose; empty when unknown, `ALL_TENANTS` for all. Admins of a tenant see its records.
        peer: from where: the address, host:port; empty for what happens inside.
        action: what, such as `dispatch`, `fleet.reload`, `authenticate`, `agent.register`, `token.create`.
        target: on what: an id or a path; may be empty.
        outcome: `refused` for what was not permitted, `failed` for what was permitted and did not succeed.
        reason: in words, for refusals and failures; empty otherwise.
        request_id: of the REST request; empty otherwise.
    """

    at_ms: int
    principal: str
    kind: str
    tenant: str
    peer: str
    action: str
    target: str = ""
    outcome: AuditOutcome
    reason: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastAuditRecord:
    """An audit record read back; `number` grows with time and is never used twice."""

    number: int
    record: AuditRecord


IdentityClaim = Literal["agent_id", "outbox"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityBinding:
    """An agent_id or an outbox belongs to the identity that used it first.

    Attributes:
        claim: what is bound.
        value: the agent_id or outbox id.
        identity: the SPIFFE URI of the agent's certificate.
    """

    claim: IdentityClaim
    value: str
    identity: str
