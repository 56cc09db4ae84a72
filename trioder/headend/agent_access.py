"""Applies agents' identities to their sessions: at the registration, and when grants or the fleet change.

The checks themselves are in `gateway.identities`.
"""

from dataclasses import dataclass

from trioder.domain.fleet import Fleet
from trioder.gateway.identities import AgentIdentities, IdentityRefusedError, expired_reason
from trioder.gateway.refusals import RefusalRecorder
from trioder.gateway.sessions import Session, SessionRegistry
from trioder.ingest.service import Ingest
from trioder.wire.checks import WireError
from trioder.wire.records import AgentEvent

# As many agents are served a second when thousands connect again.
MAX_EXPIRED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentAccess:
    """What the sessions may name. Without required certificates it permits everything."""

    fleet: Fleet
    sessions: SessionRegistry
    ingest: Ingest
    identities: AgentIdentities
    refusals: RefusalRecorder

    def bind(self, session: Session) -> None:
        """Bind the agent_id and outbox of an opened session; until that is possible, its outbox is held."""
        if session.admission is None:
            return
        if self.identities.loaded:
            self.identities.bind(
                session.admission.agent.identity, agent_id=session.agent_id, outbox_id=session.outbox_id
            )
        else:
            session.outbox_held = True

    def bindings_loaded(self) -> None:
        """The bindings from before the start are known: check and bind the sessions opened without them."""
        self.access_changed()
        for session in self.sessions:
            if session.outbox_held and session.end is None:
                self.bind(session)
                self.ingest.outbox_released(session)

    def access_changed(self) -> None:
        """The access file has changed: end the sessions that it no longer permits; others do not notice."""
        for session in self.sessions:
            self._recheck(session)

    def end_expired(self, now_ms: int) -> None:
        """End sessions whose certificate has expired, at most `MAX_EXPIRED` at once; others follow.

        Certificates that were issued together expire together: their agents must not all be back at once.
        """
        ended = 0
        for session in self.sessions:
            admission = session.admission
            if admission is None or admission.agent.expires_ms > now_ms or session.end is not None:
                continue
            agent = admission.agent
            refusal = IdentityRefusedError(
                "certificate", expired_reason(agent.serial, agent.expires_ms), agent.identity
            )
            self._end(session, refusal)
            ended += 1
            if ended == MAX_EXPIRED:
                return

    def fleet_changed(self, changed: frozenset[int]) -> None:
        """End the backlogs of assets that are at another site now, or another tenant's.

        Sessions that drive changed assets end anyway.

        Args:
            changed: the keys of the changed assets.
        """
        for session in self.sessions:
            if session.backlog_only and not changed.isdisjoint(session.batch_keys):
                self._recheck(session, fleet_changed=True)

    def check_event(self, session: Session, event: AgentEvent) -> None:
        """Check that an event is not about another agent's asset.

        Raises:
            WireError: it is.
        """
        if session.admission is None:
            return
        # An event is not required to name its asset canonically, or one of the fleet.
        key = self.fleet.index_by_id.get(event.asset_id.lower())
        if key is None or self.sessions.session_of(key) is session:
            return
        if not (session.backlog_only and key in session.batch_keys):
            raise WireError(f"Event.asset_id is {event.asset_id}; the session did not register that asset")

    def _recheck(self, session: Session, *, fleet_changed: bool = False) -> None:
        if session.admission is None or session.end is not None:
            return
        try:
            session.admission = self.identities.recheck(
                session.admission,
                agent_id=session.agent_id,
                outbox_id=session.outbox_id,
                keys=session.batch_keys,
                fleet_changed=fleet_changed,
            )
        except IdentityRefusedError as refusal:
            self._end(session, refusal)

    def _end(self, session: Session, refusal: IdentityRefusedError) -> None:
        self.refusals.ended(refusal, peer=session.peer, agent_id=session.agent_id)
        session.end_with(refusal.status, refusal.reason)
