"""Decides whom a registering agent's certificate identifies, and what that identity may name.

An agent_id and an outbox belong to the identity that used them first; assets are granted by the access file.
The sessions are in `gateway.sessions`, refusals are counted and recorded by `gateway.refusals`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import structlog

from trioder.access.identity import AgentIdentity, CertifiedAgent, IdentityError, certified_agent
from trioder.access.table import AccessTable, AgentGrant
from trioder.domain.access import IdentityBinding, IdentityClaim
from trioder.domain.fleet import Fleet
from trioder.process.rfc3339 import format_ms
from trioder.rpc import StatusCode
from trioder.store.interface import Store, StoreUnavailableError
from trioder.wire.records import Registration

log = structlog.stdlib.get_logger(__name__)

# Of each identity the outboxes used last are remembered; it makes the headend forget none of another's.
# An agent without a state directory has a new outbox at each start, and never uses a former one again.
OUTBOXES_AN_IDENTITY: Final = 100
_MAX_IDS_LISTED = 10

RefusalKind = Literal["certificate", "identity", "assets", "binding"]


class IdentityRefusedError(Exception):
    """An agent that may not register, or may not stay connected.

    Attributes:
        kind: what was refused.
        reason: for the agent and the log.
        identity: as certified; None while it is unknown.
    """

    def __init__(self, kind: RefusalKind, reason: str, identity: AgentIdentity | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.identity = identity

    @property
    def status(self) -> StatusCode:
        """UNAUTHENTICATED without a valid certificate, else PERMISSION_DENIED."""
        return StatusCode.UNAUTHENTICATED if self.kind == "certificate" else StatusCode.PERMISSION_DENIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """By which certificate and grant an agent is admitted."""

    agent: CertifiedAgent
    grant: AgentGrant


class Bindings:
    """Which identity an agent_id or outbox belongs to."""

    def __init__(self) -> None:
        self._holders: dict[tuple[IdentityClaim, str], str] = {}
        # Of each identity, in order of use.
        self._outboxes: defaultdict[str, dict[str, None]] = defaultdict(dict)

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._holders)

    def holder(self, claim: IdentityClaim, value: str) -> str | None:
        """Return the identity that it belongs to; None if to none."""
        return self._holders.get((claim, value))

    def bind(self, binding: IdentityBinding) -> bool:
        """Bind what is bound to no other identity; return whether it is bound for the first time."""
        key = binding.claim, binding.value
        is_new = key not in self._holders
        if self._holders.setdefault(key, binding.identity) == binding.identity and binding.claim == "outbox":
            outboxes = self._outboxes[binding.identity]
            outboxes.pop(binding.value, None)
            outboxes[binding.value] = None
            if len(outboxes) > OUTBOXES_AN_IDENTITY:
                oldest = next(iter(outboxes))
                del outboxes[oldest], self._holders["outbox", oldest]
        return is_new


def revoked_reason(serial: str) -> str:
    """Say that a certificate is revoked, and what to do."""
    return f"the certificate {serial} is revoked: issue a new one"


def expired_reason(serial: str, expires_ms: int) -> str:
    """Say that a certificate has expired, and what to do."""
    return (
        f"the certificate {serial} expired at {format_ms(expires_ms)}: issue a new one, which the agent "
        "reads before it connects again"
    )


class AgentIdentities:
    """Checks registering agents against their certificates, where certificates are required.

    Args:
        fleet: for the sites and tenants of assets.
        access: the grants and revocations.
        required: False admits every agent, without an identity.
        store: where bindings are recorded, and read from at the start.

    Attributes:
        loaded: whether the bindings from before the start are known. Until then none is made.
    """

    def __init__(self, *, fleet: Fleet, access: AccessTable, required: bool, store: Store) -> None:
        self._fleet = fleet
        self._access = access
        self._required = required
        self._store = store
        self._bindings = Bindings()
        self.loaded = not required

    async def load(self) -> bool:
        """Load the bindings; False if the database cannot be read now."""
        if self.loaded:
            return True
        try:
            bindings = await self._store.identity_bindings()
        except StoreUnavailableError as error:
            log.warning(
                "bindings of agents' identities cannot be read: their telemetry is not stored until they are",
                reason=str(error),
            )
            return False
        for binding in bindings:
            self._bindings.bind(binding)
        self.loaded = True
        return True

    def certify(self, certificate: bytes | None) -> Admission | None:
        """Return by what an agent is admitted; None where certificates are not required.

        Args:
            certificate: of the peer, DER, verified by TLS.

        Raises:
            IdentityRefusedError: it has none that identifies an agent, is revoked, or has no grant.
        """
        if not self._required:
            return None
        if certificate is None:
            raise IdentityRefusedError("certificate", "the agent presented no certificate")
        try:
            return self._admission_of(certified_agent(certificate))
        except IdentityError as error:
            raise IdentityRefusedError("certificate", str(error)) from None

    def check(self, admission: Admission, registration: Registration) -> tuple[Admission, Registration]:
        """Return the present admission, and the registration with the certificate's agent_id.

        Nothing is bound yet.

        Raises:
            IdentityRefusedError: it names what is not its identity's.
        """
        # The access file may have changed since the connection was opened.
        admission = self._admission_of(admission.agent)
        identity = admission.agent.identity
        if registration.names_agent and registration.agent_id != identity.agent:
            raise IdentityRefusedError(
                "identity",
                f"agent_id is {registration.agent_id}; the certificate is that of agent {identity.agent}",
                identity,
            )
        registration = replace(registration, agent_id=identity.agent)
        index_by_id = self._fleet.index_by_id
        keys = [index_by_id.get(asset_id) for asset_id in registration.asset_ids]
        self._check_covered(admission, keys)
        self._check_bound(identity, registration.agent_id, registration.outbox_id)
        self._check_bound(identity, registration.agent_id, registration.replaces_outbox_id)
        return admission, registration

    def recheck(
        self,
        admission: Admission,
        *,
        agent_id: str,
        outbox_id: str,
        keys: Sequence[int | None],
        fleet_changed: bool = False,
    ) -> Admission:
        """Check a session again, after a change; return its present admission.

        Args:
            admission: by which it was opened.
            agent_id: of the session, as its outbox_id.
            outbox_id: empty for none.
            keys: of its assets; None for unknown ones.
            fleet_changed: check the assets also if the grant is the same.

        Raises:
            IdentityRefusedError: it would be refused now.
        """
        current = self._admission_of(admission.agent)
        if fleet_changed or current.grant != admission.grant:
            self._check_covered(current, keys)
        self._check_bound(current.agent.identity, agent_id, outbox_id)
        return current

    def bind(self, identity: AgentIdentity, *, agent_id: str, outbox_id: str) -> None:
        """Bind an open session's agent_id and outbox to its identity; record what is new."""
        claims: list[tuple[IdentityClaim, str]] = [("agent_id", agent_id)]
        if outbox_id:
            claims.append(("outbox", outbox_id))
        for claim, value in claims:
            binding = IdentityBinding(claim=claim, value=value, identity=identity.uri)
            if self._bindings.bind(binding):
                self._store.record_binding(binding)

    def _admission_of(self, agent: CertifiedAgent) -> Admission:
        identity = agent.identity
        if self._access.is_revoked(agent.serial):
            raise IdentityRefusedError("certificate", revoked_reason(agent.serial), identity)
        if identity.trust_domain != self._access.trust_domain:
            raise IdentityRefusedError(
                "identity",
                f"the certificate is of trust domain {identity.trust_domain}; this headend's is "
                f"{self._access.trust_domain}",
                identity,
            )
        grant = self._access.grant_of(identity)
        if grant is None:
            raise IdentityRefusedError("identity", f"{identity.uri} is granted no assets", identity)
        return Admission(agent=agent, grant=grant)

    def _check_covered(self, admission: Admission, keys: Sequence[int | None]) -> None:
        uncovered = list(self._uncovered(admission.grant, keys))
        if uncovered:
            # Whether another tenant has the asset is not disclosed.
            listed = ", ".join(uncovered[:_MAX_IDS_LISTED])
            more = ", ..." if len(uncovered) > _MAX_IDS_LISTED else ""
            identity = admission.agent.identity
            raise IdentityRefusedError(
                "assets",
                f"{len(uncovered)} of {len(keys)} registered assets are not granted to {identity.uri}: "
                f"{listed}{more}",
                identity,
            )

    def _uncovered(self, grant: AgentGrant, keys: Sequence[int | None]) -> Iterator[str]:
        assets = self._fleet.assets
        is_of_tenant: dict[str, bool] = {}
        for key in keys:
            if key is None:
                # Its samples are dropped; once it is in the fleet, the agent registers again.
                continue
            asset = assets[key]
            site_id = asset.site_id
            if site_id not in is_of_tenant:
                is_of_tenant[site_id] = self._fleet.tenant_of(key) == grant.tenant
            if not (is_of_tenant[site_id] and grant.covers(asset_id=asset.id, site_id=site_id)):
                yield asset.id

    def _check_bound(self, identity: AgentIdentity, agent_id: str, outbox_id: str) -> None:
        claims: tuple[tuple[IdentityClaim, str, str], ...] = (
            ("agent_id", agent_id, "agent_id"),
            ("outbox", outbox_id, "outbox"),
        )
        for claim, value, name in claims:
            holder = self._bindings.holder(claim, value)
            if holder is not None and holder != identity.uri:
                # Whose it is is not disclosed to the agent; `holder` is for the operator.
                log.debug("claim of another identity", claim=claim, value=value, holder=holder)
                raise IdentityRefusedError("binding", f"{name} {value} belongs to another identity", identity)
