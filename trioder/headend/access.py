"""Who may do what, as one part: the access file in memory, agents' identities and certificates, the audit.

A change of the access file reaches all of them from here.
"""

from collections.abc import Sequence
from pathlib import Path

import trio

from trioder.access.audit import AuditTrail
from trioder.access.table import AccessChange, AccessTable
from trioder.access.watch import AccessWatch
from trioder.domain.fleet import Fleet
from trioder.events.counters import Counters
from trioder.gateway.identities import AgentIdentities, expired_reason, revoked_reason
from trioder.gateway.refusals import RefusalRecorder
from trioder.gateway.sessions import SessionRegistry
from trioder.headend.agent_access import AgentAccess
from trioder.ingest.service import Ingest
from trioder.process.wall_time import WallClock
from trioder.rpc import Peer, PeerAccess, PeerLimits
from trioder.store.interface import Store

_LOAD_BINDINGS_EVERY_S = 2.0
_END_EXPIRED_EVERY_S = 1.0


class Access:
    """The parts that decide and record access; `run` is to be running.

    Args:
        table: the access file in memory.
        path: of the access file, which is read again when it changes; None: it is not read.
        required: agents need a certificate and a grant.
        fleet: for the sites and tenants of assets.
        sessions: those that lose their permission are ended.
        ingest: stores an agent's telemetry once its outbox is bound.
        store: of the audit and the bindings.
        counters: of refusals.
        wall: for the times in the audit.
        peers: its refusals are recorded.

    Attributes:
        table: see above.
        audit: records commands, changes of access and refusals.
        agents: what agents' sessions may name.
        peers: which peers the gRPC port serves.
        watch: keeps `table` current; None without a path.
    """

    def __init__(
        self,
        *,
        table: AccessTable,
        path: Path | None,
        required: bool,
        fleet: Fleet,
        sessions: SessionRegistry,
        ingest: Ingest,
        store: Store,
        counters: Counters,
        wall: WallClock,
        peers: PeerLimits,
    ) -> None:
        self.table = table
        self.audit = AuditTrail(store.record_audit, wall=wall)
        self.agents = AgentAccess(
            fleet=fleet,
            sessions=sessions,
            ingest=ingest,
            identities=AgentIdentities(fleet=fleet, access=table, required=required, store=store),
            refusals=RefusalRecorder(counters=counters, audit=self.audit, wall=wall),
        )
        self._wall = wall
        self.peers = PeerAccess(self._refusal_of)
        self.watch = None if path is None else AccessWatch(table, path, self._file_changed)
        peers.refusals.report = self.agents.refusals.connection_refused

    def changed(self) -> None:
        """End the sessions and connections that the table no longer permits."""
        # The sessions first, whose agents are sent the reason.
        self.agents.access_changed()
        self.peers.check_open()

    async def run(self) -> None:
        """Keep the table current and write the audit, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.audit.run)
            nursery.start_soon(self._load_bindings)
            nursery.start_soon(self._end_expired)
            if self.watch is not None:
                nursery.start_soon(self.watch.run)

    def _file_changed(self, changes: Sequence[AccessChange]) -> None:
        self.audit.access_changed(changes)
        self.changed()

    async def _load_bindings(self) -> None:
        identities = self.agents.identities
        if identities.loaded:
            return
        while not await identities.load():  # noqa: ASYNC110  # the database has no event
            await trio.sleep(_LOAD_BINDINGS_EVERY_S)
        self.agents.bindings_loaded()

    async def _end_expired(self) -> None:
        # TLS checks a certificate when a connection begins; sessions last for months.
        while True:
            await trio.sleep(_END_EXPIRED_EVERY_S)
            self.agents.end_expired(self._wall.now_ms())

    def _refusal_of(self, peer: Peer) -> str | None:
        serial, expires_s = peer.certificate_serial, peer.certificate_expires_s
        if not serial or expires_s is None:
            return None
        if self.table.is_revoked(serial):
            return revoked_reason(serial)
        # A connection from before its end must not open further sessions.
        expires_ms = int(expires_s * 1000)
        return expired_reason(serial, expires_ms) if expires_ms <= self._wall.now_ms() else None
