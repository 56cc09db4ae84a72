"""Refuses and ends what authenticates with a revoked certificate."""

from dataclasses import dataclass

import structlog

from trioder.access.table import AccessTable
from trioder.gateway.sessions import SessionRegistry
from trioder.rpc import Peer, PeerAccess, StatusCode

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """The revocations of the access file, applied to the gRPC port.

    Attributes:
        access: None where there is no access file: nothing is revoked.
    """

    access: AccessTable | None
    sessions: SessionRegistry

    def refusal(self, peer: Peer) -> str | None:
        """Return why a peer is refused; None if it is not."""
        return self._reason(peer.certificate_serial)

    def access_changed(self, peers: PeerAccess) -> None:
        """End the sessions and connections of certificates that are revoked now."""
        for session in self.sessions:
            reason = self._reason(session.certificate_serial)
            if reason is not None:
                log.warning(
                    "session ended: its certificate is revoked",
                    agent_id=session.agent_id,
                    session_id=session.session_id,
                    serial=session.certificate_serial,
                )
                session.end_with(StatusCode.UNAUTHENTICATED, reason)
        peers.check_open()

    def _reason(self, serial: str) -> str | None:
        if self.access is not None and serial and self.access.is_revoked(serial):
            return f"the certificate {serial} is revoked: issue a new one"
        return None
