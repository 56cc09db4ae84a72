"""All dispatches: their history by id, the active setpoint of each asset, and the changes to be recorded.

The one place where a setpoint's state changes, is counted, logged and recorded, and where it is decided which
of an asset's setpoints is in force. What causes the changes is in `delivery`, `ack_tracker`, `tracking`,
`reallocation` and `cancellation`; deferred setpoints are sent by `priorities`.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from math import inf

import structlog

from trioder.control.active_setpoints import ActiveSetpoints
from trioder.control.history import DispatchHistory
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.domain.access import ALL_TENANTS
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
LEFT_THE_TENANT = "its site belongs to another tenant now"
# A dispatch to at most so many assets is built, started and recorded in one piece, in about 10 ms.
SMALL_GROUP = 500
_WARNED_STATES: frozenset[DispatchState] = frozenset(
    {"rejected", "expired", "failed", "deviating", "not_tracked"}
)


class DispatchRegistry:
    """Holds all dispatches and changes their setpoints' states.

    Attributes:
        active: the setpoints by asset.
        history: the dispatches by id.
        tracked: the setpoints whose assets' power is compared with them, by asset.
        claimed: the assets that connected, or whose setpoint is another one or has ended, since this was
            emptied.
        vacated: the assets whose setpoint has ended, and for which a deferred one waits.
        expected: the dispatches that are about to be started; agents may have setpoints of them already.
    """

    def __init__(
        self, *, fleet: Fleet, store: Store, counters: Counters, events: EventBus, wall: WallClock
    ) -> None:
        self.active = ActiveSetpoints()
        self.history = DispatchHistory()
        self.tracked: dict[int, AssetSetpoint] = {}
        self.vacated: set[int] = set()
        self.claimed: set[int] = set()
        self.expected: set[str] = set()
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
        """Make a setpoint of a new dispatch its asset's; the former one is superseded or deferred.

        It is not scheduled, as most are sent at once, which schedules them.

        Returns:
            False when the asset has a setpoint of a later dispatch, and this one is superseded; or of a
            higher priority, and it is deferred; or when it was cancelled, or its asset was retired, since
            the dispatch was built.
        """
        if setpoint.state != "queued":
            return False
        if setpoint.key != self._fleet.index_by_id.get(self._asset_ids[setpoint.key]):
            self.transition(setpoint, "failed", reason=LEFT_THE_FLEET)
            return False
        if self.is_foreign(setpoint.dispatch, setpoint.key):
            self.transition(setpoint, "failed", reason=LEFT_THE_TENANT)
            return False
        return self._claim(setpoint)

    def is_foreign(self, dispatch: Dispatch, key: int) -> bool:
        """Whether the asset belongs to another tenant than the dispatch, by the present fleet file.

        A stop stays whosever the asset is: nothing but a person's decision ends it.
        """
        if dispatch.is_stop or dispatch.tenant == ALL_TENANTS:
            return False
        return self._fleet.tenant_of(key) != dispatch.tenant

    def recover(self, dispatch: Dispatch) -> None:
        """Add a dispatch from before the start; the oldest first."""
        self.history.add(dispatch)
        for setpoint in dispatch.setpoints.values():
            if setpoint.state == "deferred":
                self.active.defer(setpoint)
                self.active.schedule(setpoint)
                self.vacated.add(setpoint.key)
            elif setpoint.is_open:
                self.make_current(setpoint)

    def make_current(self, setpoint: AssetSetpoint, *, is_next: bool = False) -> bool:
        """Make it its asset's newest: the former is superseded or deferred; False if it is itself.

        `is_next`: it was the first of those deferred, so none of these goes before it.
        """
        has_asset = self._claim(setpoint, is_next=is_next)
        self.active.schedule(setpoint)
        return has_asset

    def _claim(self, setpoint: AssetSetpoint, *, is_next: bool = False) -> bool:
        """Decide between a setpoint and those that its asset has; False if it does not get the asset."""
        dispatch, key = setpoint.dispatch, setpoint.key
        current, waiting = self.active.rivals(key)
        if waiting and not is_next and not self._contend(setpoint, current, waiting):
            return False
        if current is not None:
            is_equal = current.dispatch.priority == dispatch.priority
            if is_equal and _order(current.dispatch) > _order(dispatch) and not dispatch.is_stop:
                self.transition(setpoint, "superseded", reason=f"by {current.dispatch.dispatch_id}")
                return False
            if (not is_equal or dispatch.is_stop) and _outranks(current, setpoint):
                self._defer(setpoint, behind=current)
                return False
        self.active.put(setpoint)
        self.claimed.add(key)
        if current is not None:
            if is_equal:
                self._supersede(current, dispatch)
            else:
                self._defer(current, behind=setpoint)
        self._update_tracking(setpoint)
        return True

    def _contend(
        self, setpoint: AssetSetpoint, current: AssetSetpoint | None, waiting: Sequence[AssetSetpoint]
    ) -> bool:
        """Decide between a setpoint and those that are deferred; False if it is superseded or deferred."""
        dispatch = setpoint.dispatch
        equal = [one for one in waiting if one.dispatch.priority == dispatch.priority]
        for rival in [] if dispatch.is_stop else equal:
            if _order(rival.dispatch) > _order(dispatch):
                self.transition(setpoint, "superseded", reason=f"by {rival.dispatch.dispatch_id}")
                return False
            self._supersede(rival, dispatch)
        # One that waits for an asset without a setpoint is about to take it over.
        if current is None and _outranks(waiting[0], setpoint):
            self._defer(setpoint, behind=waiting[0])
            return False
        return True

    def _supersede(self, former: AssetSetpoint, dispatch: Dispatch) -> None:
        """A dispatch of the same priority gets the asset; the step before it in a schedule was over."""
        if dispatch.step is None or former.dispatch.dispatch_id != dispatch.step.former_id:
            self.transition(former, "superseded", reason=f"by {dispatch.dispatch_id}")
        elif former.tracking_ms is None and former.state in {"queued", "deferred"}:
            self.transition(former, "expired", reason=f"its step was over, {dispatch.dispatch_id} follows")
        else:
            self.end(former, f"its step is over, {dispatch.dispatch_id} follows")

    def _defer(self, setpoint: AssetSetpoint, *, behind: AssetSetpoint) -> None:
        other = behind.dispatch
        self.active.defer(setpoint)
        self.transition(setpoint, "deferred", reason=f"{other.dispatch_id} has the priority {other.priority}")

    def transition(self, setpoint: AssetSetpoint, state: DispatchState, *, reason: str | None = None) -> bool:
        """Change a setpoint's state; False, and nothing has changed, when the lifecycle does not allow it."""
        before = setpoint.state
        if not setpoint.transition(state, now_ms=self._wall.now_ms(), reason=reason):
            return False
        if state in TERMINAL:
            if before == "deferred":
                self.active.withdraw(setpoint)
            elif self.active.current(setpoint.key) is setpoint:
                self.claimed.add(setpoint.key)
                if self.active.deferred(setpoint.key):
                    self.vacated.add(setpoint.key)
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
        self.active.version += 1
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


def _order(dispatch: Dispatch) -> tuple[tuple[int, int], int]:
    """Of two dispatches with the same priority, the one with the higher order has the asset."""
    return (0, 0) if dispatch.step is None else dispatch.step.precedence, dispatch.number


def _outranks(setpoint: AssetSetpoint, newer: AssetSetpoint) -> bool:
    """Whether a setpoint keeps its asset when a newer one is dispatched."""
    if setpoint.dispatch.priority == newer.dispatch.priority:
        return newer.dispatch.is_stop
    return setpoint.dispatch.rank > newer.dispatch.rank
