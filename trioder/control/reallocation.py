"""A group's shares while it lasts: what one leaves goes to the others, what is short to those that return.

Why, and what came of it, is on the command's record.
"""

from math import fsum

import structlog

from trioder.control.allocator import Allocator, Dealt
from trioder.control.delivery import Delivery
from trioder.control.lifecycle import LASTED, TERMINAL, DispatchState
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.registry import DispatchRegistry
from trioder.control.returning import note_dropout, ready_to_return
from trioder.domain.dispatch import ReallocationRecord
from trioder.events.counters import Counters
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.wall_time import WallClock

log = structlog.stdlib.get_logger(__name__)

# A battery that ends beside its share by less is left alone.
_SAME_MW = 1e-6
# A look at a member takes about a microsecond; large groups are looked at the less often.
_MEMBERS_LOOKED_AT_A_MS = 10
# On the record of one command; a group that never rests is logged.
_MAX_RESPLITS_RECORDED = 100
# Between two re-splits of one command for what batteries report that they can do, or for a shortfall.
_REST_MS = 10_000
# And for large groups so much longer, a member: a split takes about 3 us of each.
_REST_MS_A_MEMBER = 0.3
_RAISE_LOOK_MS = 1_000
# Members that could do this much more, of the total and at least, are worth new setpoints to all.
_WORTH_SHARE = 0.01
_WORTH_MW = 0.1

Reasons = list[tuple[AssetSetpoint, str]]


class Resplitter:
    """Looks after the groups that live."""

    def __init__(
        self,
        *,
        grouping: Allocator,
        delivery: Delivery,
        lives: DispatchRegistry,
        latest: LatestState,
        sessions: SessionRegistry,
        counters: Counters,
        wall: WallClock,
    ) -> None:
        self._grouping = grouping
        self._delivery = delivery
        self._lives = lives
        self._latest = latest
        self._sessions = sessions
        self._counters = counters
        self._wall = wall

    def look(self) -> None:
        """Re-split every living group of which a member has dropped out, or can do less, or returns."""
        now_ms = self._wall.now_ms()
        for command in self._lives.log:
            if not (command.resplit and command.is_group) or command.ended or command.beginning:
                continue
            if now_ms < command.next_look_ms or (command.ends_ms is not None and now_ms >= command.ends_ms):
                continue
            command.next_look_ms = now_ms + len(command.members) // _MEMBERS_LOOKED_AT_A_MS
            dropped, lowered = self._changed(command, now_ms)
            if dropped or lowered:
                self._resplit(command, dropped, lowered, now_ms)
            elif abs(command.shortfall_mw) > _SAME_MW and now_ms >= command.next_raise_look_ms:
                command.next_raise_look_ms = (
                    now_ms + _RAISE_LOOK_MS + len(command.candidate_keys) // _MEMBERS_LOOKED_AT_A_MS
                )
                self._raise(command, now_ms)

    def _changed(self, command: Dispatch, now_ms: int) -> tuple[Reasons, Reasons]:
        """Return who drops out, and who is to be given less; each with the reason."""
        ended: Reasons = []
        unreliable: Reasons = []
        lowered: Reasons = []
        anybody_there = False
        for member in command.members.values():
            if member.dropped_out:
                continue
            if member.state in TERMINAL:
                if member.state not in LASTED:
                    ended.append((member, f"{member.state}: {member.reason}"))
            elif (why := self._why_silent(member, now_ms)) is not None:
                unreliable.append((member, why))
            elif member.state == "deviating" and (member.watch is None or member.watch.last_mw is None):
                # Found before a restart of the headend; no sample has shown since what it delivers.
                continue
            elif member.state == "deviating":
                listed = unreliable if _delivered_mw(member) is None else lowered
                listed.append((member, f"deviating: {member.reason}"))
            else:
                anybody_there = anybody_there or self._sessions.session_of(member.key) is not None
                if member.watch is not None and member.watch.limited_mw is not None:
                    lowered.append((member, f"limited: {member.reason}"))
        if now_ms < command.next_adjust_ms:
            lowered = []
        # With nobody to take over, what is lost is rather the way to all of them: they hold what they have.
        return ended + unreliable if anybody_there else ended, lowered

    def _why_silent(self, member: AssetSetpoint, now_ms: int) -> str | None:
        session = self._sessions.session_of(member.key)
        if session is None:
            absence = self._delivery.absences.get(member.key)
            if absence is not None and now_ms >= absence.awaited_until_ms:
                return f"not connected for {(now_ms - absence.since_ms) / 1000:g} s"
            return None
        reported = self._latest.reported(member.key, now_ms)
        if reported is not None:
            is_stale = reported.age_s > self._latest.stale_after_s
            return f"stale, last heard of {reported.age_s:.1f} s ago" if is_stale else None
        if self._latest.is_suspect(member.key):
            since_ms = None if member.watch is None else member.watch.suspect_since_ms
            what = "suspect, without a good sample"
        else:
            since_ms, what = session.connected_ms, "without a sample in this session"
        if since_ms is None or now_ms - since_ms <= self._latest.stale_after_s * 1000:
            return None
        return f"{what} for {(now_ms - since_ms) / 1000:g} s"

    def _resplit(self, command: Dispatch, dropped: Reasons, lowered: Reasons, now_ms: int) -> None:
        for member, why in dropped:
            self._drop(command, member, why)
        for member, _ in lowered:
            delivered_mw = _delivered_mw(member) if member.state == "deviating" else None
            if delivered_mw is not None:
                command.delivered_mw[member.key] = delivered_mw
                note_dropout(command, member.key, deviated=True)
        if lowered:
            command.next_adjust_ms = now_ms + _rest_ms(command)
        adjusted = [(self._delivery.asset_id(member.key), why) for member, why in lowered]
        reasons = [(self._delivery.asset_id(member.key), why) for member, why in dropped]
        if command.ended:
            # Nobody is left.
            command.shortfall_mw = command.mw
            self._note(
                command,
                ReallocationRecord(
                    at_ms=now_ms, wire_id="", dropped=reasons, changed=0, shortfall_mw=command.shortfall_mw
                ),
            )
            return
        elsewhere = {key for key, member in command.members.items() if member.state in TERMINAL}
        elsewhere |= {key for key in command.left_out if self._is_commanded_otherwise(key)}
        dealt = self._shares(command, elsewhere)
        wire_id, changed, joined = self._apply(command, dealt)
        self._note(
            command,
            ReallocationRecord(
                at_ms=now_ms,
                wire_id=wire_id,
                dropped=reasons,
                changed=changed,
                shortfall_mw=command.shortfall_mw,
                adjusted=adjusted,
                joined=joined,
            ),
        )

    def _drop(self, command: Dispatch, member: AssetSetpoint, why: str) -> None:
        member.dropped_out = True
        deviated = member.state == "deviating"
        note_dropout(command, member.key, deviated=deviated)
        if member.state in TERMINAL:
            if member.answered_ms is None and member.sent_ms is not None:
                # Given up, and yet its agent may have it.
                self._delivery.release(member)
            return
        mean_mw = member.mean_mw
        state: DispatchState = "failed"
        if deviated and member.tracking_ms is None:
            state = "not_tracked"
            why = why if mean_mw is None else f"{why}, {mean_mw:g} MW on average"
        self._lives.change(member, state, reason=f"dropped out: {why}; its share went to the others")
        self._delivery.release(member)

    def _raise(self, command: Dispatch, now_ms: int) -> None:
        """Allocate what is short to batteries that have returned, and to members that can do more by now."""
        ready = ready_to_return(command, now_ms, is_good=lambda key: self._is_good(command, key))
        if now_ms < command.next_raise_ms or not (ready or now_ms >= command.next_trial_ms):
            return
        command.next_trial_ms = now_ms + _rest_ms(command)
        if ready:
            command.next_raise_ms = command.next_trial_ms
        delivered_mw = dict(command.delivered_mw)
        for key in ready:
            command.delivered_mw.pop(key, None)
        elsewhere = {key for key, member in command.members.items() if member.state in TERMINAL}
        elsewhere = (elsewhere | command.left_out.keys()) - ready
        dealt = self._shares(command, elsewhere)
        gain_mw = abs(command.shortfall_mw) - abs(dealt.shares.shortfall_mw)
        if gain_mw <= (_SAME_MW if ready else max(_WORTH_MW, _WORTH_SHARE * abs(command.mw))):
            command.delivered_mw = delivered_mw
            return
        wire_id, changed, joined = self._apply(command, dealt)
        self._note(
            command,
            ReallocationRecord(
                at_ms=now_ms,
                wire_id=wire_id,
                dropped=(),
                changed=changed,
                shortfall_mw=command.shortfall_mw,
                joined=joined,
            ),
        )

    def _is_good(self, command: Dispatch, key: int) -> bool:
        if not self._grouping.reaches(key):
            return False
        current = self._lives.book.current(key)
        if current is None or current.state in TERMINAL:
            return True
        return current is command.members.get(key) and current.state == "tracking"

    def _is_commanded_otherwise(self, key: int) -> bool:
        other = self._lives.book.current(key)
        return other is not None and other.state not in TERMINAL

    def _shares(self, command: Dispatch, elsewhere: set[int]) -> Dealt:
        """Split what is left of the total when those that cannot be given another share now keep theirs."""
        kept_mw = self._kept_mw(command)
        rest_mw = command.mw - kept_mw if abs(kept_mw) < abs(command.mw) else 0.0
        return self._grouping.shares_of(command, rest_mw, elsewhere=elsewhere)

    def _apply(self, command: Dispatch, dealt: Dealt) -> tuple[str, int, list[str]]:
        """Hand the shares out; return their id, how many are others than before, and who takes part anew."""
        for member in command.members.values():
            # What ended early has been allocated to others, too.
            member.dropped_out = member.dropped_out or member.state in TERMINAL
        command.shortfall_mw = dealt.shares.shortfall_mw
        wire_id = self._delivery.new_id()
        self._lives.log.name(command, wire_id)
        changed, joined = 0, []
        for position, candidate in enumerate(dealt.candidates):
            key, mw = candidate.asset_key, dealt.shares.allocated_mw[position]
            if mw is None:
                continue
            known = command.members.get(key)
            if known is None or known.state in TERMINAL:
                if mw:
                    self._join(command, key, mw, wire_id, dealt.allocation(position))
                    joined.append(self._delivery.asset_id(key))
                    changed += 1
            else:
                changed += self._give(known, mw, wire_id, dealt.allocation(position))
        self._counters.dispatches_joined += len(joined)
        return wire_id, changed, joined

    def _kept_mw(self, command: Dispatch) -> float:
        """What those hold that cannot be told of another share just now."""
        return fsum(
            member.mw
            for member in command.members.values()
            if member.state not in TERMINAL and not self._grouping.reaches(member.key)
        )

    def _join(self, command: Dispatch, key: int, mw: float, wire_id: str, why: tuple[str, str]) -> None:
        """An asset takes part that has not so far, or no longer has."""
        former = command.members.get(key)
        code, allocation = why
        member = AssetSetpoint(
            command=command,
            key=key,
            mw=mw,
            reversion_mw=0.0 if former is None else former.reversion_mw,
            wire_id=wire_id,
            code=code,
            allocation=allocation,
            ends_ms=command.ends_ms,
            queue_until_ms=self._queue_until_ms(command),
        )
        if former is None:
            del command.left_out[key]
            command.add(member)
        else:
            command.replace(member)
        self._lives.note(command, keys=(key,))
        self._lives.follow(member)
        self._delivery.send(member)

    def _give(self, member: AssetSetpoint, mw: float, wire_id: str, why: tuple[str, str]) -> bool:
        """Let a member have another share; False when it has that already."""
        if abs(member.mw - mw) <= _SAME_MW:
            return False
        code, allocation = why
        member.move_on(
            mw=mw,
            wire_id=wire_id,
            code=code,
            allocation=allocation,
            queue_until_ms=self._queue_until_ms(member.command),
        )
        self._lives.note(member.command, keys=(member.key,))
        self._delivery.send(member)
        return True

    def _queue_until_ms(self, command: Dispatch) -> int:
        return self._wall.now_ms() + round(command.expires_in_s * 1000)

    def _note(self, command: Dispatch, resplit: ReallocationRecord) -> None:
        self._counters.dispatches_resplit += 1
        if len(command.resplits) < _MAX_RESPLITS_RECORDED:
            command.resplits.append(resplit)
        self._lives.note(command, keys=())
        causes = [*resplit.dropped, *resplit.adjusted]
        report = log.warning if causes else log.info
        report(
            "group dispatch re-split",
            dispatch_id=command.dispatch_id,
            dropped_out=len(resplit.dropped),
            adjusted=len(resplit.adjusted),
            joined=len(resplit.joined),
            first=": ".join(causes[0]) if causes else None,
            changed=resplit.changed,
            shortfall_mw=command.shortfall_mw,
        )


def _rest_ms(command: Dispatch) -> int:
    return max(_REST_MS, round(len(command.candidate_keys) * _REST_MS_A_MEMBER))


def _delivered_mw(member: AssetSetpoint) -> float | None:
    """What a member delivers of its share, as a magnitude; None for nothing, too much or the opposite."""
    watch = member.watch
    if watch is None or watch.last_mw is None:
        return None
    delivered_mw = -watch.last_mw if watch.target_mw < 0.0 else watch.last_mw
    return delivered_mw if watch.tolerance_mw < delivered_mw < abs(watch.target_mw) else None
