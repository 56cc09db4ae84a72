"""Ends dispatches or setpoints early: by a command, by their time, or as their asset is no longer theirs.

Open setpoints are cancelled, completed or failed, and their assets go to their reversions.
"""

from collections.abc import Callable, Iterable

from trioder.control.delivery import Delivery
from trioder.control.model import AssetSetpoint, Dispatch
from trioder.control.priorities import Priorities
from trioder.control.registry import LEFT_THE_FLEET, LEFT_THE_TENANT, DispatchRegistry
from trioder.process.slices import Steps, parts_of

# The cost of cancelling one setpoint.
_CANCEL_US = 12.0


class Cancellation:
    """Cancels dispatches, and stops that are resumed."""

    def __init__(self, *, registry: DispatchRegistry, delivery: Delivery, priorities: Priorities) -> None:
        self._registry = registry
        self._delivery = delivery
        self._priorities = priorities

    def cancel_steps(self, dispatch: Dispatch, *, reason: str) -> Steps[int]:
        """Cancel the open setpoints, and record it; returns how many they were.

        An asset for which a deferred setpoint waits gets that one instead of its reversion.
        """

        def cancel(setpoint: AssetSetpoint) -> bool:
            return self._registry.transition(setpoint, "cancelled", reason=reason)

        return (yield from self._end_steps(dispatch, cancel))

    def complete_steps(self, dispatch: Dispatch, *, reason: str) -> Steps[int]:
        """Do the same with a dispatch whose time is over, though not that of its setpoints: they complete."""

        def complete(setpoint: AssetSetpoint) -> bool:
            if setpoint.tracking_ms is None and setpoint.state in {"queued", "deferred"}:
                return self._registry.transition(setpoint, "expired", reason=reason)
            return self._registry.end(setpoint, reason)

        return (yield from self._end_steps(dispatch, complete))

    def _end_steps(self, dispatch: Dispatch, end: Callable[[AssetSetpoint], bool]) -> Steps[int]:
        dispatch.is_ending = True
        ended = 0
        try:
            for part in parts_of(tuple(dispatch.setpoints.values())):
                for setpoint in part:
                    if end(setpoint):
                        ended += 1
                        # One that was never sent has been obeyed by the headend's model alone.
                        if setpoint.sent_ms is not None:
                            self._delivery.release(setpoint)
                # In the same step, so that no agent is sent the reversion before.
                self._priorities.take_over()
                yield _CANCEL_US * len(part)
        finally:
            dispatch.is_ending = False
        yield from self._registry.record_steps(dispatch)
        return ended

    def end_retired(self, keys: Iterable[int]) -> None:
        """Fail the setpoints of assets that have left the fleet."""
        for key in keys:
            for deferred in self._registry.active.deferred(key):
                self._registry.transition(deferred, "failed", reason=LEFT_THE_FLEET)
            setpoint = self._registry.active.current_open(key)
            if setpoint is not None:
                self._registry.transition(setpoint, "failed", reason=LEFT_THE_FLEET)
                self._delivery.release(setpoint)

    def end_foreign(self, dispatch: Dispatch, keys: Iterable[int]) -> None:
        """Fail the setpoints of those of the assets that are not the dispatch's tenant's any more.

        A group has the others take over. What the former tenant commanded must not drive the asset of the
        next one, who neither sees nor can end it.
        """
        for key in keys:
            if key not in dispatch.setpoints and key not in dispatch.excluded:
                continue
            if not self._registry.is_foreign(dispatch, key):
                dispatch.foreign_keys.discard(key)
                continue
            dispatch.foreign_keys.add(key)
            setpoint = dispatch.setpoints.get(key)
            if setpoint is None or not self._registry.transition(setpoint, "failed", reason=LEFT_THE_TENANT):
                continue
            if setpoint.sent_ms is not None:
                self._delivery.release(setpoint)
