"""Ends setpoints early: by a command, or as their asset is another tenant's; it goes to its reversion."""

from collections.abc import Iterable

from trioder.control.delivery import Delivery
from trioder.control.model import Dispatch
from trioder.control.priorities import Priorities
from trioder.control.registry import LEFT_THE_TENANT, DispatchRegistry
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
        dispatch.is_ending = True
        cancelled = 0
        try:
            for part in parts_of(tuple(dispatch.setpoints.values())):
                for setpoint in part:
                    if self._registry.transition(setpoint, "cancelled", reason=reason):
                        cancelled += 1
                        # One that was never sent has been obeyed by the headend's model alone.
                        if setpoint.sent_ms is not None:
                            self._delivery.release(setpoint)
                # In the same step, so that no agent is sent the reversion before.
                self._priorities.take_over()
                yield _CANCEL_US * len(part)
        finally:
            dispatch.is_ending = False
        yield from self._registry.record_steps(dispatch)
        return cancelled

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
