"""Agents' sessions and their claims on assets: grants, refusals and supersession, between two checkpoints.

The stream of a session is handled in `headend.agent_link`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from trioder.domain.access import DEFAULT_TENANT
from trioder.gateway.downlink_queue import DownlinkQueue
from trioder.gateway.identities import Admission
from trioder.gateway.log_limit import LogLimit
from trioder.rpc import StatusCode

MAX_CLOSED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """Why the headend ends a session, as sent to the agent."""

    status: StatusCode
    reason: str


@dataclass(slots=True, eq=False, kw_only=True)
class Session:
    """One agent's open stream; compared by identity.

    Attributes:
        epoch: the agent's boot; 0 when it reports none.
        protocol: the version that both ends support.
        outbox_id: empty when the agent sends no batches.
        asset_keys: the assets that it drives.
        batch_keys: asset keys by their index in batches; None for an asset that is not in the fleet.
        backlog_only: it drives no assets, and only delivers the backlog of a former agent.
        unknown_ids: the registered assets that are not in the fleet.
        newest_batch_seq: the newest batch of its outbox when it registered; None if it does not report it.
        identity: the SPIFFE URI of the agent's certificate; empty without one.
        admission: by what it was admitted; None where certificates are not required.
        outbox_held: nothing of its outbox is stored: whether that is another identity's is not known yet.
        tenant: whose assets; `ALL_TENANTS` for several tenants' together.
        peer: its address, host:port.
        clock_skew_s: how far the agent's clock is ahead of the headend's; None while unknown.
        clock_error_s: the error of that, +/-; None while unknown.
        adopted_keys: its assets that follow a dispatch of which there is no record.
        log_limit: of the log lines that its messages cause.
        scope: cancelled to end the session.
        end: why the headend ended it; None while it has not.
        version: of the agent's software; empty if it reports none.
        certificate_expires_ms: until when the agent's certificate is valid; None without one.
        received_ms: when the agent's last message was received.
        closed_ms: when the session ended; None while it is open.
        closed_reason: why it ended.
    """

    session_id: str
    agent_id: str
    epoch: int
    protocol: int
    outbox_id: str
    asset_keys: Sequence[int]
    peer: str
    connected_ms: int
    batch_keys: Sequence[int | None]
    backlog_only: bool = False
    unknown_ids: frozenset[str] = frozenset()
    newest_batch_seq: int | None = None
    identity: str = ""
    admission: Admission | None = None
    outbox_held: bool = False
    tenant: str = DEFAULT_TENANT
    clock_skew_s: float | None = None
    clock_error_s: float | None = None
    downlink: DownlinkQueue = field(default_factory=DownlinkQueue)
    adopted_keys: set[int] = field(default_factory=set)
    log_limit: LogLimit = field(default_factory=LogLimit)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    end: SessionEnd | None = None
    version: str = ""
    certificate_expires_ms: int | None = None
    received_ms: int = 0
    closed_ms: int | None = None
    closed_reason: str = ""

    def __post_init__(self) -> None:
        """Its registration was received just now."""
        self.received_ms = self.received_ms or self.connected_ms

    @property
    def subject(self) -> tuple[str, str, Sequence[int]]:
        """The first fields of the facts about it."""
        return self.agent_id, self.session_id, self.asset_keys

    @property
    def measured_skew_s(self) -> float | None:
        """The skew by the agent's own clock; one derived from samples may be the age of a backlog."""
        return None if self.clock_error_s is None else self.clock_skew_s

    @property
    def supports_reversions(self) -> bool:
        """Whether its agent supports a reversion to another power than 0 MW."""
        return self.protocol >= 1

    def end_with(self, status: StatusCode, reason: str) -> None:
        """End the session; only the first reason counts."""
        if self.end is None:
            self.end = SessionEnd(status=status, reason=reason)
            self.scope.cancel()


class ClaimRefusedError(Exception):
    """A refused registration, with the status of the response."""

    def __init__(self, status: StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class SessionRegistry:
    """The open sessions: at most one per agent, one per asset and one per outbox.

    The last session of each agent that is not connected is remembered, of the 10,000 that left last.

    Attributes:
        version: changes with every claim and release.
    """

    def __init__(self) -> None:
        self.version = 0
        self._by_agent: dict[str, Session] = {}
        self._by_asset: dict[int, Session] = {}
        self._by_outbox: dict[str, Session] = {}
        self._backlogs = 0
        self._closed: dict[str, Session] = {}

    def __len__(self) -> int:
        """How many agents with assets are connected."""
        return len(self._by_agent) - self._backlogs

    def __iter__(self) -> Iterator[Session]:
        """The open sessions, oldest first."""
        return iter(tuple(self._by_agent.values()))

    @property
    def closed(self) -> Sequence[Session]:
        """The last session of each agent that is not connected, in the order in which they ended."""
        return tuple(self._closed.values())

    @property
    def assets_connected(self) -> int:
        """How many assets have a session."""
        return len(self._by_asset)

    def session_of(self, asset_key: int) -> Session | None:
        """The session that drives the asset."""
        return self._by_asset.get(asset_key)

    def is_open(self, session: Session) -> bool:
        """Whether the session still holds its claims."""
        return self._by_agent.get(session.agent_id) is session

    def claim(self, session: Session, *, asset_ids: Sequence[str]) -> Session | None:
        """Make `session` the one of its agent, its assets and its outbox, or change nothing.

        Args:
            session: the new session.
            asset_ids: of its assets, in the order of batch_keys; for the message of a refusal.

        Returns:
            The older session of the same agent, which this one supersedes: it holds no claims any more, and
            the caller ends it.

        Raises:
            ClaimRefusedError: the agent has a newer boot's session, or another holds an asset or the outbox.
        """
        older = self._by_agent.get(session.agent_id)
        if older is not None and older.epoch > session.epoch:
            raise ClaimRefusedError(
                StatusCode.FAILED_PRECONDITION,
                f"agent {session.agent_id} is connected with epoch {older.epoch}, newer than {session.epoch}",
            )
        if older is not None and session.backlog_only and not older.backlog_only:
            raise ClaimRefusedError(
                StatusCode.ALREADY_EXISTS, f"agent {session.agent_id} is connected, and sends its own backlog"
            )
        for key in session.asset_keys:
            holder = self._by_asset.get(key)
            if holder is not None and holder is not older:
                raise ClaimRefusedError(
                    StatusCode.ALREADY_EXISTS,
                    f"asset {asset_ids[session.batch_keys.index(key)]} is held by agent {holder.agent_id}",
                )
        holder = self._by_outbox.get(session.outbox_id)
        if holder is not None and holder is not older:
            raise ClaimRefusedError(
                StatusCode.ALREADY_EXISTS,
                f"outbox {session.outbox_id} is held by agent {holder.agent_id}",
            )
        self.version += 1
        if older is not None:
            self.release(older)
        self._closed.pop(session.agent_id, None)
        self._by_agent[session.agent_id] = session
        self._backlogs += session.backlog_only
        self._by_asset.update(dict.fromkeys(session.asset_keys, session))
        if session.outbox_id:
            self._by_outbox[session.outbox_id] = session
        return older

    def retire(self, asset_ids: Mapping[int, str]) -> None:
        """Release assets that have left the fleet; their sessions keep their other assets.

        Args:
            asset_ids: by key.
        """
        self.version += 1
        for session in {self._by_asset.pop(key) for key in asset_ids if key in self._by_asset}:
            retired = {key: asset_ids[key] for key in session.asset_keys if key in asset_ids}
            session.asset_keys = [key for key in session.asset_keys if key not in retired]
            session.batch_keys = [None if key in retired else key for key in session.batch_keys]
            session.unknown_ids |= frozenset(retired.values())

    def release(self, session: Session) -> bool:
        """Release the session's claims; False when a newer session holds them already."""
        if not self.is_open(session):
            return False
        self.version += 1
        del self._by_agent[session.agent_id]
        self._backlogs -= session.backlog_only
        for key in session.asset_keys:
            del self._by_asset[key]
        self._by_outbox.pop(session.outbox_id, None)
        return True

    def remember(self, session: Session, *, closed_ms: int, reason: str) -> None:
        """A session has ended, and nothing uses it any more; remember it as its agent's last."""
        session.closed_ms, session.closed_reason = closed_ms, reason
        if session.agent_id in self._by_agent or session.backlog_only:
            return
        # What was to be sent.
        session.downlink = DownlinkQueue()
        self._closed.pop(session.agent_id, None)
        self._closed[session.agent_id] = session
        if len(self._closed) > MAX_CLOSED:
            del self._closed[next(iter(self._closed))]

    def clock_stepped(self, by_ms: int) -> None:
        """The wall clock was set by this: the times of sessions are corrected."""
        self.version += 1
        for session in (*self._by_agent.values(), *self._closed.values()):
            session.connected_ms += by_ms
            session.received_ms += by_ms
            if session.closed_ms is not None:
                session.closed_ms += by_ms
