"""A group's member drops out: what it was given goes to the others, for as long as the command lasts.

Why it dropped out, and what came of it, is on the command's record.
"""

from math import fsum

import structlog

from trioder.headend.counters import Counters
from trioder.headend.dispatch.command import Command, Member
from trioder.headend.dispatch.delivery import Delivery
from trioder.headend.dispatch.grouping import Grouping
from trioder.headend.dispatch.lifecycle import ENDED
from trioder.headend.dispatch.lives import Lives
from trioder.headend.latest import LatestState
from trioder.headend.sessions import SessionRegistry
from trioder.process.wall_time import WallClock
from trioder.store.records import ResplitRecord

log = structlog.stdlib.get_logger(__name__)

# A battery that ends beside its share by less is left alone.
_SAME_MW = 1e-6
# A look at a member takes about a microsecond; large groups are looked at the less often.
_MEMBERS_LOOKED_AT_A_MS = 10
# On the record of one command; a group that never rests is told of by the log.
_MAX_RESPLITS_RECORDED = 100


class Resplitter:
    """Looks after the groups that live."""

    def __init__(
        self,
        *,
        grouping: Grouping,
        delivery: Delivery,
        lives: Lives,
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
        """Re-split every living group of which a member has dropped out."""
        now_ms = self._wall.now_ms()
        for command in self._lives.log:
            if not (command.resplit and command.is_group) or command.ended or command.beginning:
                continue
            if now_ms < command.next_look_ms or (command.ends_ms is not None and now_ms >= command.ends_ms):
                continue
            command.next_look_ms = now_ms + len(command.members) // _MEMBERS_LOOKED_AT_A_MS
            dropped = self._dropped_out(command, now_ms)
            if dropped:
                self._resplit(command, dropped, now_ms)

    def _dropped_out(self, command: Command, now_ms: int) -> list[tuple[Member, str]]:
        ended: list[tuple[Member, str]] = []
        silent: list[tuple[Member, str]] = []
        anybody_there = False
        for member in command.members.values():
            if member.dropped_out:
                continue
            if member.state in ENDED:
                if member.state != "completed":
                    ended.append((member, f"{member.state}: {member.reason}"))
            elif (why := self._why_silent(member, now_ms)) is not None:
                silent.append((member, why))
            else:
                anybody_there = anybody_there or self._sessions.session_of(member.key) is not None
        # With nobody to take over, what is lost is rather the way to all of them: they hold what they have.
        return ended + silent if anybody_there else ended

    def _why_silent(self, member: Member, now_ms: int) -> str | None:
        if self._sessions.session_of(member.key) is None:
            absence = self._delivery.absences.get(member.key)
            if absence is not None and now_ms >= absence.awaited_until_ms:
                return f"not connected for {(now_ms - absence.since_ms) / 1000:g} s"
            return None
        _, _, age_s = self._latest.told(member.key, now_ms)
        if age_s is not None and age_s > self._latest.stale_after_s:
            return f"stale, last heard of {age_s:.1f} s ago"
        return None

    def _resplit(self, command: Command, dropped: list[tuple[Member, str]], now_ms: int) -> None:
        for member, why in dropped:
            member.dropped_out = True
            if member.state not in ENDED:
                self._lives.change(
                    member, "failed", reason=f"dropped out: {why}; its share went to the others"
                )
                self._delivery.give_away(member)
            elif member.answer is None and member.sent_ms is not None:
                # Given up, and yet its agent may have it.
                self._delivery.give_away(member)
        if command.ended:
            # Nobody is left.
            command.shortfall_mw = command.mw
            self._note(command, dropped, "", 0, now_ms)
            return
        over = {key for key, member in command.members.items() if member.state in ENDED}
        elsewhere = over | {
            key
            for key in command.left_out
            if (other := self._lives.book.current(key)) is not None and other.state not in ENDED
        }
        kept_mw = self._kept_mw(command)
        rest_mw = command.mw - kept_mw if abs(kept_mw) < abs(command.mw) else 0.0
        dealt = self._grouping.shares_of(command, rest_mw, elsewhere=elsewhere)
        command.shortfall_mw = dealt.shares.shortfall_mw
        wire_id = self._delivery.new_id()
        self._lives.log.name(command, wire_id)
        changed = 0
        for position, candidate in enumerate(dealt.candidates):
            mw = dealt.shares.allocated_mw[position]
            if mw is not None:
                changed += self._give(command, candidate.asset_key, mw, wire_id, dealt.allocation(position))
        self._note(command, dropped, wire_id, changed, now_ms)

    def _kept_mw(self, command: Command) -> float:
        """What those hold that cannot be told of another share just now."""
        return fsum(
            member.mw
            for member in command.members.values()
            if member.state not in ENDED and not self._grouping.reaches(member.key)
        )

    def _give(self, command: Command, key: int, mw: float, wire_id: str, why: tuple[str, str]) -> bool:
        """Let an asset have another share; False when it has that already."""
        code, allocation = why
        member = command.members.get(key)
        if member is None:
            del command.left_out[key]
            member = Member(
                command=command,
                key=key,
                mw=mw,
                reversion_mw=0.0,
                wire_id=wire_id,
                code=code,
                allocation=allocation,
                ends_ms=command.ends_ms,
                queue_until_ms=self._queue_until_ms(command),
            )
            command.add(member)
            self._lives.follow(member)
        elif abs(member.mw - mw) <= _SAME_MW:
            return False
        else:
            member.move_on(
                mw=mw,
                wire_id=wire_id,
                code=code,
                allocation=allocation,
                queue_until_ms=self._queue_until_ms(command),
            )
        self._lives.note(command, keys=(key,))
        self._delivery.send(member)
        return True

    def _queue_until_ms(self, command: Command) -> int:
        return self._wall.now_ms() + round(command.expires_in_s * 1000)

    def _note(
        self, command: Command, dropped: list[tuple[Member, str]], wire_id: str, changed: int, now_ms: int
    ) -> None:
        self._counters.dispatches_resplit += 1
        if len(command.resplits) < _MAX_RESPLITS_RECORDED:
            command.resplits.append(
                ResplitRecord(
                    at_ms=now_ms,
                    wire_id=wire_id,
                    dropped=[(self._delivery.asset_id(member.key), why) for member, why in dropped],
                    changed=changed,
                    shortfall_mw=command.shortfall_mw,
                )
            )
        self._lives.note(command, keys=())
        log.warning(
            "group dispatch re-split",
            dispatch_id=command.dispatch_id,
            dropped_out=len(dropped),
            first=f"{self._delivery.asset_id(dropped[0][0].key)}: {dropped[0][1]}",
            changed=changed,
            shortfall_mw=command.shortfall_mw,
        )
