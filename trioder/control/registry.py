"""The lives of all commands: the one place where a member's state changes, is counted, logged and recorded.

What makes it change is found out in `delivery`, `follower` and `resplit`.
"""

from collections.abc import Iterable
from functools import partial

import structlog

from trioder.control.active_setpoints import ActiveSetpoints
from trioder.control.clock_step import shift_command
from trioder.control.history import DispatchHistory
from trioder.control.lifecycle import IN_FORCE, TERMINAL, DispatchState
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.domain.dispatch import DispatchRecord
from trioder.domain.fleet import Fleet
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.events.facts import DispatchChanged
from trioder.process.slices import Steps, run_at_once
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store

log = structlog.stdlib.get_logger(__name__)

# Those whose power is compared with what was asked.
WATCHED: frozenset[DispatchState] = IN_FORCE | {"sent"}
LEFT_THE_FLEET = "its asset has left the fleet"
# Up to so many assets a command is made, begun and recorded in one piece, in about 10 ms.
SMALL_GROUP = 500
_WARNED_OF: frozenset[DispatchState] = frozenset(
    {"rejected", "expired", "failed", "deviating", "not_tracked"}
)


class DispatchRegistry:
    """All commands, by what one looks for: their ids, their assets, what is due.

    Attributes:
        watched: the members whose power is compared with what was asked, by asset.
    """

    def __init__(
        self, *, fleet: Fleet, store: Store, counters: Counters, events: EventBus, wall: WallClock
    ) -> None:
        self.book = ActiveSetpoints()
        self.log = DispatchHistory()
        self.watched: dict[int, AssetSetpoint] = {}
        self._asset_ids = fleet.asset_ids
        self._fleet = fleet
        self._store = store
        self._counters = counters
        self._events = events
        self._wall = wall
        # What has changed since it was recorded, by the assets whose share has: a group is not written anew
        # for each of its members.
        self._changed: dict[str, tuple[Dispatch, set[int]]] = {}

    def begin(self, command: Dispatch) -> None:
        """From now on the command is given; `take` each of its members next."""
        command.beginning = True
        self.log.add(command)
        self.note(command, keys=(*command.members, *command.left_out))

    def take(self, member: AssetSetpoint) -> bool:
        """Make a member of a command that begins its asset's; it supersedes what that was under.

        Returns:
            False when the asset is under a command that was asked for later, and the member is superseded
            itself; or when its asset was retired since the command was made, and it has failed.
        """
        if member.key != self._fleet.index_by_id.get(self._asset_ids[member.key]):
            self.change(member, "failed", reason=LEFT_THE_FLEET)
            return False
        current = self.book.current(member.key)
        if (
            current is not None
            and current.command.number > member.command.number
            and current.state not in TERMINAL
        ):
            self.change(member, "superseded", reason=f"by {current.command.dispatch_id}")
            return False
        self.follow(member)
        return True

    def restore(self, command: Dispatch) -> None:
        """Go on with a command from the records of a headend before this one; the oldest come first."""
        self.log.add(command)
        for member in command.members.values():
            if member.state not in TERMINAL:
                self.follow(member)

    def change(self, member: AssetSetpoint, state: DispatchState, *, reason: str | None = None) -> bool:
        """Let a member go on to another state; False, and nothing has changed, when it cannot."""
        if not member.transition(state, now_ms=self._wall.now_ms(), reason=reason):
            return False
        counter = f"dispatches_{state}"
        setattr(self._counters, counter, getattr(self._counters, counter) + 1)
        self.book.watch(member)
        self._watch(member)
        self.note(member.command, keys=(member.key,), state=state, reason=reason)
        if state in _WARNED_OF:
            self._warn(member)
        return True

    def clock_stepped(self, by_ms: int) -> None:
        """The wall clock was set by so much: the times of open commands move with it, and are recorded."""
        for command in self.log:
            shift_command(command, by_ms)
            self.note(command, keys=(*command.members, *command.departed_keys))
        self.book.reschedule()

    def note(
        self,
        command: Dispatch,
        *,
        keys: Iterable[int],
        state: DispatchState | None = None,
        reason: str | None = None,
    ) -> None:
        """It has changed, and is to be recorded: itself, and what the assets with these keys have of it."""
        self.log.look(command)
        if not command.adopted:
            _, changed = self._changed.setdefault(command.dispatch_id, (command, set()))
            changed.update(keys)
        if self._events.wants(DispatchChanged):
            # Below 0 are places of assets that have left the fleet.
            in_fleet = tuple(key for key in keys if key >= 0)
            self._events.publish(
                DispatchChanged(command.dispatch_id, in_fleet, state, reason, self._wall.now_ms())
            )

    def deviating(self) -> int:
        """How many members' power is not what was asked."""
        return sum(command.count_by_state["deviating"] for command in self.log)

    def flush(self) -> None:
        """Hand what has changed to the store, all of it now."""
        for dispatch_id in tuple(self._changed):
            run_at_once(self._hand_over(dispatch_id))

    def flush_small(self) -> None:
        """Hand what has changed to the store, but for the commands of which that would take long."""
        small = [
            dispatch_id
            for dispatch_id, (command, _) in self._changed.items()
            if len(command.candidate_keys) <= SMALL_GROUP
        ]
        for dispatch_id in small:
            run_at_once(self._hand_over(dispatch_id))

    def flush_steps(self) -> Steps[None]:
        """Hand what has changed to the store, in steps."""
        for dispatch_id, (command, _) in tuple(self._changed.items()):
            # One that begins is recorded when it has begun.
            if not command.beginning:
                yield from self._hand_over(dispatch_id)

    def record_steps(self, command: Dispatch) -> Steps[DispatchRecord]:
        """Hand one command to the store, in steps; returns the whole record."""
        yield from self._hand_over(command.dispatch_id)
        return (yield from command.record_steps(self._asset_ids))

    def _hand_over(self, dispatch_id: str) -> Steps[None]:
        # Until the step that hands it over, it is among the changed: whoever flushes meanwhile hands it over.
        if dispatch_id not in self._changed:
            return
        command, _ = self._changed[dispatch_id]
        record = yield from command.record_steps(self._asset_ids, whole=False)
        if dispatch_id in self._changed:
            _, keys = self._changed.pop(dispatch_id)
            self._store.record_dispatch(
                record, changed=keys, share_of=partial(command.share, self._asset_ids)
            )

    def follow(self, member: AssetSetpoint) -> None:
        """The member is its asset's from now on, and supersedes what that was under."""
        former = self.book.put(member)
        if former is not None:
            self.change(former, "superseded", reason=f"by {member.command.dispatch_id}")
        self._watch(member)

    def _watch(self, member: AssetSetpoint) -> None:
        if member.state in WATCHED:
            if member.state == "sent":
                member.watch = None
            self.watched[member.key] = member
            return
        if self.watched.get(member.key) is member:
            del self.watched[member.key]
        if member.state in TERMINAL and member.watch is not None:
            member.ended_mean_mw = member.watch.mean_mw
        member.watch = None

    def _warn(self, member: AssetSetpoint) -> None:
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
