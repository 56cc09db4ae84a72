"""All dispatches: their history by id, the active setpoint of each asset, and the changes to be recorded.

The one place where a setpoint's state changes, is counted, logged and recorded. What causes the changes is in
`delivery`, `ack_tracker`, `tracking` and `reallocation`.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count, islice
from math import inf

import structlog

from trioder.control.model import AssetSetpoint, Dispatch
from trioder.domain.fleet import Fleet
from trioder.domain.lifecycle import IN_FORCE, TERMINAL, DispatchState
from trioder.domain.power_tracker import NO_SAMPLE
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.events.facts import DispatchChanged
from trioder.process.slices import Steps, run_at_once
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store

log = structlog.stdlib.get_logger(__name__)

# The states in which an asset's power is compared with its setpoint.
TRACKED_STATES: frozenset[DispatchState] = IN_FORCE | {"sent"}
LEFT_THE_FLEET = "its asset has left the fleet"
# A dispatch to at most so many assets is built, started and recorded in one piece, in about 10 ms.
SMALL_GROUP = 500
# A connected agent acknowledges within milliseconds.
ACK_TIMEOUT_MS = 30_000
# An agent reports the end itself; the headend ends it later.
END_GRACE_MS = 2_000
MAX_DISPATCHES = 10_000
# About 400 bytes each.
MAX_SETPOINTS = 100_000
# A setpoint is scheduled about three times.
_MAX_SCHEDULED_EACH = 8
_MIN_SCHEDULED = 64
_WARNED_STATES: frozenset[DispatchState] = frozenset(
    {"rejected", "expired", "failed", "deviating", "not_tracked"}
)


class DispatchHistory:
    """The dispatches in memory: all open ones and the last that have ended. Older ones are the store's."""

    def __init__(self, *, max_dispatches: int = MAX_DISPATCHES, max_setpoints: int = MAX_SETPOINTS) -> None:
        self._max_dispatches = max_dispatches
        self._max_setpoints = max_setpoints
        self._open: dict[str, Dispatch] = {}
        self._ended: dict[str, Dispatch] = {}
        self._ended_setpoints = 0
        self._by_wire_id: dict[str, Dispatch] = {}
        self._wire_ids: dict[str, set[str]] = {}

    def __iter__(self) -> Iterator[Dispatch]:
        """The open ones, oldest first."""
        return iter(tuple(self._open.values()))

    def add(self, dispatch: Dispatch) -> None:
        """Add a dispatch."""
        self._open[dispatch.dispatch_id] = dispatch
        for wire_id in {dispatch.dispatch_id, *(one.wire_id for one in dispatch.setpoints.values())}:
            self.add_wire_id(dispatch, wire_id)
        self.archive_if_ended(dispatch)

    def add_wire_id(self, dispatch: Dispatch, wire_id: str) -> None:
        """Agents know the dispatch by this id as well."""
        self._by_wire_id[wire_id] = dispatch
        self._wire_ids.setdefault(dispatch.dispatch_id, set()).add(wire_id)

    def archive_if_ended(self, dispatch: Dispatch) -> None:
        """The dispatch has changed: once it has ended, it may be evicted."""
        if not dispatch.ended or dispatch.dispatch_id not in self._open:
            return
        del self._open[dispatch.dispatch_id]
        self._ended[dispatch.dispatch_id] = dispatch
        self._ended_setpoints += _size_of(dispatch)
        while len(self._ended) > self._max_dispatches or self._ended_setpoints > self._max_setpoints:
            if len(self._ended) == 1:
                return
            self._evict(next(iter(self._ended)))

    def reopen(self, dispatch: Dispatch) -> None:
        """The dispatch is about to get another setpoint, though it may have ended."""
        if self._ended.pop(dispatch.dispatch_id, None) is not None:
            self._ended_setpoints -= _size_of(dispatch)
            self._open[dispatch.dispatch_id] = dispatch

    def get(self, dispatch_id: str) -> Dispatch | None:
        """The dispatch with this id."""
        return self._open.get(dispatch_id) or self._ended.get(dispatch_id)

    def by_wire_id(self, wire_id: str) -> Dispatch | None:
        """The dispatch that an agent knows by this id."""
        return self._by_wire_id.get(wire_id)

    def newest(self, limit: int, *, counts: Callable[[Dispatch], bool]) -> list[Dispatch]:
        """The last `limit` dispatches for which `counts` is true, newest first."""
        found = filter(counts, [*self._open.values(), *self._ended.values()])
        ordered = sorted(found, key=lambda dispatch: (dispatch.number, dispatch.dispatched_ms), reverse=True)
        return list(islice(ordered, limit))

    def _evict(self, dispatch_id: str) -> None:
        dispatch = self._ended.pop(dispatch_id)
        self._ended_setpoints -= _size_of(dispatch)
        for wire_id in self._wire_ids.pop(dispatch_id):
            del self._by_wire_id[wire_id]


class ActiveSetpoints:
    """The newest setpoint of each asset, and a schedule of what is due for all of them."""

    def __init__(self) -> None:
        self._current: dict[int, AssetSetpoint] = {}
        self._due: list[tuple[int, int, AssetSetpoint]] = []
        self._number = count()

    def current(self, key: int) -> AssetSetpoint | None:
        """The newest setpoint of an asset; it may have ended."""
        return self._current.get(key)

    def current_open(self, key: int) -> AssetSetpoint | None:
        """The newest setpoint of an asset, unless it has ended."""
        setpoint = self._current.get(key)
        return setpoint if setpoint is not None and setpoint.is_open else None

    def put(self, setpoint: AssetSetpoint) -> AssetSetpoint | None:
        """Make it the asset's newest; return the former one if that is open. `schedule` it next."""
        former = self.current_open(setpoint.key)
        self._current[setpoint.key] = setpoint
        return former

    def remove(self, key: int) -> None:
        """The asset has no setpoint of ours."""
        self._current.pop(key, None)

    def schedule(self, setpoint: AssetSetpoint) -> None:
        """Schedule what is due in its present state, if anything."""
        due_ms = due_ms_of(setpoint)
        if due_ms is not None:
            heapq.heappush(self._due, (due_ms, next(self._number), setpoint))
            if len(self._due) > _MAX_SCHEDULED_EACH * len(self._current) + _MIN_SCHEDULED:
                # Entries of former states would stay until they are due, which may be never.
                self.reschedule_all()

    def pop_due(self, now_ms: int) -> Iterator[AssetSetpoint]:
        """The setpoints for which something is due now, earliest first."""
        while self._due and self._due[0][0] <= now_ms:
            _, _, setpoint = heapq.heappop(self._due)
            due_ms = due_ms_of(setpoint)
            # An entry of a former state is skipped: the present state has its own.
            if due_ms is not None and due_ms <= now_ms:
                yield setpoint

    def reschedule_all(self) -> None:
        """Schedule all setpoints anew: their times have changed."""
        due = [(due_ms_of(setpoint), setpoint) for setpoint in self._current.values()]
        self._due = [(due_ms, next(self._number), one) for due_ms, one in due if due_ms is not None]
        heapq.heapify(self._due)


class DispatchRegistry:
    """Holds all dispatches and changes their setpoints' states.

    Attributes:
        active: the setpoints by asset.
        history: the dispatches by id.
        tracked: the setpoints whose assets' power is compared with them, by asset.
    """

    def __init__(
        self, *, fleet: Fleet, store: Store, counters: Counters, events: EventBus, wall: WallClock
    ) -> None:
        self.active = ActiveSetpoints()
        self.history = DispatchHistory()
        self.tracked: dict[int, AssetSetpoint] = {}
        self._asset_ids = fleet.asset_ids
        self._fleet = fleet
        self._store = store
        self._counters = counters
        self._events = events
        self._wall = wall
        # What changed since it was recorded, with the keys of the allocations that did: a group is not
        # recorded for each of its setpoints.
        self._changed: dict[Dispatch, set[int]] = {}

    def start(self, dispatch: Dispatch) -> None:
        """Add a new dispatch; `activate` each of its setpoints next."""
        dispatch.is_starting = True
        self.history.add(dispatch)
        self.mark_changed(dispatch, keys=(*dispatch.setpoints, *dispatch.excluded))

    def activate(self, setpoint: AssetSetpoint) -> bool:
        """Make a setpoint of a new dispatch its asset's; the former one is superseded.

        It is not scheduled, as most are sent at once, which schedules them.

        Returns:
            False when the asset has a setpoint of a later dispatch, and this one is superseded; or when its
            asset was retired since the dispatch was built, and it has failed.
        """
        if setpoint.key != self._fleet.index_by_id.get(self._asset_ids[setpoint.key]):
            self.transition(setpoint, "failed", reason=LEFT_THE_FLEET)
            return False
        current = self.active.current_open(setpoint.key)
        if current is not None and current.dispatch.number > setpoint.dispatch.number:
            self.transition(setpoint, "superseded", reason=f"by {current.dispatch.dispatch_id}")
            return False
        self._supersede_by(setpoint)
        return True

    def recover(self, dispatch: Dispatch) -> None:
        """Add a dispatch from before the start; the oldest first."""
        self.history.add(dispatch)
        for setpoint in dispatch.setpoints.values():
            if setpoint.is_open:
                self.make_current(setpoint)

    def make_current(self, setpoint: AssetSetpoint) -> None:
        """The setpoint is its asset's newest, and supersedes the former."""
        self._supersede_by(setpoint)
        self.active.schedule(setpoint)

    def _supersede_by(self, setpoint: AssetSetpoint) -> None:
        former = self.active.put(setpoint)
        if former is not None:
            self.transition(former, "superseded", reason=f"by {setpoint.dispatch.dispatch_id}")
        self._update_tracking(setpoint)

    def transition(self, setpoint: AssetSetpoint, state: DispatchState, *, reason: str | None = None) -> bool:
        """Change a setpoint's state; False, and nothing has changed, when the lifecycle does not allow it."""
        if not setpoint.transition(state, now_ms=self._wall.now_ms(), reason=reason):
            return False
        counter = f"dispatches_{state}"
        setattr(self._counters, counter, getattr(self._counters, counter) + 1)
        self.active.schedule(setpoint)
        self._update_tracking(setpoint)
        self.mark_changed(setpoint.dispatch, keys=(setpoint.key,), state=state, reason=reason)
        if state in _WARNED_STATES:
            self._warn(setpoint)
        return True

    def end(self, setpoint: AssetSetpoint, reason: str | None) -> bool:
        """End it: `completed` if it was tracking once, else `not_tracked`; False when it cannot end so."""
        prefix = "" if reason is None else f"{reason}; "
        if setpoint.tracking_ms is None:
            tracker = setpoint.tracker
            why = NO_SAMPLE if tracker is None else tracker.untracked_reason(setpoint.ends_ms)
            return self.transition(setpoint, "not_tracked", reason=prefix + why)
        if setpoint.state == "deviating":
            reason = f"{prefix}deviating at the end: {setpoint.reason}"
        return self.transition(setpoint, "completed", reason=reason)

    def clock_stepped(self, by_ms: int) -> None:
        """The wall clock was set by this: the times of open dispatches are corrected and recorded."""
        for dispatch in self.history:
            dispatch.shift_times(by_ms)
            self.mark_changed(dispatch, keys=(*dispatch.setpoints, *dispatch.retired_keys))
        self.active.reschedule_all()

    def mark_changed(
        self,
        dispatch: Dispatch,
        *,
        keys: Iterable[int],
        state: DispatchState | None = None,
        reason: str | None = None,
    ) -> None:
        """The dispatch and its allocations of these assets have changed, and are to be recorded."""
        self.history.archive_if_ended(dispatch)
        if not dispatch.adopted:
            self._changed.setdefault(dispatch, set()).update(keys)
        if self._events.wants(DispatchChanged):
            # Below 0 are places of assets that have left the fleet.
            in_fleet = tuple(key for key in keys if key >= 0)
            self._events.publish(
                DispatchChanged(dispatch.dispatch_id, in_fleet, state, reason, self._wall.now_ms())
            )

    def flush(self, *, most_assets: float = inf) -> None:
        """Record the changes now; of the dispatches with at most so many candidates."""
        for dispatch in tuple(self._changed):
            if len(dispatch.candidate_keys) <= most_assets:
                run_at_once(self.record_steps(dispatch))

    def flush_steps(self) -> Steps[None]:
        """Record the changes, in steps."""
        for dispatch in tuple(self._changed):
            # A dispatch that is starting is recorded when it has started.
            if not dispatch.is_starting:
                yield from self.record_steps(dispatch)

    def record_steps(self, dispatch: Dispatch) -> Steps[None]:
        """Record the changes of one dispatch, in steps."""
        # It stays among the changed until it is recorded: a flush meanwhile records it.
        if dispatch not in self._changed:
            return
        record = yield from dispatch.record_steps(self._asset_ids, whole=False)
        keys = self._changed.pop(dispatch, None)
        if keys is not None:
            self._store.record_dispatch(
                record, changed=keys, share_of=partial(dispatch.allocation_record, self._asset_ids)
            )

    def _update_tracking(self, setpoint: AssetSetpoint) -> None:
        if setpoint.state in TRACKED_STATES:
            if setpoint.state == "sent":
                setpoint.tracker = None
            self.tracked[setpoint.key] = setpoint
            return
        if self.tracked.get(setpoint.key) is setpoint:
            del self.tracked[setpoint.key]
        if setpoint.state in TERMINAL:
            setpoint.ended_mean_mw = setpoint.mean_mw
        setpoint.tracker = None

    def _warn(self, setpoint: AssetSetpoint) -> None:
        if setpoint.state == "deviating" and setpoint.deviations > 1:
            # A power at the edge of the tolerance is counted each time, and logged once.
            return
        asset = self._fleet.assets[setpoint.key]
        log.warning(
            "dispatch not obeyed",
            state=setpoint.state,
            dispatch_id=setpoint.dispatch.dispatch_id,
            asset_id=asset.id,
            asset=asset.name,
            site=asset.site_name,
            mw=setpoint.mw,
            mean_mw=setpoint.mean_mw,
            reason=setpoint.reason,
        )


def due_ms_of(setpoint: AssetSetpoint) -> int | None:
    """When something is due in its present state: its expiry, a missing acknowledgement or its end."""
    if setpoint.state == "queued":
        until_ms = setpoint.queue_until_ms
        return until_ms if setpoint.ends_ms is None else min(until_ms, setpoint.ends_ms)
    if setpoint.state == "sent":
        sent_ms = setpoint.sent_ms if setpoint.sent_ms is not None else setpoint.dispatch.dispatched_ms
        return sent_ms + ACK_TIMEOUT_MS
    if setpoint.state in IN_FORCE and setpoint.ends_ms is not None:
        return setpoint.ends_ms + END_GRACE_MS
    return None


def _size_of(dispatch: Dispatch) -> int:
    return 1 + len(dispatch.setpoints) + len(dispatch.excluded)
