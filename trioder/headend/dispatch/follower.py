"""What becomes of members that were sent: told by agents, seen in their telemetry, or due by the clock."""

import math

import structlog

from trioder.fleet import Fleet
from trioder.headend.counters import Counters
from trioder.headend.dispatch.book import ANSWERED_WITHIN_MS
from trioder.headend.dispatch.command import Command, Member
from trioder.headend.dispatch.delivery import Delivery, overdue_reason
from trioder.headend.dispatch.lifecycle import ENDED, IN_FORCE, UNANSWERED, DispatchState, state_of_answer
from trioder.headend.dispatch.lives import Lives
from trioder.headend.dispatch.requests import MAX_DURATION_S
from trioder.headend.sessions import Session, SessionRegistry
from trioder.process.rfc3339 import format_ms
from trioder.process.wall_time import WallClock
from trioder.sim.model import IDLE_BAND_MW, Asset
from trioder.store.records import DispatchTarget, Samples
from trioder.wire.records import Acknowledgement

log = structlog.stdlib.get_logger(__name__)

# Of the power that the asset can swing from its middle, and at least what counts as no power at all.
TRACKING_SHARE = 0.02
# An agent's clock may differ from ours by so much.
_CLOCK_SLACK_MS = 5_000
# So much later may a report be than the one before: it waited on its way.
_END_SLACK_MS = 5_000


class Follower:
    """Moves members on by what is heard and seen of them."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        sessions: SessionRegistry,
        lives: Lives,
        delivery: Delivery,
        counters: Counters,
        wall: WallClock,
    ) -> None:
        self._fleet = fleet
        self._sessions = sessions
        self._lives = lives
        self._delivery = delivery
        self._counters = counters
        self._wall = wall

    def acknowledged(self, answer: Acknowledgement, *, session: Session) -> None:
        """Note an agent's answer; one that is not its to give, or comes too late, is only logged."""
        self._counters.dispatches_acknowledged += 1
        key = self._fleet.index_by_id.get(answer.asset_id)
        if key is None or self._sessions.session_of(key) is not session:
            self._pass_over(answer, session, "the session does not drive the asset")
            return
        command = self._lives.log.by_wire_id(answer.dispatch_id)
        active = answer.status.lower() == "active"
        if command is None or (command.adopted and key not in command.members):
            if active and answer.setpoint_mw is not None:
                self._adopt(answer, key, command)
            else:
                self._pass_over(answer, session, "there is no such dispatch, or no longer")
            return
        member = command.members.get(key)
        if member is None or member.wire_id != answer.dispatch_id:
            self._pass_over(answer, session, "its asset has another part of the command by now")
            return
        self._take(member, answer, session, active=active)

    def _take(self, member: Member, answer: Acknowledgement, session: Session, *, active: bool) -> None:
        now_ms = self._wall.now_ms()
        state = state_of_answer(answer.status)
        if state in IN_FORCE and member.state in ENDED:
            self._end_what_is_over(member, answer, session)
            return
        # What the agent has in force it has taken, whether or not its answer came through.
        if active and member.state not in UNANSWERED:
            self._correct_end(member, answer, now_ms, was_answered=True)
            return
        before, was_answered = member.state, member.answered_ms is not None
        if not self._answered(member, state, answer.reason):
            if before != state:
                self._pass_over(answer, session, f"the dispatch is {before}")
            return
        if not active:
            member.answer = answer.status
        if member.answered_ms is None:
            member.answered_ms = now_ms
        if state == "clamped":
            member.held_mw = _clamped(self._fleet.assets[member.key], member.mw)
        if state in IN_FORCE:
            self._correct_end(member, answer, now_ms, was_answered=was_answered)
        if not member.command.is_group:
            log.info(
                "dispatch answered",
                dispatch_id=answer.dispatch_id,
                asset_id=answer.asset_id,
                agent_id=session.agent_id,
                status=answer.status,
                reason=answer.reason,
                agent_time=format_ms(answer.ts_unix_ms),
            )

    def _answered(self, member: Member, state: DispatchState, reason: str | None) -> bool:
        if member.state == "tracking" and member.answered_ms is None and state in IN_FORCE:
            # It was seen to obey before it said so.
            self._lives.note(member.command)
            return True
        if state == "rejected" and member.answered_ms is not None:
            return False
        return self._lives.change(member, state, reason=reason)

    def measured(self, samples: Samples) -> None:
        """Look whether assets that are on their way to a setpoint have reached it."""
        on_the_way = self._lives.on_the_way
        if not on_the_way:
            return
        for row, key in enumerate(samples.asset_keys):
            member = on_the_way.get(key)
            if (
                member is not None
                and samples.setpoint_mw[row] == member.mw
                and samples.ts_unix_ms - self._skew_ms(key) >= _seen_from_ms(member)
                and abs(samples.current_mw[row] - member.target_mw) <= tolerance_mw(self._fleet.assets[key])
                and (member.state != "sent" or self._is_silent(key))
            ):
                self._lives.change(member, "tracking", reason=member.reason)

    def tend(self) -> None:
        """Do what is due by the clock."""
        now_ms = self._wall.now_ms()
        for member in self._lives.book.pop_due(now_ms):
            if member.state == "queued":
                self._lives.change(member, "expired", reason=overdue_reason(member, now_ms))
            elif member.state == "sent":
                reason = f"its agent has not answered within {ANSWERED_WITHIN_MS // 1000} s"
                self._lives.change(member, "failed", reason=reason)
            else:
                self._lives.change(member, "completed", reason="its time is over")

    def _skew_ms(self, key: int) -> float:
        """How far the clock of the asset's agent is ahead, as far as that is known."""
        session = self._sessions.session_of(key)
        return 0.0 if session is None else 1000 * (session.clock_skew_s or 0.0)

    def _is_silent(self, key: int) -> bool:
        """Whether the asset's agent may be one of those that obey and never answer."""
        session = self._sessions.session_of(key)
        return session is not None and session.protocol == 0

    def _end_what_is_over(self, member: Member, answer: Acknowledgement, session: Session) -> None:
        """An agent obeys what was given up here: it is to end it, unless another command has the asset."""
        current = self._lives.book.current(member.key)
        if member.state == "completed" or (current is not None and current.state not in ENDED):
            self._pass_over(answer, session, f"the dispatch is {member.state}")
            return
        self._delivery.end(session, member)

    def _correct_end(
        self, member: Member, answer: Acknowledgement, now_ms: int, *, was_answered: bool
    ) -> None:
        # The agent counts from when it received the dispatch, by its own clock.
        if answer.remaining_s is None:
            return
        ends_ms = now_ms + round(answer.remaining_s * 1000)
        latest_ms = _latest_end_ms(member, now_ms, was_answered=was_answered)
        if latest_ms is not None and ends_ms > latest_ms:
            if ends_ms > latest_ms + _END_SLACK_MS:
                self._warn_of_end(answer, (latest_ms - now_ms) / 1000)
            ends_ms = latest_ms
        member.ends_ms = ends_ms
        self._lives.book.watch(member)

    def end_what_was_valid_until(self, now_ms: int) -> None:
        """The clock was set: end what is in force and was to end before now; its agent may not know yet."""
        for command in self._lives.log:
            if command.valid_until_ms is None or command.valid_until_ms > now_ms:
                continue
            for member in command.members.values():
                if member.state in IN_FORCE:
                    self._delivery.give_away(member)
                    self._lives.change(member, "completed", reason="its time is over by the corrected clock")

    def _warn_of_end(self, answer: Acknowledgement, bound_s: float) -> None:
        self._counters.leases_bounded += 1
        log.warning(
            "agent reports that a setpoint lasts longer than was dispatched",
            dispatch_id=answer.dispatch_id,
            asset_id=answer.asset_id,
            remaining_s=answer.remaining_s,
            bounded_to_s=round(max(0.0, bound_s), 3),
        )

    def _adopt(self, answer: Acknowledgement, key: int, command: Command | None) -> None:
        """An agent tells of a dispatch from before this headend's start, of which there is no record."""
        current = self._lives.book.current(key)
        if current is not None and current.state in UNANSWERED:
            # On its way, and about to supersede it.
            return
        now_ms = self._wall.now_ms()
        ends_ms = None
        if answer.remaining_s is not None:
            if answer.remaining_s > MAX_DURATION_S:
                self._warn_of_end(answer, MAX_DURATION_S)
            ends_ms = now_ms + round(min(answer.remaining_s, MAX_DURATION_S) * 1000)
        mw = answer.setpoint_mw or 0.0
        is_new = command is None
        if command is None:
            command = Command(
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
        member = Member(
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

    def _pass_over(self, answer: Acknowledgement, session: Session, why: str) -> None:
        log.info(
            "answer to a dispatch passed over",
            dispatch_id=answer.dispatch_id,
            asset_id=answer.asset_id,
            agent_id=session.agent_id,
            status=answer.status,
            reason=why,
        )


def _latest_end_ms(member: Member, now_ms: int, *, was_answered: bool) -> int | None:
    """When the setpoint ends at the latest, by what was dispatched; None when it was to hold."""
    if member.ends_ms is None:
        return None
    if was_answered or member.sent_ms is None:
        # It has an end that its agent has reported before, and no end ever moves away.
        return member.ends_ms
    # The agent received it between then and now, with what was left of it, to the second.
    return now_ms + math.ceil((member.ends_ms - member.sent_ms) / 1000) * 1000


def tolerance_mw(asset: Asset) -> float:
    """How near to its setpoint an asset's power must be to track it, MW."""
    return max(IDLE_BAND_MW, TRACKING_SHARE * (asset.max_mw - asset.min_mw) / 2)


def _seen_from_ms(member: Member) -> int:
    """From when on a sample may be of the member; a former setpoint may have been of the same power."""
    sent_ms = member.sent_ms or 0
    return sent_ms + (_CLOCK_SLACK_MS if member.state == "sent" else -_CLOCK_SLACK_MS)


def _clamped(asset: Asset, mw: float) -> float:
    return min(max(mw, asset.min_mw), asset.max_mw)
