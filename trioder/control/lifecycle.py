"""The life of a dispatch at one asset, as a pure state machine; what a group's members amount to together.

queued <-> sent -> accepted | clamped | rejected -> tracking <-> deviating
    -> completed | not_tracked | superseded | expired | failed
"""

from collections.abc import Mapping
from typing import Literal, get_args

DispatchState = Literal[
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
]
STATES: tuple[DispatchState, ...] = get_args(DispatchState)

# Not known to have arrived.
PENDING: frozenset[DispatchState] = frozenset({"queued", "sent"})
# Taken by the agent; `deviating` is one whose power is not what was asked.
IN_FORCE: frozenset[DispatchState] = frozenset({"accepted", "clamped", "deviating", "tracking"})
# Nothing more becomes of it.
TERMINAL: frozenset[DispatchState] = frozenset(
    {"rejected", "completed", "not_tracked", "superseded", "expired", "failed"}
)
# Its time was over.
LASTED: frozenset[DispatchState] = frozenset({"completed", "not_tracked"})

_END_OF_ANY: frozenset[DispatchState] = frozenset({"superseded", "failed"})
_NEXT: Mapping[DispatchState, frozenset[DispatchState]] = {
    # An agent that comes back may tell of it before it is sent again.
    "queued": _END_OF_ANY | LASTED | {"sent", "accepted", "clamped", "expired"},
    # An agent that does not answer is understood by what it does; one that left may never have heard.
    "sent": _END_OF_ANY | LASTED | {"queued", "accepted", "clamped", "rejected", "tracking", "expired"},
    "accepted": _END_OF_ANY | LASTED | {"tracking", "deviating"},
    "clamped": _END_OF_ANY | LASTED | {"tracking", "deviating"},
    # Its agent may not have answered yet.
    "deviating": _END_OF_ANY | LASTED | {"tracking", "rejected"},
    "tracking": _END_OF_ANY | LASTED | {"deviating", "rejected"},
    **dict.fromkeys(TERMINAL, frozenset()),
}

# The contract's statuses and their synonyms, in any case. No other status is consent.
_STATE_OF_WORD: Mapping[str, DispatchState] = {
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
    # Its asset left the setpoint for want of a headend.
    "reverted": "failed",
}


def may_become(state: DispatchState, following: DispatchState) -> bool:
    """Whether a dispatch in `state` can go on to `following`; an ended one goes nowhere."""
    return following in _NEXT[state]


def state_of_answer(status: str) -> DispatchState | None:
    """The state that a `DispatchAck.status` stands for; None for one that is not in the contract."""
    return _STATE_OF_WORD.get(status.lower())


def state_of_group(count_by_state: Mapping[DispatchState, int]) -> DispatchState:
    """What the states of a group's members amount to; `failed` when there are no members.

    While any member lives, the group is as far as the one that is least far. Afterwards it is completed when
    any is, else what most of them are.
    """
    living = {state for state, count in count_by_state.items() if count and state not in TERMINAL}
    for state in STATES:
        if state in living:
            # One that is clamped is as far as one that is not, and says more.
            return "clamped" if state == "accepted" and "clamped" in living else state
    if count_by_state.get("completed"):
        return "completed"
    ended = [(count, state) for state, count in count_by_state.items() if count]
    return max(ended, key=lambda pair: (pair[0], -STATES.index(pair[1])))[1] if ended else "failed"
