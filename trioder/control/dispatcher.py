"""Starts dispatches: has them built and recorded, and their setpoints sent.

The rest of the headend uses dispatch through this module.
"""

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import structlog
import trio

from trioder.control.ack_tracker import AckTracker
from trioder.control.allocator import Allocator, NameplateLimits
from trioder.control.build import DispatchBuilder, dispatch_of
from trioder.control.cancellation import Cancellation
from trioder.control.delivery import Delivery
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.priorities import Priorities
from trioder.control.reallocation import Reallocator
from trioder.control.registry import SMALL_GROUP, DispatchRegistry
from trioder.control.site_limits import SiteLimitTable
from trioder.control.site_power import SitePower
from trioder.control.starting import Starter
from trioder.control.stops import Stops
from trioder.control.tracking import Tracking
from trioder.domain.dispatch import (
    DispatchRecord,
    DispatchRefusedError,
    DispatchRequest,
    GroupRequest,
    StepTerms,
)
from trioder.domain.fleet import Fleet, FleetChange
from trioder.domain.telemetry import Samples
from trioder.events.bus import EventBus
from trioder.events.counters import Counters
from trioder.gateway.sessions import Session, SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.process.slices import Steps, run_at_once, run_in_slices
from trioder.process.wall_time import WallClock
from trioder.store.interface import Store
from trioder.wire.records import Acknowledgement

log = structlog.stdlib.get_logger(__name__)

_MAINTAIN_EVERY_S = 0.5


class Dispatcher:
    """All dispatches; `run` is to be running, or `maintain` called about once a second.

    Attributes:
        limits: the nameplates that apply; those of the fleet file until agents report smaller ones.
        history: the dispatches in memory.
        expected: the ids of dispatches that are about to be started: see `DispatchRegistry`.
        stops: the emergency stops.
        site_limits: the limits of sites; `enforce_site_limits` after a change.
        site_power: what the setpoints of sites amount to.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        sessions: SessionRegistry,
        latest: LatestState,
        store: Store,
        counters: Counters,
        events: EventBus,
        wall: WallClock,
        rng: random.Random,
    ) -> None:
        self.limits = NameplateLimits(fleet)
        self._fleet = fleet
        self._sessions = sessions
        self._counters = counters
        self._wall = wall
        self._asset_ids = fleet.asset_ids
        # Large groups are built one after the other: it bounds the memory of those that are not started.
        self._large_group = trio.Lock()
        self._registry = DispatchRegistry(
            fleet=fleet, store=store, counters=counters, events=events, wall=wall
        )
        self.history = self._registry.history
        self.expected = self._registry.expected
        self._delivery = Delivery(
            fleet=fleet, sessions=sessions, registry=self._registry, counters=counters, wall=wall, rng=rng
        )
        self._tracking = Tracking(
            fleet=fleet,
            limits=self.limits,
            latest=latest,
            sessions=sessions,
            registry=self._registry,
            counters=counters,
            wall=wall,
        )
        self._ack_tracker = AckTracker(
            fleet=fleet,
            limits=self.limits,
            tracking=self._tracking,
            sessions=sessions,
            registry=self._registry,
            delivery=self._delivery,
            counters=counters,
            wall=wall,
        )
        self.site_limits = SiteLimitTable(fleet=fleet, store=store, wall=wall)
        self.site_power = SitePower(
            fleet=fleet,
            limits=self.site_limits,
            registry=self._registry,
            delivery=self._delivery,
            latest=latest,
            wall=wall,
        )
        self._allocator = Allocator(
            limits=self.limits, sessions=sessions, latest=latest, site_power=self.site_power, wall=wall
        )
        self._builder = DispatchBuilder(
            fleet=fleet, sessions=sessions, wall=wall, new_id=self._delivery.new_id
        )
        self._priorities = Priorities(
            registry=self._registry, delivery=self._delivery, site_power=self.site_power, wall=wall
        )
        self._starter = Starter(
            fleet=fleet,
            sessions=sessions,
            registry=self._registry,
            delivery=self._delivery,
            priorities=self._priorities,
            site_power=self.site_power,
            counters=counters,
        )
        self._cancellation = Cancellation(
            registry=self._registry, delivery=self._delivery, priorities=self._priorities
        )
        self.stops = Stops(
            fleet=fleet,
            registry=self._registry,
            delivery=self._delivery,
            builder=self._builder,
            cancellation=self._cancellation,
            counters=counters,
        )
        self._reallocator = Reallocator(
            allocator=self._allocator,
            delivery=self._delivery,
            registry=self._registry,
            latest=latest,
            sessions=sessions,
            counters=counters,
            wall=wall,
        )

    def dispatch(self, request: DispatchRequest, *, dry_run: bool = False) -> Dispatch:
        """Dispatch one asset; its setpoint is `sent` when its agent is connected, else `queued`.

        Args:
            request: the request.
            dry_run: only check it.

        Raises:
            DispatchRefusedError: unknown asset, or a value that it does not accept.
        """
        with self._refusal_logged(asset_id=request.asset_id, mw=request.mw, duration_s=request.duration_s):
            dispatch = self._builder.build_single(request)
            self.site_power.check_single(dispatch)
            self._allocator.check_single(dispatch)
        return dispatch if dry_run else self._start(dispatch)

    def dispatch_group(self, request: GroupRequest, *, dry_run: bool = False) -> Dispatch:
        """Dispatch many assets together; see `dispatch`. What they cannot hold is the shortfall.

        Raises:
            DispatchRefusedError: no asset, or an invalid value.
        """
        with self._refusal_logged(target=request.target.kind, mw=request.mw, duration_s=request.duration_s):
            dispatch = self._builder.build_group(request)
            run_at_once(self._allocate_steps(dispatch))
        return dispatch if dry_run else self._start(dispatch)

    async def dispatch_group_in_slices(
        self, request: GroupRequest, *, dry_run: bool = False
    ) -> DispatchRecord:
        """Do what `dispatch_group` does without blocking the event loop, however many assets there are.

        Dispatches supersede in the order in which this and `dispatch` were called: a dispatch to an asset
        while the group is still being built supersedes the group's setpoint.

        *Cancellation*: nothing was dispatched, unless the setpoints were being sent already. Then that is
        finished first, which takes bounded time.

        Raises:
            DispatchRefusedError: no asset, or an invalid value.
        """
        if len(request.keys) <= SMALL_GROUP:
            await trio.lowlevel.checkpoint_if_cancelled()
            return self.record_of(self.dispatch_group(request, dry_run=dry_run))
        with self._refusal_logged(target=request.target.kind, mw=request.mw, duration_s=request.duration_s):
            dispatch = self._builder.build_group(request)
            async with self._large_group:
                await run_in_slices(self._allocate_steps(dispatch))
                # From here on it is dispatched, whether or not the caller still waits.
                with trio.CancelScope(shield=not dry_run):
                    steps = (
                        dispatch.record_steps(self._asset_ids)
                        if dry_run
                        else self._starter.start_steps(dispatch)
                    )
                    record = await run_in_slices(steps)
        return record

    async def cancel_in_slices(self, dispatch: Dispatch, *, requested_by: str) -> DispatchRecord:
        """End an open dispatch at its reversion, however many assets it has; returns its record.

        *Cancellation*: it is finished first, which takes bounded time.
        """
        with trio.CancelScope(shield=True):
            reason = f"cancelled by {requested_by}"
            cancelled = await run_in_slices(self._cancellation.cancel_steps(dispatch, reason=reason))
            log.info(
                "dispatch cancelled",
                dispatch_id=dispatch.dispatch_id,
                setpoints=cancelled,
                requested_by=requested_by,
            )
        return await self.record_in_slices(dispatch)

    async def complete_in_slices(self, dispatch: Dispatch, *, reason: str) -> None:
        """End a dispatch whose time is over before that of its setpoints; its assets go to their reversions.

        *Cancellation*: it is finished first, which takes bounded time.
        """
        with trio.CancelScope(shield=True):
            await run_in_slices(self._cancellation.complete_steps(dispatch, reason=reason))

    def new_id(self) -> str:
        """Return a new UUID."""
        return self._delivery.new_id()

    def is_available(self, key: int) -> bool:
        """Return whether a group can use an asset now: connected, with a good and fresh sample."""
        return self._allocator.is_available(key)

    def record_of(self, dispatch: Dispatch) -> DispatchRecord:
        """Return the present record of a dispatch."""
        return dispatch.record(self._asset_ids)

    async def record_in_slices(self, dispatch: Dispatch, *, whole: bool = True) -> DispatchRecord:
        """Return the present record of a dispatch, each allocation as of the moment that it is read."""
        return await run_in_slices(dispatch.record_steps(self._asset_ids, whole=whole))

    async def wait_answered(self, dispatch_id: str, *, within_s: float) -> bool:
        """Wait until no setpoint waits for its acknowledgement; False when that took longer."""
        dispatch = self.history.get(dispatch_id)
        if dispatch is None:
            await trio.lowlevel.checkpoint()
            return True
        with trio.move_on_after(within_s):
            await dispatch.answered.wait()
        return dispatch.answered.is_set()

    async def find_in_slices(self, dispatch_id: str) -> DispatchRecord | None:
        """Return the record of a dispatch that is in memory, however large."""
        dispatch = self.history.get(dispatch_id)
        return None if dispatch is None else await self.record_in_slices(dispatch)

    @property
    def version(self) -> int:
        """A number that changes with every change of a setpoint."""
        return self._registry.active.version

    def in_force(self, key: int) -> AssetSetpoint | None:
        """Return the open setpoint of an asset; None without one."""
        return self._registry.active.current_open(key)

    def acknowledged(self, ack: Acknowledgement, *, session: Session) -> None:
        """Apply an acknowledgement; one from another session, or for another setpoint, is only logged."""
        self._ack_tracker.acknowledged(ack, session=session)
        self._priorities.take_over()

    def measured(self, samples: Samples) -> None:
        """Compare the power of assets with their setpoints."""
        self._tracking.measured(samples)

    def session_opened(self, session: Session) -> None:
        """Send the session's assets what is queued and still valid."""
        self._delivery.session_opened(session)
        self._priorities.take_over()

    def session_closed(self, session: Session) -> None:
        """Queue what the session has not acknowledged for the next one."""
        self._delivery.session_closed(session)

    def clock_stepped(self, by_ms: int) -> None:
        """The wall clock was set by this: durations stay, and what was valid until before now ends."""
        self._registry.clock_stepped(by_ms)
        self._delivery.clock_stepped(by_ms)
        self._ack_tracker.end_valid_until()
        self._priorities.take_over()
        self._registry.flush()

    async def run(self) -> None:
        """Maintain the dispatches, until cancelled."""
        while True:
            await trio.sleep(_MAINTAIN_EVERY_S)
            self.maintain()
            await self.flush_large()

    def maintain(self) -> None:
        """Do what is due: expire, end, reallocate and record; `flush_large` records large groups."""
        self._ack_tracker.check_due()
        self._priorities.take_over()
        self._reallocator.check_due()
        self._priorities.take_over()
        self.enforce_site_limits()
        self._registry.flush(most_assets=SMALL_GROUP)

    def enforce_site_limits(self) -> None:
        """Reduce what exceeds a limit of a site; groups move it to other sites that can hold it."""
        self.site_limits.expire()
        for dispatch, reduced in self.site_power.enforce().items():
            self._reallocator.reduced_at_site(dispatch, reduced)

    async def flush_large(self) -> None:
        """Record the changes of large groups, in slices."""
        await run_in_slices(self._registry.flush_steps())

    def flush(self) -> None:
        """Record all changes."""
        self._registry.flush()

    def recover(
        self, records: Iterable[DispatchRecord], *, steps: Mapping[str, StepTerms] | None = None
    ) -> None:
        """Continue the dispatches that were open when the headend before this one stopped.

        Args:
            records: of the dispatches.
            steps: of schedules, by the id of their dispatch.
        """
        steps = steps or {}
        for record in sorted(records, key=lambda record: record.dispatched_ms):
            dispatch = dispatch_of(
                record,
                self._fleet,
                now_ms=self._wall.now_ms(),
                step=steps.get(record.dispatch_id),
            )
            if dispatch is not None:
                self._registry.recover(dispatch)
                self._delivery.dispatch_recovered(dispatch)
                if dispatch.retired:
                    self._registry.mark_changed(dispatch, keys=dispatch.retired_keys)
                self._cancellation.end_foreign(dispatch, dispatch.candidate_keys)
        # The fleet file may have others than when the headend stopped.
        self.stops.assets_added(self._fleet.keys)
        self._priorities.take_over()
        self._registry.flush()

    def fleet_changed(self, change: FleetChange) -> None:
        """Fail the open setpoints of assets that are retired, or another tenant's now.

        Groups are reallocated, stops include new assets.
        """
        self._cancellation.end_retired(change.retired)
        for dispatch in self._registry.history:
            self._cancellation.end_foreign(dispatch, change.changed)
        self._priorities.take_over()
        self.stops.assets_added((*change.added, *change.changed))
        self.enforce_site_limits()

    def setpoint_for(self, key: int, reported_mw: float, now_ms: int) -> float:
        """Return the setpoint of an asset for the headend's model; `reported_mw` is its latest sample's."""
        return self._registry.active.model_setpoint_mw(key, reported_mw, now_ms)

    def deviating(self) -> int:
        """Return how many setpoints are deviating."""
        return sum(dispatch.count_by_state["deviating"] for dispatch in self.history)

    def _allocate_steps(self, dispatch: Dispatch) -> Steps[None]:
        yield from self._allocator.allocate_steps(dispatch)
        if dispatch.step is not None and dispatch.step.wire_id:
            for setpoint in dispatch.setpoints.values():
                setpoint.wire_id = dispatch.step.wire_id

    def _start(self, dispatch: Dispatch) -> Dispatch:
        run_at_once(self._starter.start_steps(dispatch))
        return dispatch

    @contextmanager
    def _refusal_logged(self, **described: object) -> Iterator[None]:
        try:
            yield
        except DispatchRefusedError as refusal:
            self._counters.dispatches_refused += 1
            log.warning("dispatch refused", **described, reason=refusal.message)
            raise
