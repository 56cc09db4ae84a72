"""Counts which agents are refused for their certificate or for what it does not permit, and audits them.

The audit trail logs each refusal as well, and bounds both.
"""

from contextlib import suppress
from typing import Final, Literal

from trioder.access.audit import AuditTrail
from trioder.access.identity import AgentIdentity, IdentityError, certified_agent
from trioder.domain.access import AuditRecord
from trioder.events.counters import Counters
from trioder.gateway.identities import IdentityRefusedError, RefusalKind
from trioder.process.wall_time import WallClock
from trioder.rpc import Peer

Action = Literal["agent.connect", "agent.register", "agent.disconnect"]

_COUNTERS: Final[dict[RefusalKind, str]] = {
    "certificate": "agents_refused_certificate",
    "identity": "agents_refused_identity",
    "assets": "agents_refused_assets",
    "binding": "agents_refused_binding",
}


class RefusalRecorder:
    """Counts and audits refusals."""

    def __init__(self, *, counters: Counters, audit: AuditTrail, wall: WallClock) -> None:
        self._counters = counters
        self._audit = audit
        self._wall = wall

    def connection_refused(self, peer: Peer, reason: str) -> None:
        """A connection was refused at its TLS handshake, or for its revoked certificate; it is counted."""
        self._record("agent.connect", reason, identity=_certified_identity(peer), peer=peer.address)

    def refused(self, refusal: IdentityRefusedError, *, peer: str, agent_id: str = "") -> None:
        """An agent was refused; `agent_id` as it names itself, empty if it has not yet."""
        counter = _COUNTERS[refusal.kind]
        setattr(self._counters, counter, getattr(self._counters, counter) + 1)
        self._counters.sessions_refused += 1
        self._record(
            "agent.register", refusal.reason, identity=refusal.identity, peer=peer, agent_id=agent_id
        )

    def ended(self, refusal: IdentityRefusedError, *, peer: str, agent_id: str) -> None:
        """An open session has lost its permission."""
        self._counters.sessions_revoked += 1
        self._record(
            "agent.disconnect", refusal.reason, identity=refusal.identity, peer=peer, agent_id=agent_id
        )

    def _record(
        self, action: Action, reason: str, *, identity: AgentIdentity | None, peer: str, agent_id: str = ""
    ) -> None:
        self._audit.refused(
            AuditRecord(
                at_ms=self._wall.now_ms(),
                principal="" if identity is None else identity.uri,
                kind="agent",
                tenant="" if identity is None else identity.tenant,
                peer=peer,
                action=action,
                target=agent_id,
                outcome="refused",
                reason=reason,
            )
        )


def _certified_identity(peer: Peer) -> AgentIdentity | None:
    with suppress(IdentityError):
        if peer.certificate is not None:
            return certified_agent(peer.certificate).identity
    return None
