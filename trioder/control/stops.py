"""Emergency stops: assets are held at 0 MW until a resume, whatever agents answer and whenever they connect.

A stop is a dispatch with the priority `emergency`. Stops that overlap do not supersede each other: an asset
is free when no stop covers it.
"""

from collections.abc import Sequence

import structlog
import trio

from trioder.control.build import DispatchBuilder, stop_setpoint
from trioder.control.cancellation import Cancellation
from trioder.control.delivery import Delivery
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.registry import DispatchRegistry
from trioder.domain.access import ALL_TENANTS
from trioder.domain.dispatch import DispatchTarget
from trioder.domain.fleet import Fleet
from trioder.events.counters import Counters
from trioder.process.slices import Steps, parts_of, run_in_slices

log = structlog.stdlib.get_logger(__name__)

# The cost of building the setpoint of an asset, and of activating and sending it.
_BUILD_US = 2.0
_SEND_US = 10.0
# Between two slices the acknowledgements of those before are handled: with short ones the last asset would
# wait for nearly all of them.
_SLICE_US = 20_000.0
# And of checking whether one is part of a target.
_COVER_US = 0.2


class Stops:
    """The stops in force."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        registry: DispatchRegistry,
        delivery: Delivery,
        builder: DispatchBuilder,
        cancellation: Cancellation,
        counters: Counters,
    ) -> None:
        self._fleet = fleet
        self._registry = registry
        self._delivery = delivery
        self._builder = builder
        self._cancellation = cancellation
        self._counters = counters
        # Of targets whose assets are being stopped; set when they are.
        self._stopping: dict[tuple[DispatchTarget, str], trio.Event] = {}

    async def stop(
        self, target: DispatchTarget, keys: Sequence[int], *, tenant: str, requested_by: str
    ) -> Dispatch:
        """Stop the assets of a target; one that is stopped already stays so.

        It returns once all are stopped, also when another caller is about to stop them.

        *Cancellation*: it is finished first, which takes bounded time.

        Args:
            target: an asset, a site or the fleet.
            keys: its assets.
            tenant: whose; `ALL_TENANTS` for the fleets of all.
            requested_by: the principal's name.
        """
        with trio.CancelScope(shield=True):
            while (stopping := self._stopping.get((target, tenant))) is not None:
                await stopping.wait()
            steps = self.stop_steps(target, keys, tenant=tenant, requested_by=requested_by)
            return await run_in_slices(steps, slice_us=_SLICE_US)
        raise AssertionError("a shielded scope is not cancelled")

    async def resume(self, dispatch: Dispatch, *, requested_by: str) -> None:
        """End a stop; deferred dispatches take over the assets that no other stop covers.

        *Cancellation*: it is finished first, which takes bounded time.
        """
        with trio.CancelScope(shield=True):
            await run_in_slices(self.resume_steps(dispatch, requested_by=requested_by))

    def find(self, target: DispatchTarget, *, tenant: str) -> Dispatch | None:
        """Return the stop of this target; of the fleet each tenant has its own, and so have all together."""
        for dispatch in self._registry.history:
            # A stop during a resume is a new one.
            is_same = dispatch.is_stop and dispatch.target == target and not dispatch.is_ending
            if is_same and (target.kind != "fleet" or dispatch.tenant == tenant):
                return dispatch
        return None

    def stop_steps(
        self, target: DispatchTarget, keys: Sequence[int], *, tenant: str, requested_by: str
    ) -> Steps[Dispatch]:
        """Do what `stop` does, in steps.

        Each step sends what it has stopped, so that no asset waits for the last one.
        """
        former = self.find(target, tenant=tenant)
        if former is not None:
            return former
        stopping = self._stopping[target, tenant] = trio.Event()
        try:
            dispatch = self._builder.build_stop(target, keys, tenant=tenant, requested_by=requested_by)
            for part in parts_of(keys):
                for key in part:
                    dispatch.add(stop_setpoint(dispatch, key))
                yield _BUILD_US * len(part)
            self._registry.start(dispatch)
            try:
                for setpoints in parts_of(tuple(dispatch.setpoints.values())):
                    for setpoint in setpoints:
                        self._stop_asset(setpoint)
                    yield _SEND_US * len(setpoints)
                # The fleet file may have been reloaded since the keys were listed.
                for part in parts_of(self._fleet.keys):
                    self._add(dispatch, part)
                    yield _COVER_US * len(part)
            finally:
                dispatch.is_starting = False
        finally:
            del self._stopping[target, tenant]
            stopping.set()
        dispatch.set_if_answered()
        self._counters.dispatches_stops += 1
        log.warning(
            "emergency stop",
            dispatch_id=dispatch.dispatch_id,
            target=target.kind,
            target_id=target.id or None,
            tenant=tenant,
            requested_by=requested_by,
            assets=len(dispatch.setpoints),
            sent=dispatch.count_by_state["sent"],
        )
        yield from self._registry.record_steps(dispatch)
        return dispatch

    def resume_steps(self, dispatch: Dispatch, *, requested_by: str) -> Steps[int]:
        """Do what `resume` does, in steps; returns how many assets the stop had."""
        log.warning(
            "emergency stop resumed",
            dispatch_id=dispatch.dispatch_id,
            target=dispatch.target.kind,
            target_id=dispatch.target.id or None,
            requested_by=requested_by,
        )
        return (yield from self._cancellation.cancel_steps(dispatch, reason=f"resumed by {requested_by}"))

    def assets_added(self, keys: Sequence[int]) -> None:
        """Stop these assets where they are part of what is stopped: the fleet file has others than before."""
        for dispatch in self._registry.history:
            self._add(dispatch, keys)

    def _add(self, dispatch: Dispatch, keys: Sequence[int]) -> None:
        if not dispatch.is_stop or dispatch.is_ending or dispatch.ended:
            return
        added = [key for key in keys if self._covers(dispatch, key)]
        for key in added:
            setpoint = stop_setpoint(dispatch, key)
            dispatch.add(setpoint)
            self._stop_asset(setpoint)
        if added:
            dispatch.candidate_keys = [*dispatch.candidate_keys, *added]
            self._registry.mark_changed(dispatch, keys=added)

    def _covers(self, dispatch: Dispatch, key: int) -> bool:
        member = dispatch.setpoints.get(key)
        if member is not None and member.is_open:
            return False
        match dispatch.target.kind:
            case "site":
                return self._fleet.assets[key].site_id == dispatch.target.id
            case "fleet":
                return dispatch.tenant in {ALL_TENANTS, self._fleet.tenant_of(key)}
            case _:
                return False

    def _stop_asset(self, setpoint: AssetSetpoint) -> None:
        if self._registry.activate(setpoint):
            self._delivery.send(setpoint)
            self._registry.active.schedule(setpoint)
