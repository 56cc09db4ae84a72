"""Waiting for a dispatch to reach a state, without I/O."""

from collections.abc import Iterable, Mapping

from trioder.client.errors import DispatchEnded
from trioder.client.operation import Operation
from trioder.client.reads import show_dispatch
from trioder.domain.lifecycle import IN_FORCE, LASTED, STATES, TERMINAL, DispatchState
from trioder.schemas.dispatch import DispatchRow

_FIRST_DELAY_S = 0.1
_MAX_DELAY_S = 1.0

# States are passed quickly, some between two reads: which of them show that one was reached. Others, itself.
_TRACKED: frozenset[DispatchState] = frozenset({"tracking", "completed"})
_ACCEPTED: frozenset[DispatchState] = IN_FORCE | LASTED
_SENT: frozenset[DispatchState] = _ACCEPTED | {"sent", "rejected"}
_REACHED_BY: Mapping[DispatchState, frozenset[DispatchState]] = {
    "queued": _SENT | {"queued"},
    "sent": _SENT,
    "accepted": _ACCEPTED,
    # A dispatch has completed if it was tracking once.
    "tracking": _TRACKED,
}


class DispatchWait:
    """Reads a dispatch until it has reached one of some states.

    Args:
        dispatch_id: which.
        until: the state, or any of several. One that is passed is reached: `accepted` by `tracking`.

    Raises:
        ValueError: there is no such state, or no id.
    """

    def __init__(self, dispatch_id: str | None, until: DispatchState | Iterable[DispatchState]) -> None:
        self.request: Operation[DispatchRow] = show_dispatch(dispatch_id, allocations=False)
        self._until: list[DispatchState] = [until] if isinstance(until, str) else list(until)
        unknown = [state for state in self._until if state not in STATES]
        if unknown or not self._until:
            raise ValueError(f"until is {until!r}; it must be of the states {', '.join(STATES)}")
        self._reached = frozenset[DispatchState]().union(
            *(_REACHED_BY.get(state, {state}) for state in self._until)
        )
        self._delay_s = _FIRST_DELAY_S

    def is_over(self, dispatch: DispatchRow) -> bool:
        """Whether it has reached the state.

        Raises:
            DispatchEnded: it will not.
        """
        if dispatch.state in self._reached:
            return True
        if dispatch.state in TERMINAL:
            raise DispatchEnded(
                f"dispatch {dispatch.dispatch_id} is {dispatch.state}, and was not seen to be "
                f"{' or '.join(self._until)}",
                dispatch=dispatch,
            )
        return False

    def next_delay_s(self) -> float:
        """Return when it is read next."""
        delay_s, self._delay_s = self._delay_s, min(2 * self._delay_s, _MAX_DELAY_S)
        return delay_s
