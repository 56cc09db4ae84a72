"""The states of one asset's setpoint as a pure state machine, and the aggregate state of a group.

queued <-> sent -> accepted | clamped | rejected -> tracking <-> deviating
    -> completed | not_tracked | superseded | expired | failed | cancelled

Any open state -> deferred, while a dispatch with a higher priority has the asset; then queued again.
"""

from collections.abc import Mapping
from typing import Literal, get_args

DispatchState = Literal[
    "deferred",
    "queued",
    "sent",
    "accepted",
    "clamped",
    "deviating",
    "tracking",
    "rejected",
    "completed",
    "not_tracked",
    "superseded",
    "expired",
    "failed",
    "cancelled",
]
STATES: tuple[DispatchState, ...] = get_args(DispatchState)

# Not known to have reached the agent.
PENDING: frozenset[DispatchState] = frozenset({"queued", "sent"})
# Acknowledged by the agent, or seen to be obeyed.
IN_FORCE: frozenset[DispatchState] = frozenset({"accepted", "clamped", "deviating", "tracking"})
# The state does not change any more.
TERMINAL: frozenset[DispatchState] = frozenset(
    {"rejected", "completed", "not_tracked", "superseded", "expired", "failed", "cancelled"}
)
# It may still change, least advanced first.
OPEN: tuple[DispatchState, ...] = tuple(state for state in STATES if state not in TERMINAL)
# Its duration was over.
LASTED: frozenset[DispatchState] = frozenset({"completed", "not_tracked"})

_END_OF_ANY: frozenset[DispatchState] = frozenset({"superseded", "failed", "cancelled"})
_OF_ANY: frozenset[DispatchState] = _END_OF_ANY | {"deferred"}
_NEXT: Mapping[DispatchState, frozenset[DispatchState]] = {
    # It is queued again as another setpoint of its dispatch: see `AssetSetpoint.reallocate`.
    "deferred": _END_OF_ANY | LASTED | {"expired"},
    # An agent that reconnects may report it as active before it is sent again.
    "queued": _OF_ANY | LASTED | {"sent", "accepted", "clamped", "expired"},
    # Without an acknowledgement, telemetry decides; after a disconnect it may never have arrived.
    "sent": _OF_ANY | LASTED | {"queued", "accepted", "clamped", "rejected", "tracking", "expired"},
    "accepted": _OF_ANY | LASTED | {"tracking", "deviating"},
    "clamped": _OF_ANY | LASTED | {"tracking", "deviating"},
    # Its agent may not have acknowledged it yet.
    "deviating": _OF_ANY | LASTED | {"tracking", "rejected"},
    "tracking": _OF_ANY | LASTED | {"deviating", "rejected"},
    **dict.fromkeys(TERMINAL, frozenset()),
}

# The protocol's statuses and their synonyms, in any case. No other status means acceptance.
_STATE_OF_STATUS: Mapping[str, DispatchState] = {
    "applied": "accepted",
    "accepted": "accepted",
    "active": "accepted",
    "ok": "accepted",
    "clamped": "clamped",
    "limited": "clamped",
    "rejected": "rejected",
    "refused": "rejected",
    "error": "rejected",
    "failed": "rejected",
    "expired": "expired",
    "superseded": "superseded",
    "completed": "completed",
    # The asset reverted because its agent lost the headend.
    "reverted": "failed",
}


def can_transition(state: DispatchState, following: DispatchState) -> bool:
    """Whether `following` is allowed after `state`."""
    return following in _NEXT[state]


def state_of_status(status: str) -> DispatchState | None:
    """The state that a `DispatchAck.status` stands for; None for one that is not in the protocol."""
    return _STATE_OF_STATUS.get(status.lower())


def state_of_group(count_by_state: Mapping[DispatchState, int]) -> DispatchState:
    """The aggregate of the setpoints' states; `failed` when there are none.

    While any setpoint is open, it is the state of the least advanced one. Afterwards it is `cancelled` or
    `completed` when any is, else the most frequent.
    """
    for state in OPEN:
        if count_by_state.get(state):
            # Both are equally advanced, and `clamped` says more.
            return "clamped" if state == "accepted" and count_by_state.get("clamped") else state
    if count_by_state.get("cancelled"):
        return "cancelled"
    if count_by_state.get("completed"):
        return "completed"
    ended = [(count, state) for state, count in count_by_state.items() if count]
    return max(ended, key=lambda pair: (pair[0], -STATES.index(pair[1])))[1] if ended else "failed"
