"""Changes the states of sent setpoints: by acknowledgements, by telemetry, and by the clock."""

import math

import structlog

from trioder.control.allocator import NameplateLimits
from trioder.control.build import MAX_DURATION_S
from trioder.control.delivery import AckLog, Delivery, overdue_reason
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.registry import ACK_TIMEOUT_MS, TRACKED_STATES, DispatchRegistry
from trioder.control.tracking import NO_SAMPLE, Finding, PowerTracker, tolerance_mw
from trioder.domain.access import ALL_TENANTS
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.fleet import Fleet
from trioder.domain.lifecycle import IN_FORCE, LASTED, PENDING, DispatchState, state_of_status
from trioder.domain.telemetry import Samples
from trioder.events.counters import Counters
from trioder.gateway.sessions import Session, SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.wall_time import WallClock
from trioder.wire.records import Acknowledgement

log = structlog.stdlib.get_logger(__name__)

# A sample this long after a setpoint was sent is not from before; a former setpoint may have been the same.
_IN_TRANSIT_MS = 5_000
# A reported end may be later than the one before by this, as the report was delayed.
_END_SLACK_MS = 5_000


class AckTracker:
    """Follows setpoints from when they are sent until they end."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        limits: NameplateLimits,
        latest: LatestState,
        sessions: SessionRegistry,
        registry: DispatchRegistry,
        delivery: Delivery,
        counters: Counters,
        wall: WallClock,
    ) -> None:
        self._fleet = fleet
        self._limits = limits
        self._latest = latest
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
        dispatch = self._registry.history.by_wire_id(ack.dispatch_id)
        is_report = ack.status.lower() == "active"
        if dispatch is None or (dispatch.adopted and key not in dispatch.setpoints):
            if is_report and ack.setpoint_mw is not None:
                self._adopt(ack, session, key, dispatch)
            else:
                self._log.ignored(ack, session, "there is no such dispatch, or no longer")
            return
        setpoint = dispatch.setpoints.get(key)
        if setpoint is not None and setpoint.wire_id == ack.dispatch_id:
            self._apply(setpoint, ack, session, is_report=is_report)
        elif is_report and setpoint is not None and not setpoint.is_open:
            # An earlier setpoint of the dispatch is active: its successor was lost with a session.
            self._clear_ended(setpoint, ack, session)
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
            self._expect_arrival(setpoint)
            self._correct_end(setpoint, ack, session, was_answered=was_answered)
        if not setpoint.dispatch.is_group:
            self._log.applied(ack, session)

    def _change(self, setpoint: AssetSetpoint, state: DispatchState, reason: str | None) -> bool:
        is_first = setpoint.answered_ms is None
        if state == "completed":
            return self._end(setpoint, reason)
        if setpoint.state in {"tracking", "deviating"} and is_first and state in IN_FORCE:
            # Telemetry showed it before the acknowledgement arrived.
            self._registry.mark_changed(setpoint.dispatch, keys=(setpoint.key,))
            return True
        if state == "rejected" and not is_first:
            return False
        return self._registry.transition(setpoint, state, reason=reason)

    def measured(self, samples: Samples) -> None:
        """Compare the power of assets with their setpoints; backfill is ignored."""
        tracked = self._registry.tracked
        if not tracked:
            return
        now_ms, ts_unix_ms = self._wall.now_ms(), samples.ts_unix_ms
        quality, powers = samples.quality, samples.current_mw
        is_live: bool | None = None
        for row, key in enumerate(samples.asset_keys):
            setpoint = tracked.get(key)
            if setpoint is None:
                continue
            tracker = setpoint.tracker or self._new_tracker(setpoint, now_ms)
            if tracker is None:
                continue
            if quality and quality[row]:
                tracker.add_suspect(now_ms)
                continue
            if is_live is None:
                # One agent's, of one instant: either all of it is backfill or none.
                is_live = self._latest.is_current(key, ts_unix_ms, now_ms)
            if not is_live:
                break
            if tracker.is_on_target and tracker.low_mw <= (mw := powers[row]) <= tracker.high_mw:
                tracker.add_on_target(mw, now_ms)
            elif self._latest.is_current(key, ts_unix_ms, now_ms):
                self._compare(setpoint, tracker, samples, row, now_ms)

    def _compare(
        self, setpoint: AssetSetpoint, tracker: PowerTracker, samples: Samples, row: int, now_ms: int
    ) -> None:
        has_ended = setpoint.ends_ms is not None and now_ms >= setpoint.ends_ms
        if has_ended or setpoint.state not in TRACKED_STATES:
            # What follows is its reversion.
            return
        tracker.suspect_since_ms = None
        mw, echoes = samples.current_mw[row], samples.setpoint_mw[row] == tracker.setpoint_mw
        if setpoint.state == "sent" and not echoes:
            return
        if tracker.arrives_ms is None and setpoint.state != "sent":
            tracker.expect_arrival(self._limits.asset(setpoint.key), now_ms, mw)
        charges = tracker.target_mw < 0.0
        available = samples.available_charge_mw if charges else samples.available_discharge_mw
        was_limited = setpoint.is_limited
        finding = tracker.add(mw, available_mw=available[row], now_ms=now_ms, echoes=echoes)
        match finding:
            case Finding.ON_TARGET if setpoint.state != "tracking":
                reason = None if setpoint.state == "deviating" else setpoint.reason
                self._registry.transition(setpoint, "tracking", reason=reason)
            case Finding.OFF_TARGET if setpoint.state not in {"sent", "deviating"}:
                reason = f"{mw:g} MW instead of {tracker.target_mw:g} MW"
                self._registry.transition(setpoint, "deviating", reason=reason)
            case Finding.LIMITED if not was_limited:
                self._note_limited(setpoint, tracker)

    def _note_limited(self, setpoint: AssetSetpoint, tracker: PowerTracker) -> None:
        self._counters.dispatches_limited += 1
        limit = f"{tracker.limited_mw:g} of {tracker.target_mw:g} MW"
        setpoint.reason = f"the battery reports that it can do {limit}"
        self._registry.mark_changed(setpoint.dispatch, keys=(setpoint.key,))
        log.info(
            "battery cannot do what it was asked",
            dispatch_id=setpoint.dispatch.dispatch_id,
            asset_id=self._fleet.assets[setpoint.key].id,
            reason=setpoint.reason,
        )

    def _new_tracker(self, setpoint: AssetSetpoint, now_ms: int) -> PowerTracker | None:
        """Compare a setpoint from now on; None while it may not have arrived."""
        if setpoint.state not in IN_FORCE and not (
            setpoint.state == "sent" and self._may_be_obeyed(setpoint, now_ms)
        ):
            return None
        setpoint.tracker = PowerTracker(
            setpoint_mw=setpoint.mw,
            target_mw=setpoint.target_mw,
            tolerance_mw=tolerance_mw(self._limits.asset(setpoint.key)),
        )
        return setpoint.tracker

    def _may_be_obeyed(self, setpoint: AssetSetpoint, now_ms: int) -> bool:
        """Whether telemetry decides about a setpoint without acknowledgement: not every agent sends them."""
        session = self._sessions.session_of(setpoint.key)
        sends_none = session is not None and session.protocol == 0
        is_late = now_ms >= (setpoint.sent_ms or 0) + _IN_TRANSIT_MS
        return (sends_none or setpoint.answer is not None) and is_late

    def _expect_arrival(self, setpoint: AssetSetpoint) -> None:
        """The agent accepted it: the power is expected after the ramp from the latest power."""
        now_ms = self._wall.now_ms()
        tracker = setpoint.tracker or self._new_tracker(setpoint, now_ms)
        if tracker is None:
            return
        tracker.set_target(setpoint.target_mw)
        if tracker.arrives_ms is not None:
            return
        asset = self._limits.asset(setpoint.key)
        reported = self._latest.reported(setpoint.key, now_ms)
        if reported is None:
            tracker.expect_arrival(asset, now_ms, None)
            return
        moves = abs(reported.setpoint_mw - reported.current_mw) > tracker.tolerance_mw
        moving_for_s = min(reported.age_s, self._latest.stale_after_s) if moves else 0.0
        tracker.expect_arrival(asset, now_ms, reported.current_mw, moving_for_s=moving_for_s)

    def check_due(self) -> None:
        """Expire what could not be sent, fail what was not acknowledged, and end what is over."""
        now_ms = self._wall.now_ms()
        for setpoint in self._registry.active.pop_due(now_ms):
            if setpoint.state == "queued":
                self._registry.transition(setpoint, "expired", reason=overdue_reason(setpoint, now_ms))
            elif setpoint.state == "sent":
                self._registry.transition(setpoint, "failed", reason=_unacknowledged_reason(setpoint))
            else:
                self._end(setpoint, "its time is over")

    def end_valid_until(self) -> None:
        """The clock was set: end what was valid until before now; its agent may not have done so."""
        now_ms = self._wall.now_ms()
        for dispatch in self._registry.history:
            if dispatch.valid_until_ms is None or dispatch.valid_until_ms > now_ms:
                continue
            for setpoint in dispatch.setpoints.values():
                if setpoint.state in IN_FORCE:
                    self._delivery.release(setpoint)
                    self._end(setpoint, "its time is over by the corrected clock")

    def _end(self, setpoint: AssetSetpoint, reason: str | None) -> bool:
        """End it: `completed` if it was tracking once, else `not_tracked`; False when it cannot end so."""
        prefix = "" if reason is None else f"{reason}; "
        if setpoint.tracking_ms is None:
            tracker = setpoint.tracker
            why = NO_SAMPLE if tracker is None else tracker.untracked_reason(setpoint.ends_ms)
            return self._registry.transition(setpoint, "not_tracked", reason=prefix + why)
        if setpoint.state == "deviating":
            reason = f"{prefix}deviating at the end: {setpoint.reason}"
        return self._registry.transition(setpoint, "completed", reason=reason)

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

    def _adopt(self, ack: Acknowledgement, session: Session, key: int, dispatch: Dispatch | None) -> None:
        """Add a dispatch that an agent reports as active, and of which there is no record."""
        current = self._registry.active.current(key)
        if current is not None and current.state in PENDING:
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
        mw = ack.setpoint_mw or 0.0
        tenant = self._fleet.tenant_of(key)
        is_new = dispatch is None
        if dispatch is None:
            dispatch = Dispatch(
                dispatch_id=ack.dispatch_id,
                target=DispatchTarget(kind="asset", id=ack.asset_id),
                mw=mw,
                expires_in_s=0.0,
                dispatched_ms=now_ms,
                queue_until_ms=now_ms,
                ends_ms=ends_ms,
                tenant=tenant,
                adopted=True,
            )
        else:
            dispatch.tenant = tenant if dispatch.tenant == tenant else ALL_TENANTS
            self._registry.history.reopen(dispatch)
            dispatch.target = DispatchTarget(kind="assets")
            dispatch.mw += mw
        setpoint = AssetSetpoint(
            dispatch=dispatch,
            key=key,
            mw=mw,
            reversion_mw=ack.reversion_mw or 0.0,
            wire_id=ack.dispatch_id,
            queue_until_ms=now_ms,
            ends_ms=ends_ms,
            state="accepted",
            reason="in force since before the headend's start",
            sent_ms=now_ms,
            answered_ms=now_ms,
        )
        dispatch.add(setpoint)
        if is_new:
            self._registry.history.add(dispatch)
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
