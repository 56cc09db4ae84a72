"""Which agent drives which asset: claims, refusals and supersession, decided between two checkpoints.

How a session talks to its agent is in `session`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from trioder.gateway.downlink_queue import DownlinkQueue
from trioder.gateway.log_limit import LogLimit
from trioder.rpc import StatusCode


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnd:
    """Why the headend ends a session, as the agent is told."""

    status: StatusCode
    reason: str


@dataclass(slots=True, eq=False, kw_only=True)
class Session:
    """One agent's live stream; two sessions are never the same, whatever they say.

    Attributes:
        epoch: the agent's boot; 0 when it tells none.
        protocol: what both ends speak.
        outbox_id: empty when the agent sends no batches.
        asset_keys: of the assets that it drives.
        batch_keys: by the position that batches name assets with; None is an asset that is not in the fleet.
        backlog_only: it drives nothing, and only hands over what a former agent has left.
        unknown_ids: the registered assets that are not in the fleet.
        peer: where it comes from, host:port.
        clock_skew_s: how far the agent's clock is ahead of the headend's; None while that is not known.
        clock_error_s: by how much that may be wrong; None while that is not known.
        adopted_keys: the assets that it found under a dispatch of which there is no record.
        log_limit: of the lines that its messages cause.
        scope: what runs the session runs in here.
        end: why the headend ended it, once it has.
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
    clock_skew_s: float | None = None
    clock_error_s: float | None = None
    downlink: DownlinkQueue = field(default_factory=DownlinkQueue)
    adopted_keys: set[int] = field(default_factory=set)
    log_limit: LogLimit = field(default_factory=LogLimit)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    end: SessionEnd | None = None

    @property
    def measured_skew_s(self) -> float | None:
        """The skew as the agent's own clock showed it; one that samples suggest may be a backlog's age."""
        return None if self.clock_error_s is None else self.clock_skew_s

    @property
    def knows_reversions(self) -> bool:
        """Whether its agent ends a setpoint in anything but 0 MW."""
        return self.protocol >= 1

    def end_with(self, status: StatusCode, reason: str) -> None:
        """End the session; the first reason stands."""
        if self.end is None:
            self.end = SessionEnd(status=status, reason=reason)
            self.scope.cancel()


class ClaimRefusedError(Exception):
    """A registration that must not become a session: the status to answer with, and why."""

    def __init__(self, status: StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class SessionRegistry:
    """The live sessions: at most one an agent, one an asset and one an outbox."""

    def __init__(self) -> None:
        self._by_agent: dict[str, Session] = {}
        self._by_asset: dict[int, Session] = {}
        self._by_outbox: dict[str, Session] = {}
        self._backlogs = 0

    def __len__(self) -> int:
        """How many agents with assets are connected."""
        return len(self._by_agent) - self._backlogs

    def __iter__(self) -> Iterator[Session]:
        """The live sessions, oldest first."""
        return iter(tuple(self._by_agent.values()))

    @property
    def assets_connected(self) -> int:
        """How many assets have a live session."""
        return len(self._by_asset)

    def session_of(self, asset_key: int) -> Session | None:
        """The session that drives the asset."""
        return self._by_asset.get(asset_key)

    def is_live(self, session: Session) -> bool:
        """Whether the session still holds its claims."""
        return self._by_agent.get(session.agent_id) is session

    def claim(self, session: Session, *, asset_ids: Sequence[str]) -> Session | None:
        """Make `session` the live one of its agent and its assets, or change nothing.

        Args:
            session: the one to be.
            asset_ids: what its assets are called in a refusal, in the order of its batch_keys.

        Returns:
            The older session of the same agent, which this one supersedes; it is no longer live. Ending it is
            the caller's.

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
        if older is not None:
            self.release(older)
        self._by_agent[session.agent_id] = session
        self._backlogs += session.backlog_only
        self._by_asset.update(dict.fromkeys(session.asset_keys, session))
        if session.outbox_id:
            self._by_outbox[session.outbox_id] = session
        return older

    def retire(self, asset_ids: Mapping[int, str]) -> None:
        """These assets have left the fleet: their sessions stand for their other assets only.

        Args:
            asset_ids: by key.
        """
        for session in {self._by_asset.pop(key) for key in asset_ids if key in self._by_asset}:
            gone = {key: asset_ids[key] for key in session.asset_keys if key in asset_ids}
            session.asset_keys = [key for key in session.asset_keys if key not in gone]
            session.batch_keys = [None if key in gone else key for key in session.batch_keys]
            session.unknown_ids |= frozenset(gone.values())

    def release(self, session: Session) -> bool:
        """Give the session's claims up; False when it had none left, because a newer one has them."""
        if not self.is_live(session):
            return False
        del self._by_agent[session.agent_id]
        self._backlogs -= session.backlog_only
        for key in session.asset_keys:
            del self._by_asset[key]
        self._by_outbox.pop(session.outbox_id, None)
        return True
