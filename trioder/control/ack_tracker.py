"""What becomes of members that were sent: told by agents, seen in their telemetry, or due by the clock."""

import math

import structlog

from trioder.control.ack_log import AnswerLog
from trioder.control.active_setpoints import ANSWERED_WITHIN_MS
from trioder.control.delivery import Delivery, overdue_reason
from trioder.control.lifecycle import IN_FORCE, LASTED, PENDING, TERMINAL, DispatchState, state_of_answer
from trioder.control.limits import NameplateLimits
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.registry import WATCHED, DispatchRegistry
from trioder.control.requests import MAX_DURATION_S
from trioder.control.tracking import Finding, Watch, tolerance_mw
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.fleet import Fleet
from trioder.domain.telemetry import Samples
from trioder.events.counters import Counters
from trioder.gateway.sessions import Session, SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.wall_time import WallClock
from trioder.wire.records import Acknowledgement

log = structlog.stdlib.get_logger(__name__)

# A sample so long after an order was sent is not from before it; a former setpoint may have been the same.
_UNDER_WAY_MS = 5_000
# So much later may a report be than the one before: it waited on its way.
_END_SLACK_MS = 5_000


class AckTracker:
    """Moves members on by what is heard and seen of them."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        limits: NameplateLimits,
        latest: LatestState,
        sessions: SessionRegistry,
        lives: DispatchRegistry,
        delivery: Delivery,
        counters: Counters,
        wall: WallClock,
    ) -> None:
        self._fleet = fleet
        self._limits = limits
        self._latest = latest
        self._sessions = sessions
        self._lives = lives
        self._delivery = delivery
        self._counters = counters
        self._wall = wall
        self._answers = AnswerLog(counters=counters, wall=wall)

    def acknowledged(self, answer: Acknowledgement, *, session: Session) -> None:
        """Note an agent's answer; one that is not its to give, or comes too late, is only logged."""
        self._counters.dispatches_acknowledged += 1
        if not answer.dispatch_id:
            # Of a setpoint that ends a share and is no dispatch.
            return
        key = self._fleet.index_by_id.get(answer.asset_id)
        if key is None or self._sessions.session_of(key) is not session:
            self._answers.pass_over(answer, session, "the session does not drive the asset")
            return
        command = self._lives.log.by_wire_id(answer.dispatch_id)
        active = answer.status.lower() == "active"
        if command is None or (command.adopted and key not in command.members):
            if active and answer.setpoint_mw is not None:
                self._adopt(answer, session, key, command)
            else:
                self._answers.pass_over(answer, session, "there is no such dispatch, or no longer")
            return
        member = command.members.get(key)
        if (
            active
            and member is not None
            and member.wire_id != answer.dispatch_id
            and member.state in TERMINAL
        ):
            # An earlier share is in force: the one that should have replaced it was lost with a session.
            self._end_what_is_over(member, answer, session)
            return
        if member is None or member.wire_id != answer.dispatch_id:
            self._answers.pass_over(answer, session, "its asset has another part of the command by now")
            return
        self._take(member, answer, session, active=active)

    def _take(
        self, member: AssetSetpoint, answer: Acknowledgement, session: Session, *, active: bool
    ) -> None:
        now_ms = self._wall.now_ms()
        state = state_of_answer(answer.status)
        if state is None:
            self._unknown(member, answer, session)
            return
        if state in IN_FORCE and member.state in TERMINAL:
            self._end_what_is_over(member, answer, session)
            return
        # What the agent has in force it has taken, whether or not its answer came through.
        if active and member.state not in PENDING:
            self._correct_end(member, answer, session, now_ms, was_answered=True)
            return
        before, was_answered = member.state, member.answered_ms is not None
        if not self._answered(member, state, answer.reason):
            if before != state:
                self._answers.pass_over(answer, session, f"the dispatch is {before}")
            return
        self._note_answer(member, answer, session, state, now_ms, was_answered=was_answered)
        if not member.command.is_group:
            self._answers.taken(answer, session)

    def _note_answer(
        self,
        member: AssetSetpoint,
        answer: Acknowledgement,
        session: Session,
        state: DispatchState,
        now_ms: int,
        *,
        was_answered: bool,
    ) -> None:
        if answer.status.lower() != "active":
            member.answer = answer.status
        if member.answered_ms is None:
            member.answered_ms = now_ms
        if state == "clamped":
            member.held_mw = self._limits.clamped_mw(member.key, member.mw)
        if state in IN_FORCE:
            self._expect(member, now_ms)
            self._correct_end(member, answer, session, now_ms, was_answered=was_answered)

    def _answered(self, member: AssetSetpoint, state: DispatchState, reason: str | None) -> bool:
        if state == "completed":
            return self._over(member, reason)
        if member.state in {"tracking", "deviating"} and member.answered_ms is None and state in IN_FORCE:
            # It was seen to obey before it said so.
            self._lives.note(member.command, keys=(member.key,))
            return True
        if state == "rejected" and member.answered_ms is not None:
            return False
        return self._lives.change(member, state, reason=reason)

    def measured(self, samples: Samples) -> None:
        """Compare the power of assets under a setpoint with what was asked; backfill says nothing of it."""
        watched = self._lives.watched
        if not watched:
            return
        now_ms, ts_unix_ms = self._wall.now_ms(), samples.ts_unix_ms
        quality, powers = samples.quality, samples.current_mw
        is_live: bool | None = None
        for row, key in enumerate(samples.asset_keys):
            member = watched.get(key)
            if member is None or (watch := member.watch or self._begin_watch(member, now_ms)) is None:
                continue
            if quality and quality[row]:
                if watch.suspect_since_ms is None:
                    watch.suspect_since_ms = now_ms
                continue
            if is_live is None:
                # One agent's, of one instant: either all of it is backfill or none.
                is_live = self._latest.is_current(key, ts_unix_ms, now_ms)
            if not is_live:
                break
            if watch.is_on_target and watch.low_mw <= (mw := powers[row]) <= watch.high_mw:
                watch.add_steady(mw, now_ms)
            elif self._latest.is_current(key, ts_unix_ms, now_ms):
                self._compare(member, watch, samples, row, now_ms)

    def _compare(self, member: AssetSetpoint, watch: Watch, samples: Samples, row: int, now_ms: int) -> None:
        if member.state not in WATCHED or (member.ends_ms is not None and now_ms >= member.ends_ms):
            # What follows is its reversion.
            return
        watch.suspect_since_ms = None
        mw, echoes = samples.current_mw[row], samples.setpoint_mw[row] == watch.setpoint_mw
        if member.state == "sent" and not echoes:
            return
        if watch.arrives_ms is None and member.state != "sent":
            watch.begin(self._limits.asset(member.key), now_ms, mw)
        charges = watch.target_mw < 0.0
        available = samples.available_charge_mw if charges else samples.available_discharge_mw
        was_limited = watch.limited_mw is not None
        finding = watch.add(mw, available_mw=available[row], now_ms=now_ms, echoes=echoes)
        match finding:
            case Finding.ON_TARGET if member.state != "tracking":
                self._lives.change(
                    member, "tracking", reason=None if member.state == "deviating" else member.reason
                )
            case Finding.OFF_TARGET if member.state not in {"sent", "deviating"}:
                self._lives.change(member, "deviating", reason=f"{mw:g} MW instead of {watch.target_mw:g} MW")
            case Finding.LIMITED if not was_limited:
                self._limited(member, watch)

    def _limited(self, member: AssetSetpoint, watch: Watch) -> None:
        self._counters.dispatches_limited += 1
        member.reason = f"the battery reports that it can do {watch.limited_mw:g} of {watch.target_mw:g} MW"
        self._lives.note(member.command, keys=(member.key,))
        log.info(
            "battery cannot do what it was asked",
            dispatch_id=member.command.dispatch_id,
            asset_id=self._fleet.assets[member.key].id,
            reason=member.reason,
        )

    def _expect(self, member: AssetSetpoint, now_ms: int) -> None:
        """The agent has taken its setpoint: its power is expected after the ramp from where it is now."""
        watch = member.watch or self._begin_watch(member, now_ms)
        if watch is None:
            return
        watch.aim(member.target_mw)
        if watch.arrives_ms is not None:
            return
        reported = self._latest.reported(member.key, now_ms)
        if reported is None:
            watch.begin(self._limits.asset(member.key), now_ms, None)
            return
        moves = abs(reported.setpoint_mw - reported.current_mw) > watch.tolerance_mw
        watch.begin(
            self._limits.asset(member.key),
            now_ms,
            reported.current_mw,
            moving_for_s=min(reported.age_s, self._latest.stale_after_s) if moves else 0.0,
        )

    def tend(self) -> None:
        """Do what is due by the clock."""
        now_ms = self._wall.now_ms()
        for member in self._lives.book.pop_due(now_ms):
            if member.state == "queued":
                self._lives.change(member, "expired", reason=overdue_reason(member, now_ms))
            elif member.state == "sent":
                self._lives.change(member, "failed", reason=_unanswered_reason(member))
            else:
                self._over(member, "its time is over")

    def _over(self, member: AssetSetpoint, reason: str | None) -> bool:
        """Its time is over: completed if it was seen to track, else not; False when it cannot end so."""
        why = "" if reason is None else f"{reason}; "
        if member.tracking_ms is None:
            return self._lives.change(member, "not_tracked", reason=f"{why}{_untracked_reason(member)}")
        if member.state == "deviating":
            reason = f"{why}deviating at the end: {member.reason}"
        return self._lives.change(member, "completed", reason=reason)

    def _begin_watch(self, member: AssetSetpoint, now_ms: int) -> Watch | None:
        """Compare a member's power from now on; None while it may not have arrived."""
        if member.state not in IN_FORCE and not (member.state == "sent" and self._may_obey(member, now_ms)):
            return None
        member.watch = Watch(
            setpoint_mw=member.mw,
            target_mw=member.target_mw,
            tolerance_mw=tolerance_mw(self._limits.asset(member.key)),
        )
        return member.watch

    def _may_obey(self, member: AssetSetpoint, now_ms: int) -> bool:
        """Whether a member without an answer may be judged by what it does: not every agent answers."""
        session = self._sessions.session_of(member.key)
        is_silent = session is not None and session.protocol == 0
        return (is_silent or member.answer is not None) and now_ms >= (member.sent_ms or 0) + _UNDER_WAY_MS

    def _unknown(self, member: AssetSetpoint, answer: Acknowledgement, session: Session) -> None:
        """A status that is not in the contract says nothing: neither that it is obeyed nor that it is not."""
        self._counters.dispatches_acknowledged_unknown += 1
        if member.state not in PENDING or member.answer is not None:
            return
        member.answer = answer.status
        self._lives.note(member.command, keys=(member.key,))
        log.warning(
            "unknown status of a dispatch",
            dispatch_id=answer.dispatch_id,
            asset_id=answer.asset_id,
            agent_id=session.agent_id,
            status=answer.status,
            reason=answer.reason,
        )

    def _end_what_is_over(self, member: AssetSetpoint, answer: Acknowledgement, session: Session) -> None:
        """An agent obeys what was given up here: it is to end it, unless another command has the asset."""
        current = self._lives.book.current(member.key)
        lasted = member.state == "completed" or (member.state in LASTED and not member.dropped_out)
        if lasted or (current is not None and current.state not in TERMINAL):
            self._answers.pass_over(answer, session, f"the dispatch is {member.state}")
            return
        self._delivery.end(session, member)

    def _correct_end(
        self,
        member: AssetSetpoint,
        answer: Acknowledgement,
        session: Session,
        now_ms: int,
        *,
        was_answered: bool,
    ) -> None:
        # The agent counts from when it received the dispatch, by its own clock.
        if answer.remaining_s is None:
            return
        ends_ms = now_ms + round(answer.remaining_s * 1000)
        latest_ms = _latest_end_ms(member, now_ms, was_answered=was_answered)
        if latest_ms is not None and ends_ms > latest_ms:
            if ends_ms > latest_ms + _END_SLACK_MS:
                self._answers.end_bounded(answer, session, bound_s=(latest_ms - now_ms) / 1000)
            ends_ms = latest_ms
        member.ends_ms = ends_ms
        self._lives.book.watch(member)
        self._lives.note(member.command, keys=(member.key,))

    def end_what_was_valid_until(self, now_ms: int) -> None:
        """The clock was set: end what is in force and was to end before now; its agent may not know yet."""
        for command in self._lives.log:
            if command.valid_until_ms is None or command.valid_until_ms > now_ms:
                continue
            for member in command.members.values():
                if member.state in IN_FORCE:
                    self._delivery.release(member)
                    self._over(member, "its time is over by the corrected clock")

    def _adopt(self, answer: Acknowledgement, session: Session, key: int, command: Dispatch | None) -> None:
        """An agent tells of a dispatch from before this headend's start, of which there is no record."""
        current = self._lives.book.current(key)
        if current is not None and current.state in PENDING:
            # On its way, and about to supersede it.
            return
        if key in session.adopted_keys:
            # A battery holds one setpoint. Whatever else its agent makes up must not become commands.
            self._answers.pass_over(answer, session, "its asset was found under another dispatch already")
            return
        session.adopted_keys.add(key)
        now_ms = self._wall.now_ms()
        ends_ms = None
        if answer.remaining_s is not None:
            if answer.remaining_s > MAX_DURATION_S:
                self._answers.end_bounded(answer, session, bound_s=MAX_DURATION_S)
            ends_ms = now_ms + round(min(answer.remaining_s, MAX_DURATION_S) * 1000)
        mw = answer.setpoint_mw or 0.0
        is_new = command is None
        if command is None:
            command = Dispatch(
                dispatch_id=answer.dispatch_id,
                target=DispatchTarget(kind="asset", id=answer.asset_id),
                mw=mw,
                expires_in_s=0.0,
                dispatched_ms=now_ms,
                queue_until_ms=now_ms,
                ends_ms=ends_ms,
                adopted=True,
            )
        else:
            self._lives.log.revive(command)
            command.target = DispatchTarget(kind="assets")
            command.mw += mw
        member = AssetSetpoint(
            command=command,
            key=key,
            mw=mw,
            reversion_mw=answer.reversion_mw or 0.0,
            wire_id=answer.dispatch_id,
            queue_until_ms=now_ms,
            ends_ms=ends_ms,
            state="accepted",
            reason="in force since before the headend's start",
            sent_ms=now_ms,
            answered_ms=now_ms,
        )
        command.add(member)
        if is_new:
            self._lives.log.add(command)
        self._lives.follow(member)


def _unanswered_reason(member: AssetSetpoint) -> str:
    within = f"within {ANSWERED_WITHIN_MS // 1000} s"
    if member.answer is None:
        return f"its agent has not answered {within}"
    return (
        f"its agent answered {member.answer!r}, which is no status of the contract, "
        f"and was not seen to obey {within}"
    )


def _latest_end_ms(member: AssetSetpoint, now_ms: int, *, was_answered: bool) -> int | None:
    """When the setpoint ends at the latest, by what was dispatched; None when it was to hold."""
    if member.ends_ms is None:
        return None
    if was_answered or member.sent_ms is None:
        # It has an end that its agent has reported before, and no end ever moves away.
        return member.ends_ms
    # The agent received it between then and now, with what was left of it, to the second.
    return now_ms + math.ceil((member.ends_ms - member.sent_ms) / 1000) * 1000


def _untracked_reason(member: AssetSetpoint) -> str:
    mean_mw, watch = member.mean_mw, member.watch
    if mean_mw is None or watch is None:
        return "no sample came while it was in force"
    if member.ends_ms is not None and watch.arrives_ms is not None and member.ends_ms < watch.arrives_ms:
        return f"it ended before its ramp could, with {mean_mw:g} MW on average"
    return (
        f"its power was never within {watch.tolerance_mw:g} MW of {watch.target_mw:g} MW, "
        f"and {mean_mw:g} MW on average"
    )
