"""Changes the states of sent setpoints by what agents acknowledge or report as active, and by the clock.

What telemetry shows of them is in `tracking`.
"""

import math

import structlog

from trioder.control.active_setpoints import ACK_TIMEOUT_MS
from trioder.control.allocator import NameplateLimits
from trioder.control.build import adopted_setpoint
from trioder.control.delivery import Delivery, overdue_reason
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.priorities import end_deferred
from trioder.control.registry import DispatchRegistry
from trioder.control.tracking import Tracking
from trioder.domain.dispatch import MAX_DURATION_S
from trioder.domain.fleet import Fleet
from trioder.domain.lifecycle import IN_FORCE, LASTED, PENDING, TERMINAL, DispatchState, state_of_status
from trioder.events.counters import Counters
from trioder.gateway.sessions import Session, SessionRegistry
from trioder.process.rfc3339 import format_ms
from trioder.process.wall_time import WallClock
from trioder.wire.records import Acknowledgement

log = structlog.stdlib.get_logger(__name__)

# A reported end may be later than the one before by this, as the report was delayed.
_END_SLACK_MS = 5_000


class AckLog:
    """Logs acknowledgements; of each session only a limited number of lines in ten seconds."""

    def __init__(self, *, counters: Counters, wall: WallClock) -> None:
        self._counters = counters
        self._wall = wall

    def applied(self, ack: Acknowledgement, session: Session) -> None:
        """The acknowledgement changed its dispatch."""
        details = self._details("taken", ack, session)
        if details is not None:
            log.info(
                "dispatch answered",
                **details,
                status=ack.status,
                reason=ack.reason,
                agent_time=format_ms(ack.ts_unix_ms),
            )

    def ignored(self, ack: Acknowledgement, session: Session, why: str) -> None:
        """The acknowledgement changes nothing."""
        details = self._details("answer", ack, session)
        if details is not None:
            log.info("answer to a dispatch passed over", **details, status=ack.status, reason=why)

    def end_bounded(self, ack: Acknowledgement, session: Session, *, bound_s: float) -> None:
        """The agent reports a later end than was dispatched; `bound_s` from now is used."""
        self._counters.leases_bounded += 1
        details = self._details("end", ack, session)
        if details is not None:
            log.warning(
                "agent reports that a setpoint lasts longer than was dispatched",
                **details,
                remaining_s=ack.remaining_s,
                bounded_to_s=round(max(0.0, bound_s), 3),
            )

    def _details(self, kind: str, ack: Acknowledgement, session: Session) -> dict[str, object] | None:
        """The fields of every line; None when the line is suppressed."""
        suppressed = session.log_limit.suppressed_before(kind, self._wall.now_ms())
        if suppressed is None:
            self._counters.log_lines_suppressed += 1
            return None
        details: dict[str, object] = {
            "dispatch_id": ack.dispatch_id,
            "asset_id": ack.asset_id,
            "agent_id": session.agent_id,
        }
        return details | ({"suppressed_before": suppressed} if suppressed else {})


class AckTracker:
    """Follows setpoints from when they are sent until they end."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        limits: NameplateLimits,
        tracking: Tracking,
        sessions: SessionRegistry,
        registry: DispatchRegistry,
        delivery: Delivery,
        counters: Counters,
        wall: WallClock,
    ) -> None:
        self._fleet = fleet
        self._limits = limits
        self._tracking = tracking
        self._sessions = sessions
        self._registry = registry
        self._delivery = delivery
        self._counters = counters
        self._wall = wall
        self._log = AckLog(counters=counters, wall=wall)

    def acknowledged(self, ack: Acknowledgement, *, session: Session) -> None:
        """Apply an acknowledgement; one from another session, or for another setpoint, is only logged."""
        self._counters.dispatches_acknowledged += 1
        if not ack.dispatch_id:
            # Of a setpoint that cleared another one.
            return
        key = self._fleet.index_by_id.get(ack.asset_id)
        if key is None or self._sessions.session_of(key) is not session:
            self._log.ignored(ack, session, "the session does not drive the asset")
            return
        tenant = self._fleet.tenant_of(key)
        dispatch = self._registry.history.by_wire_id(ack.dispatch_id, tenant=tenant)
        is_report = ack.status.lower() == "active"
        if dispatch is None or (dispatch.adopted and key not in dispatch.setpoints):
            is_expected = ack.dispatch_id in self._registry.expected
            if is_report and ack.setpoint_mw is not None and not is_expected:
                self._adopt(ack, session, key, dispatch, tenant=tenant)
            else:
                self._log.ignored(ack, session, "there is no such dispatch, or no longer")
            return
        setpoint = dispatch.setpoints.get(key)
        if setpoint is not None and setpoint.state == "deferred":
            self._log.ignored(ack, session, "its asset is under a dispatch with a higher priority")
        elif setpoint is not None and setpoint.wire_id == ack.dispatch_id:
            self._apply(setpoint, ack, session, is_report=is_report)
        elif is_report and setpoint is not None and not setpoint.is_open:
            # An earlier setpoint of the dispatch is active: its successor was lost with a session.
            self._clear_ended(setpoint, ack, session)
        elif is_report and setpoint is None and self._registry.active.current_open(key) is None:
            # It was split anew without this asset, as its record was lost with the headend before.
            self._delivery.set_standing(key, 0.0)
        else:
            self._log.ignored(ack, session, "its asset has another part of the command by now")

    def _apply(
        self, setpoint: AssetSetpoint, ack: Acknowledgement, session: Session, *, is_report: bool
    ) -> None:
        """Apply an acknowledgement, or a report that the setpoint is active, to the setpoint it names."""
        state = state_of_status(ack.status)
        if state is None:
            self._note_unknown(setpoint, ack, session)
            return
        if state in IN_FORCE and not setpoint.is_open:
            self._clear_ended(setpoint, ack, session)
            return
        if state in TERMINAL and setpoint.holds_asset:
            self._hold_stop(setpoint, ack, session)
            return
        # An agent has accepted what it reports as active, whether or not that acknowledgement arrived.
        if is_report and setpoint.state not in PENDING:
            self._correct_end(setpoint, ack, session, was_answered=True)
            return
        before, was_answered = setpoint.state, setpoint.answered_ms is not None
        if not self._change(setpoint, state, ack.reason):
            if before != state:
                self._log.ignored(ack, session, f"the dispatch is {before}")
            return
        setpoint.note_answer(None if is_report else ack.status, now_ms=self._wall.now_ms())
        if state == "clamped":
            setpoint.held_mw = self._limits.clamped_mw(setpoint.key, setpoint.mw)
        if state in IN_FORCE:
            self._tracking.expect_arrival(setpoint)
            self._correct_end(setpoint, ack, session, was_answered=was_answered)
        if not setpoint.dispatch.is_group:
            self._log.applied(ack, session)

    def _change(self, setpoint: AssetSetpoint, state: DispatchState, reason: str | None) -> bool:
        is_first = setpoint.answered_ms is None
        if state == "completed":
            return self._registry.end(setpoint, reason)
        if setpoint.state in {"tracking", "deviating"} and is_first and state in IN_FORCE:
            # Telemetry showed it before the acknowledgement arrived.
            self._registry.mark_changed(setpoint.dispatch, keys=(setpoint.key,))
            return True
        if state == "rejected" and not is_first:
            return False
        return self._registry.transition(setpoint, state, reason=reason)

    def check_due(self) -> None:
        """Expire what could not be sent, fail what was not acknowledged, and end what is over."""
        now_ms = self._wall.now_ms()
        wire_ids: dict[Dispatch, str] = {}
        for setpoint in self._registry.active.pop_due(now_ms):
            if setpoint.state == "deferred":
                end_deferred(self._registry, setpoint)
            elif setpoint.dispatch.is_stop:
                self._repeat_stop(setpoint, wire_ids, now_ms)
            elif setpoint.state == "queued":
                self._registry.transition(setpoint, "expired", reason=overdue_reason(setpoint, now_ms))
            elif setpoint.state == "sent":
                self._registry.transition(setpoint, "failed", reason=_unacknowledged_reason(setpoint))
            else:
                self._registry.end(setpoint, "its time is over")

    def _hold_stop(self, setpoint: AssetSetpoint, ack: Acknowledgement, session: Session) -> None:
        """An agent has refused or ended a stop: it stays, and is sent again later."""
        now_ms = self._wall.now_ms()
        setpoint.requeue(wire_id=setpoint.wire_id, queue_until_ms=now_ms + ACK_TIMEOUT_MS)
        setpoint.answer = ack.status
        setpoint.reason = f"its agent answered {ack.status}: {ack.reason}; it is sent again"
        self._registry.active.schedule(setpoint)
        self._registry.mark_changed(
            setpoint.dispatch, keys=(setpoint.key,), state="queued", reason=setpoint.reason
        )
        self._log.applied(ack, session)

    def _repeat_stop(self, setpoint: AssetSetpoint, wire_ids: dict[Dispatch, str], now_ms: int) -> None:
        """Send a stop again that its agent has refused or not acknowledged."""
        if self._sessions.session_of(setpoint.key) is None:
            # It is sent with the next session.
            return
        dispatch = setpoint.dispatch
        if dispatch not in wire_ids:
            # An agent does not apply an id again that it has ended.
            wire_ids[dispatch] = self._delivery.new_wire_id(dispatch)
        setpoint.requeue(wire_id=wire_ids[dispatch], queue_until_ms=now_ms + ACK_TIMEOUT_MS)
        self._delivery.send(setpoint)

    def end_valid_until(self) -> None:
        """The clock was set: end what was valid until before now; its agent may not have done so."""
        now_ms = self._wall.now_ms()
        for dispatch in self._registry.history:
            if dispatch.valid_until_ms is None or dispatch.valid_until_ms > now_ms:
                continue
            for setpoint in dispatch.setpoints.values():
                if setpoint.state in IN_FORCE:
                    self._delivery.release(setpoint)
                    self._registry.end(setpoint, "its time is over by the corrected clock")

    def _note_unknown(self, setpoint: AssetSetpoint, ack: Acknowledgement, session: Session) -> None:
        """A status that is not in the protocol shows neither acceptance nor refusal."""
        self._counters.dispatches_acknowledged_unknown += 1
        if setpoint.state not in PENDING or setpoint.answer is not None:
            return
        setpoint.answer = ack.status
        self._registry.mark_changed(setpoint.dispatch, keys=(setpoint.key,))
        log.warning(
            "unknown status of a dispatch",
            dispatch_id=ack.dispatch_id,
            asset_id=ack.asset_id,
            agent_id=session.agent_id,
            status=ack.status,
            reason=ack.reason,
        )

    def _clear_ended(self, setpoint: AssetSetpoint, ack: Acknowledgement, session: Session) -> None:
        """An agent obeys a setpoint that has ended here: clear it, unless it lasted or has a successor."""
        lasted = setpoint.state == "completed" or (setpoint.state in LASTED and not setpoint.dropped_out)
        if lasted or self._registry.active.current_open(setpoint.key) is not None:
            self._log.ignored(ack, session, f"the dispatch is {setpoint.state}")
            return
        self._delivery.clear(session, setpoint)

    def _correct_end(
        self, setpoint: AssetSetpoint, ack: Acknowledgement, session: Session, *, was_answered: bool
    ) -> None:
        """Take over the end that the agent reports: it counts from when it received the setpoint."""
        if ack.remaining_s is None:
            return
        now_ms = self._wall.now_ms()
        ends_ms = now_ms + round(ack.remaining_s * 1000)
        latest_ms = _latest_end_ms(setpoint, now_ms, was_answered=was_answered)
        if latest_ms is not None and ends_ms > latest_ms:
            if ends_ms > latest_ms + _END_SLACK_MS:
                self._log.end_bounded(ack, session, bound_s=(latest_ms - now_ms) / 1000)
            ends_ms = latest_ms
        setpoint.ends_ms = ends_ms
        self._registry.active.schedule(setpoint)
        self._registry.mark_changed(setpoint.dispatch, keys=(setpoint.key,))

    def _adopt(
        self, ack: Acknowledgement, session: Session, key: int, dispatch: Dispatch | None, *, tenant: str
    ) -> None:
        """Add a dispatch that an agent reports as active, and of which there is no record.

        What agents of several tenants report under one id becomes a dispatch of each: a peer must not add to
        another tenant's, nor hide it.
        """
        current = self._registry.active.current(key)
        if current is not None and (current.state in PENDING or current.holds_asset):
            # It is about to supersede the reported one.
            return
        if key in session.adopted_keys:
            # An asset has one setpoint: further ones are invented, and must not fill the history.
            self._log.ignored(ack, session, "its asset was found under another dispatch already")
            return
        session.adopted_keys.add(key)
        now_ms = self._wall.now_ms()
        ends_ms = None
        if ack.remaining_s is not None:
            if ack.remaining_s > MAX_DURATION_S:
                self._log.end_bounded(ack, session, bound_s=MAX_DURATION_S)
            ends_ms = now_ms + round(min(ack.remaining_s, MAX_DURATION_S) * 1000)
        history = self._registry.history
        if dispatch is not None:
            history.reopen(dispatch)
        dispatch_id = self._delivery.new_id() if history.has_wire_id(ack.dispatch_id) else ack.dispatch_id
        setpoint = adopted_setpoint(
            dispatch, key, ack, dispatch_id=dispatch_id, tenant=tenant, now_ms=now_ms, ends_ms=ends_ms
        )
        if dispatch is None:
            history.add(setpoint.dispatch)
        self._registry.make_current(setpoint)


def _unacknowledged_reason(setpoint: AssetSetpoint) -> str:
    within = f"within {ACK_TIMEOUT_MS // 1000} s"
    if setpoint.answer is None:
        return f"its agent has not answered {within}"
    return (
        f"its agent answered {setpoint.answer!r}, which is no status of the contract, "
        f"and was not seen to obey {within}"
    )


def _latest_end_ms(setpoint: AssetSetpoint, now_ms: int, *, was_answered: bool) -> int | None:
    """When the setpoint ends at the latest, by what was dispatched; None when it holds."""
    if setpoint.ends_ms is None:
        return None
    if was_answered or setpoint.sent_ms is None:
        # Its agent has reported an end before, and ends do not move to later.
        return setpoint.ends_ms
    # The agent received it between then and now, with its remaining duration in whole seconds.
    return now_ms + math.ceil((setpoint.ends_ms - setpoint.sent_ms) / 1000) * 1000
