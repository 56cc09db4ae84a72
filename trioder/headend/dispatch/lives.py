"""The lives of all commands: the one place where a member's state changes, is counted, logged and recorded.

What makes it change is found out in `delivery`, `follower` and `resplit`.
"""

import structlog

from trioder.fleet import Fleet
from trioder.headend.counters import Counters
from trioder.headend.dispatch.book import OrderBook
from trioder.headend.dispatch.clock_step import shift_command
from trioder.headend.dispatch.command import Command, Member
from trioder.headend.dispatch.lifecycle import ENDED, DispatchState
from trioder.headend.dispatch.log import CommandLog
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store

log = structlog.stdlib.get_logger(__name__)

# Those whose power is compared with what was asked.
_ON_THE_WAY: frozenset[DispatchState] = frozenset({"sent", "accepted", "clamped"})
_WARNED_OF: frozenset[DispatchState] = frozenset({"rejected", "expired", "failed"})


class Lives:
    """All commands, by what one looks for: their ids, their assets, what is due.

    Attributes:
        on_the_way: the members that have not reached their setpoint yet, by asset.
    """

    def __init__(self, *, fleet: Fleet, store: Store, counters: Counters, wall: WallClock) -> None:
        self.book = OrderBook()
        self.log = CommandLog()
        self.on_the_way: dict[int, Member] = {}
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
        if state in _ON_THE_WAY:
            self.on_the_way[member.key] = member
        elif self.on_the_way.get(member.key) is member:
            del self.on_the_way[member.key]
        self.note(member.command)
        if state in _WARNED_OF:
            self._warn(member)
        return True

    def clock_stepped(self, by_ms: int) -> None:
        """The wall clock was set by so much: all times move with it, and the living are recorded anew."""
        for command in self.log.remembered():
            shift_command(command, by_ms)
            if not command.ended:
                self.note(command)
        self.book.reschedule()

    def note(self, command: Command) -> None:
        """It has changed, and is to be recorded."""
        self.log.look(command)
        if not command.adopted:
            self._changed[command.dispatch_id] = command

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
        if member.state in _ON_THE_WAY:
            self.on_the_way[member.key] = member

    def _warn(self, member: Member) -> None:
        asset = self._fleet.assets[member.key]
        log.warning(
            "dispatch not obeyed",
            state=member.state,
            dispatch_id=member.command.dispatch_id,
            asset_id=asset.id,
            asset=asset.name,
            site=asset.site_name,
            mw=member.mw,
            reason=member.reason,
        )
