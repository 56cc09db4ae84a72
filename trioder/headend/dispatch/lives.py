"""The lives of all commands: the one place where a member's state changes, is counted, logged and recorded.

What makes it change is found out in `delivery`, `follower` and `resplit`.
"""

import structlog

from trioder.fleet import Fleet
from trioder.headend.counters import Counters
from trioder.headend.dispatch.book import OrderBook
from trioder.headend.dispatch.command import Command, Member
from trioder.headend.dispatch.lifecycle import ENDED, IN_FORCE, DispatchState
from trioder.headend.dispatch.log import CommandLog
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store

log = structlog.stdlib.get_logger(__name__)

# Those whose power is compared with what was asked.
WATCHED: frozenset[DispatchState] = IN_FORCE | {"sent"}
_WARNED_OF: frozenset[DispatchState] = frozenset(
    {"rejected", "expired", "failed", "deviating", "not_tracked"}
)


class Lives:
    """All commands, by what one looks for: their ids, their assets, what is due.

    Attributes:
        watched: the members whose power is compared with what was asked, by asset.
    """

    def __init__(self, *, fleet: Fleet, store: Store, counters: Counters, wall: WallClock) -> None:
        self.book = OrderBook()
        self.log = CommandLog()
        self.watched: dict[int, Member] = {}
        self._asset_ids = [asset.id for asset in fleet.assets]
        self._fleet = fleet
        self._store = store
        self._counters = counters
        self._wall = wall
        # Changed since they were recorded: a group is not written anew for each of its members.
        self._changed: dict[str, Command] = {}

    def add(self, command: Command) -> None:
        """Begin a command: its members are their assets' from now on, and supersede what these were under."""
        self.log.add(command)
        for member in command.members.values():
            self.follow(member)
        self._changed[command.dispatch_id] = command

    def restore(self, command: Command) -> None:
        """Go on with a command from the records of a headend before this one; the oldest come first."""
        self.log.add(command)
        for member in command.members.values():
            if member.state not in ENDED:
                self.follow(member)

    def change(self, member: Member, state: DispatchState, *, reason: str | None = None) -> bool:
        """Let a member go on to another state; False, and nothing has changed, when it cannot."""
        if not member.become(state, now_ms=self._wall.now_ms(), reason=reason):
            return False
        counter = f"dispatches_{state}"
        setattr(self._counters, counter, getattr(self._counters, counter) + 1)
        self.book.watch(member)
        self._watch(member)
        self.note(member.command)
        if state in _WARNED_OF:
            self._warn(member)
        return True

    def note(self, command: Command) -> None:
        """It has changed, and is to be recorded."""
        self.log.look(command)
        if not command.adopted:
            self._changed[command.dispatch_id] = command

    def deviating(self) -> int:
        """How many members' power is not what was asked."""
        return sum(command.count_by_state["deviating"] for command in self.log)

    def flush(self) -> None:
        """Hand what has changed to the store."""
        changed, self._changed = self._changed, {}
        for command in changed.values():
            self._store.record_dispatch(command.record(self._asset_ids))

    def follow(self, member: Member) -> None:
        """The member is its asset's from now on, and supersedes what that was under."""
        former = self.book.put(member)
        if former is not None:
            self.change(former, "superseded", reason=f"by {member.command.dispatch_id}")
        self._watch(member)

    def _watch(self, member: Member) -> None:
        if member.state in WATCHED:
            if member.state == "sent":
                member.watch = None
            self.watched[member.key] = member
            return
        if self.watched.get(member.key) is member:
            del self.watched[member.key]
        if member.state in ENDED and member.watch is not None:
            member.ended_mean_mw = member.watch.mean_mw
        member.watch = None

    def _warn(self, member: Member) -> None:
        if member.state == "deviating" and member.deviations > 1:
            # A power at the edge of the tolerance is counted each time, and logged once.
            return
        asset = self._fleet.assets[member.key]
        log.warning(
            "dispatch not obeyed",
            state=member.state,
            dispatch_id=member.command.dispatch_id,
            asset_id=asset.id,
            asset=asset.name,
            site=asset.site_name,
            mw=member.mw,
            mean_mw=member.mean_mw,
            reason=member.reason,
        )
