"""Ends dispatches early: each open setpoint is cancelled, and its asset goes to its reversion."""

from trioder.control.delivery import Delivery
from trioder.control.model import Dispatch
from trioder.control.priorities import Priorities
from trioder.control.registry import DispatchRegistry
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
