"""Sends setpoints to agents: through the session that drives the asset, or later, when there is one.

What agents acknowledge is handled in `ack_tracker`.
"""

import math
import random
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

import structlog

from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.registry import DispatchRegistry
from trioder.domain.dispatch import Setpoint
from trioder.domain.fleet import Fleet
from trioder.domain.lifecycle import PENDING
from trioder.events.counters import Counters
from trioder.gateway.sessions import Session, SessionRegistry
from trioder.process.rfc3339 import format_ms
from trioder.process.wall_time import WallClock

log = structlog.stdlib.get_logger(__name__)

# Most lost connections are open again by then.
ABSENT_AFTER_MS = 5_000
# After a start of the headend agents reconnect over 30 s, the longest back-off.
ABSENT_AFTER_START_MS = 35_000


class Absence(NamedTuple):
    """An asset had a session and has none; Unix time in ms."""

    since_ms: int
    awaited_until_ms: int


class Assignment(NamedTuple):
    """A setpoint that is marked as sent, and is to be queued for its session."""

    session: Session
    setpoint: AssetSetpoint
    message: Setpoint


class Delivery:
    """Sends each setpoint until it is acknowledged: agents recognize a repeated one by its id.

    Attributes:
        absences: of the assets that had a session and have none.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        sessions: SessionRegistry,
        registry: DispatchRegistry,
        counters: Counters,
        wall: WallClock,
        rng: random.Random,
    ) -> None:
        self.absences: dict[int, Absence] = {}
        self._fleet = fleet
        self._sessions = sessions
        self._registry = registry
        self._counters = counters
        self._wall = wall
        self._rng = rng
        # Reallocated while their assets were absent: to be cleared when these reconnect.
        self._released: dict[int, AssetSetpoint] = {}

    def new_id(self) -> str:
        """Return a new UUID."""
        return str(UUID(int=self._rng.getrandbits(128), version=4))

    def new_wire_id(self, dispatch: Dispatch) -> str:
        """Return a new id by which agents know setpoints of the dispatch."""
        wire_id = self.new_id()
        self._registry.history.add_wire_id(dispatch, wire_id)
        return wire_id

    def asset_id(self, key: int) -> str:
        """Return the asset's id."""
        return self._fleet.assets[key].id

    def send(self, setpoint: AssetSetpoint) -> None:
        """Queue a setpoint for its asset's session; without one it stays `queued`."""
        assignment = self.assign(setpoint)
        if assignment is not None:
            self.put(assignment)

    def assign(self, setpoint: AssetSetpoint) -> Assignment | None:
        """Mark a setpoint as sent to its asset's session; `put` it next. None if it cannot be sent."""
        session = self._sessions.session_of(setpoint.key)
        return None if session is None else self._assign(session, setpoint)

    def put(self, assignment: Assignment) -> None:
        """Queue an assigned setpoint, unless it has ended or was assigned to another session since."""
        session, setpoint, message = assignment
        is_current = setpoint.state == "sent" and setpoint.wire_id == message.dispatch_id
        if is_current and setpoint.session_id == session.session_id:
            session.downlink.put_setpoint(message)

    def release(self, setpoint: AssetSetpoint) -> None:
        """The setpoint has ended here early: clear it at its asset, now or on reconnection."""
        if self._registry.active.current(setpoint.key) is not setpoint:
            return
        session = self._sessions.session_of(setpoint.key)
        if session is None:
            self._released[setpoint.key] = setpoint
        else:
            self.clear(session, setpoint)

    def clear(self, session: Session, setpoint: AssetSetpoint) -> None:
        """Replace a setpoint that has ended here by its reversion at the asset."""
        session.downlink.put_setpoint(
            replace(
                self._message_of(setpoint),
                # It belongs to no dispatch: agents must not report it as an active one.
                dispatch_id="" if session.protocol else self.new_id(),
                mw=setpoint.reversion_mw,
                duration_s=None,
                valid_until_ms=None,
            )
        )
        self._registry.active.remove(setpoint.key, standing_mw=setpoint.reversion_mw)
        # A whole dispatch is cancelled with one line.
        report = log.debug if setpoint.state == "cancelled" else log.info
        report(
            "clearing a setpoint that has ended",
            dispatch_id=setpoint.dispatch.dispatch_id,
            asset_id=self.asset_id(setpoint.key),
            agent_id=session.agent_id,
            mw=setpoint.reversion_mw,
        )

    def set_standing(self, key: int, mw: float) -> None:
        """Command an asset without a setpoint of ours to another power, if it has a session."""
        self._registry.active.remove(key, standing_mw=mw)
        session = self._sessions.session_of(key)
        if session is not None:
            session.downlink.put_setpoint(
                Setpoint(
                    dispatch_id="" if session.protocol else self.new_id(), asset_id=self.asset_id(key), mw=mw
                )
            )

    def is_released(self, setpoint: AssetSetpoint) -> bool:
        """Whether a setpoint has ended here, and its asset, which is away, may still obey it."""
        return self._released.get(setpoint.key) is setpoint

    def clock_stepped(self, by_ms: int) -> None:
        """The wall clock was set by this."""
        self.absences = {
            key: Absence(since_ms + by_ms, awaited_until_ms + by_ms)
            for key, (since_ms, awaited_until_ms) in self.absences.items()
        }

    def dispatch_recovered(self, dispatch: Dispatch) -> None:
        """A dispatch from before the start was recovered: its agents are yet to reconnect."""
        now_ms = self._wall.now_ms()
        for key in dispatch.setpoints:
            if self._sessions.session_of(key) is None:
                self.absences.setdefault(key, Absence(now_ms, now_ms + ABSENT_AFTER_START_MS))

    def session_opened(self, session: Session) -> None:
        """Send the session's assets what is queued and still valid."""
        # What they obey may be more than a limit that their site got meanwhile.
        self._registry.claimed.update(session.asset_keys)
        for key in session.asset_keys:
            self.absences.pop(key, None)
            setpoint = self._registry.active.current(key)
            released = self._released.pop(key, None)
            if setpoint is None:
                # What it reports counts from now on.
                self._registry.active.remove(key)
            if setpoint is None:
                continue
            if setpoint.state in PENDING:
                self._send_queued(session, setpoint)
            elif setpoint is released:
                self.clear(session, setpoint)
            elif setpoint.holds_asset:
                # Whatever its agent has done meanwhile.
                setpoint.requeue(wire_id=setpoint.wire_id, queue_until_ms=setpoint.queue_until_ms)
                self._send_in(session, setpoint)
            elif not setpoint.is_open and setpoint.sent_ms is None:
                # Only the headend's model has obeyed it; from now on the agent's setpoint counts.
                self._registry.active.remove(key)

    def session_closed(self, session: Session) -> None:
        """Queue what the session has not acknowledged for the next one: it may not have arrived."""
        now_ms = self._wall.now_ms()
        for key in session.asset_keys:
            if self._sessions.session_of(key) is not None:
                continue
            self.absences[key] = Absence(now_ms, now_ms + ABSENT_AFTER_MS)
            setpoint = self._registry.active.current(key)
            if setpoint is not None and setpoint.state == "sent":
                self._registry.transition(setpoint, "queued", reason="its agent left before it answered")

    def _send_queued(self, session: Session, setpoint: AssetSetpoint) -> None:
        if setpoint.session_id == session.session_id:
            # Dispatched while the session was opening.
            return
        overdue = overdue_reason(setpoint, self._wall.now_ms())
        if overdue is not None:
            if self._registry.transition(setpoint, "expired", reason=overdue):
                self._registry.active.remove(setpoint.key)
            return
        if setpoint.state == "sent":
            # To a session that this one supersedes.
            self._registry.transition(setpoint, "queued", reason="its agent came anew before it answered")
        if not self._send_in(session, setpoint):
            return
        self._counters.dispatches_delivered_late += 1
        log.info(
            "queued dispatch sent",
            dispatch_id=setpoint.dispatch.dispatch_id,
            asset_id=self.asset_id(setpoint.key),
            agent_id=session.agent_id,
            mw=setpoint.mw,
        )

    def _send_in(self, session: Session, setpoint: AssetSetpoint) -> bool:
        assignment = self._assign(session, setpoint)
        if assignment is None:
            return False
        self.put(assignment)
        return True

    def _assign(self, session: Session, setpoint: AssetSetpoint) -> Assignment | None:
        if setpoint.reversion_mw and not session.supports_reversions:
            reason = f"its agent is too old to know reversion_mw, which is {setpoint.reversion_mw:g}"
            self._registry.transition(setpoint, "failed", reason=reason)
            return None
        setpoint.session_id = session.session_id
        self._registry.transition(setpoint, "sent")
        return Assignment(session, setpoint, self._message_of(setpoint))

    def _message_of(self, setpoint: AssetSetpoint) -> Setpoint:
        # The duration counts from the dispatch: its rest is sent, in whole seconds, as the wire has no
        # fractions. valid_until is exact for agents that know it.
        remaining_s = None
        if setpoint.ends_ms is not None:
            remaining_s = max(1, math.ceil((setpoint.ends_ms - self._wall.now_ms()) / 1000))
        dispatch = setpoint.dispatch
        return Setpoint(
            dispatch_id=setpoint.wire_id,
            asset_id=self.asset_id(setpoint.key),
            mw=setpoint.mw,
            duration_s=remaining_s,
            valid_until_ms=dispatch.valid_until_ms,
            reversion_mw=setpoint.reversion_mw,
            group_id=dispatch.dispatch_id if dispatch.is_group else "",
        )


def overdue_reason(setpoint: AssetSetpoint, now_ms: int) -> str | None:
    """Why a queued setpoint is no longer to be sent; None while it is."""
    dispatch = setpoint.dispatch
    if dispatch.is_stop:
        return None
    if setpoint.ends_ms is not None and now_ms >= setpoint.ends_ms:
        if dispatch.valid_until_ms is not None:
            return f"it was valid until {format_ms(dispatch.valid_until_ms)}, and its agent did not come"
        return f"its {dispatch.duration_s} s were over before its agent came"
    if now_ms >= setpoint.queue_until_ms:
        return f"its agent was away for {dispatch.expires_in_s:g} s"
    return None
