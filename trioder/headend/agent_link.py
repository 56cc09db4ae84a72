"""The gRPC service that agents connect to: one call per agent, from Register to the end of its stream.

Claims are decided in `gateway.sessions`, telemetry is processed in `ingest`.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
import trio

from trioder.control.dispatcher import Dispatcher
from trioder.domain.fleet import Fleet, FleetChange
from trioder.events import facts
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.gateway.agent_clocks import AgentClocks
from trioder.gateway.downlink_queue import PendingDownlink
from trioder.gateway.identities import Admission, IdentityRefusedError
from trioder.gateway.sessions import ClaimRefusedError, Session, SessionRegistry
from trioder.headend.agent_access import AgentAccess
from trioder.headend.registration import (
    MAX_IDS_LISTED,
    AgentCall,
    check_known,
    compare_nameplates,
    receive_registration,
    tenant_of,
)
from trioder.ingest.service import Ingest
from trioder.process.wall_time import WallClock
from trioder.rpc import RpcError, StatusCode
from trioder.store.interface import Store
from trioder.store.records import SessionRecord, Watermark
from trioder.wire import agent_link_pb2 as pb
from trioder.wire.checks import WireError
from trioder.wire.downlink import write_batch_ack, write_grant, write_replay, write_setpoint, write_setpoints
from trioder.wire.records import (
    CLOCK_STEP,
    Acknowledgement,
    AgentEvent,
    Batch,
    Heartbeat,
    Registration,
    SessionGrant,
    SingleSample,
)
from trioder.wire.service import PROTOCOL
from trioder.wire.sizes import check_message_bytes
from trioder.wire.uplink import read_uplink

log = structlog.stdlib.get_logger(__name__)

SHUTTING_DOWN = "the headend is shutting down"
FLEET_CHANGED = "the headend's fleet has changed: register again"

# About 1 MB of message.
_SETPOINTS_A_MESSAGE = 10_000
# How many unknown ids Registered lists: about 1 MB.
_MAX_IDS_REPORTED = 25_000
# A batch has one row per asset: an index and a few doubles, some 50 bytes.
_ROW_BYTES = 256
_MESSAGE_BYTES = 64 * 1024
# Texts of an event are truncated to this: they are logged, and may wait in queues.
_MAX_EVENT_TEXT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLinkService:
    """The service; `serve` is the handler of its one method."""

    fleet: Fleet
    sessions: SessionRegistry
    ingest: Ingest
    dispatcher: Dispatcher
    store: Store
    counters: Counters
    events: EventBus
    wall: WallClock
    clocks: AgentClocks
    access: AgentAccess
    rng: random.Random
    closing: trio.Event

    async def serve(self, call: AgentCall) -> None:
        """Serve one agent until its stream ends.

        Raises:
            RpcError: the status sent to the agent when the headend ends the stream.
        """
        agent_id = ""
        try:
            # Before the registration is read, which may be large.
            admission = self.access.identities.certify(call.peer.certificate)
            registration = await receive_registration(call, self.fleet)
            agent_id = registration.agent_id
            if admission is not None:
                admission, registration = self.access.identities.check(admission, registration)
            session = self._open(
                registration,
                admission,
                peer=call.peer.address,
                certificate_expires_s=call.peer.certificate_expires_s,
            )
            call.check_bytes = check_message_bytes
            call.register_peer(max_message_bytes=_message_bytes(len(registration.asset_ids)))
        except WireError as error:
            self.counters.wire_errors += 1
            log.warning("agent refused", peer=call.peer.address, reason=str(error))
            raise RpcError(StatusCode.INVALID_ARGUMENT, str(error)) from None
        except IdentityRefusedError as refusal:
            self.access.refusals.refused(refusal, peer=call.peer.address, agent_id=agent_id)
            raise RpcError(refusal.status, refusal.reason) from None
        except RpcError as refusal:
            self.counters.sessions_refused += 1
            log.warning("agent refused", peer=call.peer.address, reason=refusal.message)
            raise
        reason = "the connection was lost"
        try:
            with session.scope:
                await self._run(call, session)
            if session.end is not None:
                raise RpcError(session.end.status, session.end.reason)
            reason = "the agent closed the stream"
        except RpcError as error:
            reason = error.message
            raise
        except Exception:
            reason = "the headend failed"
            raise
        finally:
            # The call may have been cancelled together with the session.
            self._close(session, reason if session.end is None else session.end.reason)

    def _open(
        self,
        registration: Registration,
        admission: Admission | None,
        *,
        peer: str,
        certificate_expires_s: float | None,
    ) -> Session:
        if self.closing.is_set():
            raise RpcError(StatusCode.UNAVAILABLE, SHUTTING_DOWN)
        keys = [self.fleet.index_by_id.get(asset_id) for asset_id in registration.asset_ids]
        try:
            unknown_ids = check_known(registration, self.fleet, self.counters)
        except RpcError:
            self._publish_checked(registration.agent_id, registration.asset_ids)
            raise
        session = Session(
            session_id=str(UUID(int=self.rng.getrandbits(128), version=4)),
            agent_id=registration.agent_id,
            epoch=registration.epoch,
            protocol=min(registration.protocol, PROTOCOL),
            outbox_id=registration.outbox_id,
            asset_keys=() if registration.backlog_only else [key for key in keys if key is not None],
            batch_keys=keys,
            backlog_only=registration.backlog_only,
            unknown_ids=unknown_ids,
            newest_batch_seq=registration.newest_batch_seq,
            identity="" if admission is None else admission.agent.identity.uri,
            admission=admission,
            tenant=tenant_of(keys, self.fleet),
            peer=peer,
            connected_ms=self.wall.now_ms(),
            version=registration.version,
            certificate_expires_ms=(
                None if certificate_expires_s is None else round(certificate_expires_s * 1000)
            ),
        )
        try:
            superseded = self.sessions.claim(session, asset_ids=registration.asset_ids)
        except ClaimRefusedError as refusal:
            raise RpcError(
                refusal.status, f"agent {registration.agent_id} is refused: {refusal.message}"
            ) from None
        if superseded is not None:
            self.counters.sessions_superseded += 1
            superseded.end_with(StatusCode.ABORTED, f"superseded by session {session.session_id}")
        self.access.bind(session)
        differing_keys = compare_nameplates(session, registration, self.fleet, self.dispatcher.limits)
        self.counters.sessions_opened += 1
        self.clocks.session_opened(session, registration)
        if registration.replaces_outbox_id:
            self.counters.outboxes_replaced += 1
            log.warning(
                "agent state was set back to an older copy; it continues in a new outbox",
                agent_id=session.agent_id,
                outbox_id=session.outbox_id,
                replaced_outbox_id=registration.replaces_outbox_id,
            )
        if not session.backlog_only:
            self.store.open_session(_record_of(session))
        log.info("agent connected", **self._log_fields(session), epoch=session.epoch)
        self._publish_checked(session.agent_id, unknown_ids, differing_keys, certificate_expires_s)
        opened = facts.SessionOpened(*session.subject, session.epoch, peer, session.connected_ms)
        self.events.publish(opened)
        return session

    def clock_stepped(self, by_ms: int) -> None:
        """The headend's clock was stepped by this: correct when the open sessions began, and record that."""
        self.sessions.clock_stepped(by_ms)
        for session in self.sessions:
            if not session.backlog_only:
                self.store.open_session(_record_of(session))

    def _close(self, session: Session, reason: str) -> None:
        self.sessions.release(session)
        self.clocks.session_closed(session)
        self.ingest.session_closed(session)
        self.dispatcher.session_closed(session)
        if not session.backlog_only:
            self.store.close_session(session.session_id, disconnected_ms=self.wall.now_ms(), reason=reason)
        log.info("agent disconnected", **self._log_fields(session), reason=reason)
        self.events.publish(facts.SessionClosed(*session.subject, reason, self.wall.now_ms()))
        self.sessions.remember(session, closed_ms=self.wall.now_ms(), reason=reason)

    async def _run(self, call: AgentCall, session: Session) -> None:
        watermark = await self.ingest.session_opened(session)
        self.dispatcher.session_opened(session)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, call, session, watermark)
            await self.ingest.load_recent_times(session)
            await self._receive(call, session)
            nursery.cancel_scope.cancel()

    async def _receive(self, call: AgentCall, session: Session) -> None:
        try:
            while True:
                messages = await call.receive_some()
                session.received_ms = self.wall.now_ms()
                for message in messages:
                    if session.end is not None:
                        # A message already received must not act on a newer session's assets.
                        return
                    self._handle(message, session)
        except trio.EndOfChannel:
            return
        except WireError as error:
            self._end_on_violation(session, str(error))
        except RpcError as error:
            # From the transport: bytes that are no message.
            self._end_on_violation(session, error.message)

    def _end_on_violation(self, session: Session, reason: str) -> None:
        self.counters.wire_errors += 1
        log.warning("agent broke the contract", **self._log_fields(session), reason=reason)
        session.end_with(StatusCode.INVALID_ARGUMENT, reason)

    async def _send(self, call: AgentCall, session: Session, watermark: Watermark) -> None:
        try:
            if session.protocol >= 1:
                grant = SessionGrant(
                    session_id=session.session_id,
                    committed_batch_seq=watermark.batch_seq,
                    committed_ts_unix_ms=watermark.ts_unix_ms,
                    protocol=session.protocol,
                    unknown_asset_ids=sorted(session.unknown_ids)[:_MAX_IDS_REPORTED],
                    clock_unix_ms=self.wall.now_ms(),
                )
                self.clocks.granted(session)
                await call.send(write_grant(grant))
            while True:
                pending = await session.downlink.take()
                for message in _encode(pending, session.protocol):
                    await call.send(message)
        except RpcError:
            # The call has ended; the receiving task gets the same error and ends the session.
            log.debug("sending ended with the call", agent_id=session.agent_id)

    def _handle(self, message: pb.AgentToHeadend, session: Session) -> None:
        match read_uplink(message, asset_count=len(session.batch_keys)):
            case Batch() as batch:
                self.clocks.batch(session, batch)
                self.ingest.receive_batch(session, batch)
            case SingleSample() as sample if sample.asset_id in session.unknown_ids:
                self.counters.samples_unknown += 1
            case SingleSample() as sample:
                key = self._own_key(session, sample.asset_id)
                self.clocks.sample(session, sample.ts_unix_ms)
                self.ingest.receive_single(session, key, sample)
            case Acknowledgement() as acknowledgement:
                self.dispatcher.acknowledged(acknowledgement, session=session)
            case Heartbeat() as heartbeat:
                self.counters.heartbeats_received += 1
                self.clocks.heartbeat(session, heartbeat)
            case AgentEvent() as event:
                self.access.check_event(session, event)
                self.counters.events_received += 1
                if event.event_type == CLOCK_STEP:
                    self.clocks.agent_stepped(session)
                self._publish_event(session, event)
            case Registration():
                raise WireError("Register was received twice on one stream")
            case None:
                log.debug("unknown message ignored", agent_id=session.agent_id)

    def _publish_event(self, session: Session, event: AgentEvent) -> None:
        self.events.publish(
            facts.AgentEvent(
                session.agent_id,
                session.session_id,
                event.asset_id[:_MAX_EVENT_TEXT],
                event.event_type,
                event.severity[:_MAX_EVENT_TEXT],
                event.message[:_MAX_EVENT_TEXT],
                event.ts_unix_ms,
            )
        )

    def _publish_checked(
        self,
        agent_id: str,
        unknown_ids: Collection[str],
        differing_keys: Sequence[int] = (),
        certificate_expires_s: float | None = None,
    ) -> None:
        self.events.publish(
            facts.RegistrationChecked(
                agent_id,
                differing_keys,
                sorted(unknown_ids)[:MAX_IDS_LISTED],
                len(unknown_ids),
                certificate_expires_s,
            )
        )

    def _own_key(self, session: Session, asset_id: str) -> int:
        key = self.fleet.index_by_id.get(asset_id)
        if key is None or self.sessions.session_of(key) is not session:
            raise WireError(f"Telemetry.asset_id is {asset_id}; the session did not register that asset")
        return key

    def fleet_changed(self, change: FleetChange) -> None:
        """Release retired assets; end the sessions that added and changed ones need registered again."""
        self.sessions.retire({key: self.fleet.asset_ids[key] for key in change.retired})
        added = frozenset(self.fleet.asset_ids[key] for key in change.added)
        changed = frozenset(change.changed)
        for key in (*change.changed, *change.retired):
            self.dispatcher.limits.reset(key)
        for session in self.sessions:
            if (
                session.unknown_ids & added
                or not changed.isdisjoint(session.asset_keys)
                or not (session.asset_keys or session.backlog_only)
            ):
                session.end_with(StatusCode.UNAVAILABLE, FLEET_CHANGED)
        self.access.fleet_changed(changed)

    def _log_fields(self, session: Session) -> dict[str, object]:
        fields: dict[str, object] = {"agent_id": session.agent_id, "session_id": session.session_id}
        if session.identity:
            fields["identity"] = session.identity
        if session.backlog_only:
            return fields | {"backlog_of_assets": len(session.batch_keys), "peer": session.peer}
        assets = [self.fleet.assets[key] for key in session.asset_keys]
        if len(assets) == 1:
            fields |= {"asset_id": assets[0].id, "asset": assets[0].name}
        else:
            fields |= {"assets": len(assets)}
        sites = {asset.site_id: asset.site_name for asset in assets}
        fields["site"] = next(iter(sites.values())) if len(sites) == 1 else f"{len(sites)} sites"
        return fields | {"peer": session.peer}


def _record_of(session: Session) -> SessionRecord:
    return SessionRecord(
        session_id=session.session_id,
        agent_id=session.agent_id,
        epoch=session.epoch,
        peer=session.peer,
        asset_keys=session.asset_keys,
        connected_ms=session.connected_ms,
        tenant=session.tenant,
        identity=session.identity,
    )


def _message_bytes(assets: int) -> int:
    """Return the size limit of a message of an agent with so many assets."""
    return _MESSAGE_BYTES + assets * _ROW_BYTES


def _encode(pending: PendingDownlink, protocol: int) -> list[pb.HeadendToAgent]:
    if protocol == 0:
        return [write_setpoint(setpoint) for setpoint in pending.setpoints]
    messages = [
        write_setpoints(pending.setpoints[start : start + _SETPOINTS_A_MESSAGE])
        for start in range(0, len(pending.setpoints), _SETPOINTS_A_MESSAGE)
    ]
    if pending.committed_seq is not None:
        messages.append(write_batch_ack(pending.committed_seq))
    if pending.replay_from_seq is not None:
        messages.append(write_replay(pending.replay_from_seq))
    return messages
