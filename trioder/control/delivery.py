"""A member's way to its agent: handed to the live session, or kept until there is one.

What the agent answers is read in `follower`.
"""

import math
import random
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

import structlog

from trioder.control.lifecycle import PENDING, TERMINAL
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.registry import DispatchRegistry
from trioder.domain.dispatch import Setpoint
from trioder.domain.fleet import Fleet
from trioder.events.counters import Counters
from trioder.gateway.sessions import Session, SessionRegistry
from trioder.process.rfc3339 import format_ms
from trioder.process.wall_time import WallClock

log = structlog.stdlib.get_logger(__name__)

# A connection that is lost is mostly back by then.
GONE_AFTER_MS = 5_000
# When the headend was away, agents come one by one: their retries are up to 30 s apart.
GONE_AFTER_START_MS = 35_000


class Absence(NamedTuple):
    """An asset has had an agent and has none; Unix time in ms."""

    since_ms: int
    awaited_until_ms: int


class Delivery:
    """Sends, and sends again until it is answered: agents know a dispatch that they have by its id.

    Attributes:
        absences: of the assets that have had a session and have none.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        sessions: SessionRegistry,
        lives: DispatchRegistry,
        counters: Counters,
        wall: WallClock,
        rng: random.Random,
    ) -> None:
        self.absences: dict[int, Absence] = {}
        self._fleet = fleet
        self._sessions = sessions
        self._lives = lives
        self._counters = counters
        self._wall = wall
        self._rng = rng
        # What has been given to others meanwhile: the asset is to let go of it when it is back.
        self._given_away: dict[int, AssetSetpoint] = {}

    def new_id(self) -> str:
        """A new UUID."""
        return str(UUID(int=self._rng.getrandbits(128), version=4))

    def asset_id(self, key: int) -> str:
        """What users and agents call the asset."""
        return self._fleet.assets[key].id

    def send(self, member: AssetSetpoint) -> None:
        """Hand a queued member to its asset's session; without one it goes on waiting."""
        session = self.assign(member)
        if session is not None:
            self.put(session, member)

    def assign(self, member: AssetSetpoint) -> Session | None:
        """Mark a queued member as sent, and return the session to `put` it into; None if there is none."""
        session = self._sessions.session_of(member.key)
        return session if session is not None and self._assign(session, member) else None

    def put(self, session: Session, member: AssetSetpoint) -> None:
        """Queue an assigned member for its session, unless it has ended or was reassigned meanwhile."""
        if member.state == "sent" and member.session_id == session.session_id:
            session.mailbox.put_dispatch(self._dispatch_of(member))

    def release(self, member: AssetSetpoint) -> None:
        """The member's share goes to others: its asset is to end it, at once or when it is back."""
        if self._lives.book.current(member.key) is not member:
            return
        session = self._sessions.session_of(member.key)
        if session is None:
            self._given_away[member.key] = member
        else:
            self.end(session, member)

    def clock_stepped(self, by_ms: int) -> None:
        """The wall clock was set by so much."""
        self.absences = {
            key: Absence(since_ms + by_ms, awaited_until_ms + by_ms)
            for key, (since_ms, awaited_until_ms) in self.absences.items()
        }

    def restored(self, command: Dispatch) -> None:
        """A command from before the headend's start: its agents have not come back yet."""
        now_ms = self._wall.now_ms()
        for key in command.members:
            if self._sessions.session_of(key) is None:
                self.absences.setdefault(key, Absence(now_ms, now_ms + GONE_AFTER_START_MS))

    def session_opened(self, session: Session) -> None:
        """An agent is there: hand it what waits for it and is still of use."""
        for key in session.asset_keys:
            self.absences.pop(key, None)
            member = self._lives.book.current(key)
            given_away = self._given_away.pop(key, None)
            if member is None:
                continue
            if member.state in PENDING:
                self._send_late(session, member)
            elif member is given_away:
                self.end(session, member)
            elif member.state in TERMINAL and member.sent_ms is None:
                # Only the headend's model has obeyed it; from now on the agent's setpoint is the asset's.
                self._lives.book.forget(key)

    def session_closed(self, session: Session) -> None:
        """An agent is gone: what it has not answered may not have reached it, and waits for its return."""
        now_ms = self._wall.now_ms()
        for key in session.asset_keys:
            if self._sessions.session_of(key) is not None:
                continue
            self.absences[key] = Absence(now_ms, now_ms + GONE_AFTER_MS)
            member = self._lives.book.current(key)
            if member is not None and member.state == "sent":
                self._lives.change(member, "queued", reason="its agent left before it answered")

    def _send_late(self, session: Session, member: AssetSetpoint) -> None:
        if member.session_id == session.session_id:
            # Commanded while the session was opening.
            return
        overdue = overdue_reason(member, self._wall.now_ms())
        if overdue is not None:
            if self._lives.change(member, "expired", reason=overdue):
                self._lives.book.forget(member.key)
            return
        if member.state == "sent":
            # To a session that this one supersedes.
            self._lives.change(member, "queued", reason="its agent came anew before it answered")
        if not self._assign(session, member):
            return
        self.put(session, member)
        self._counters.dispatches_delivered_late += 1
        log.info(
            "queued dispatch sent",
            dispatch_id=member.command.dispatch_id,
            asset_id=self.asset_id(member.key),
            agent_id=session.agent_id,
            mw=member.mw,
        )

    def _assign(self, session: Session, member: AssetSetpoint) -> bool:
        """Mark a member as sent to this session; False when its agent could not obey it, and it failed."""
        if member.reversion_mw and not session.knows_reversions:
            reason = f"its agent is too old to know reversion_mw, which is {member.reversion_mw:g}"
            self._lives.change(member, "failed", reason=reason)
            return False
        member.session_id = session.session_id
        self._lives.change(member, "sent")
        return True

    def _dispatch_of(self, member: AssetSetpoint) -> Setpoint:
        # The duration counts from when the command was given: what is left of it goes out. To the second,
        # for the wire has no less; valid_until tells those that know it exactly.
        remaining_s = None
        if member.ends_ms is not None:
            remaining_s = max(1, math.ceil((member.ends_ms - self._wall.now_ms()) / 1000))
        command = member.command
        return Setpoint(
            dispatch_id=member.wire_id,
            asset_id=self.asset_id(member.key),
            mw=member.mw,
            duration_s=remaining_s,
            valid_until_ms=command.valid_until_ms,
            reversion_mw=member.reversion_mw,
            group_id=command.dispatch_id if command.is_group else "",
        )

    def end(self, session: Session, member: AssetSetpoint) -> None:
        """Let an asset leave the setpoint of a member that has ended here, for what was to follow it."""
        session.mailbox.put_dispatch(
            replace(
                self._dispatch_of(member),
                # It is nobody's dispatch: an agent that tells what it has in force is not to tell of this.
                dispatch_id="" if session.protocol else self.new_id(),
                mw=member.reversion_mw,
                duration_s=None,
                valid_until_ms=None,
            )
        )
        self._lives.book.forget(member.key)
        log.info(
            "an asset is told to end what is no longer its own",
            dispatch_id=member.command.dispatch_id,
            asset_id=self.asset_id(member.key),
            agent_id=session.agent_id,
            mw=member.reversion_mw,
        )


def overdue_reason(member: AssetSetpoint, now_ms: int) -> str | None:
    """Why a member that waits is of no use any more; None while it is."""
    command = member.command
    if member.ends_ms is not None and now_ms >= member.ends_ms:
        if command.valid_until_ms is not None:
            return f"it was valid until {format_ms(command.valid_until_ms)}, and its agent did not come"
        return f"its {command.duration_s} s were over before its agent came"
    if now_ms >= member.queue_until_ms:
        return f"its agent was away for {command.expires_in_s:g} s"
    return None
