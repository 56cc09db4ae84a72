"""The life of a dispatch at one asset, as a pure state machine; what a group's members amount to together.

queued <-> sent -> accepted | clamped | rejected -> tracking -> completed | superseded | expired | failed
"""

from collections.abc import Mapping
from typing import Literal, get_args

DispatchState = Literal[
    "queued",
    "sent",
    "accepted",
    "clamped",
    "tracking",
    "rejected",
    "completed",
    "superseded",
    "expired",
    "failed",
]
STATES: tuple[DispatchState, ...] = get_args(DispatchState)

# Not known to have arrived.
UNANSWERED: frozenset[DispatchState] = frozenset({"queued", "sent"})
# Obeyed, as far as is known.
IN_FORCE: frozenset[DispatchState] = frozenset({"accepted", "clamped", "tracking"})
# Nothing more becomes of it.
ENDED: frozenset[DispatchState] = frozenset({"rejected", "completed", "superseded", "expired", "failed"})

_END_OF_ANY: frozenset[DispatchState] = frozenset({"superseded", "failed"})
_NEXT: Mapping[DispatchState, frozenset[DispatchState]] = {
    # An agent that comes back may tell of it before it is sent again.
    "queued": _END_OF_ANY | {"sent", "accepted", "clamped", "expired", "completed"},
    # An agent that does not answer is understood by what it does; one that left may never have heard.
    "sent": _END_OF_ANY | {"queued", "accepted", "clamped", "rejected", "tracking", "expired", "completed"},
    "accepted": _END_OF_ANY | {"tracking", "completed"},
    "clamped": _END_OF_ANY | {"tracking", "completed"},
    # Its agent may not have answered yet.
    "tracking": _END_OF_ANY | {"rejected", "completed"},
    **dict.fromkeys(ENDED, frozenset()),
}

# What agents say, in any case. Any other word is consent, as of agents that only say "applied".
_STATE_OF_WORD: Mapping[str, DispatchState] = {
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


def state_of_answer(word: str) -> DispatchState:
    """The state that an agent's word in a `DispatchAck` stands for."""
    return _STATE_OF_WORD.get(word.lower(), "accepted")


def state_of_group(count_by_state: Mapping[DispatchState, int]) -> DispatchState:
    """What the states of a group's members amount to; `failed` when there are no members.

    While any member lives, the group is as far as the one that is least far. Afterwards it is completed when
    any is, else what most of them are.
    """
    living = {state for state, count in count_by_state.items() if count and state not in ENDED}
    for state in STATES:
        if state in living:
            # One that is clamped is as far as one that is not, and says more.
            return "clamped" if state == "accepted" and "clamped" in living else state
    if count_by_state.get("completed"):
        return "completed"
    ended = [(count, state) for state, count in count_by_state.items() if count]
    return max(ended, key=lambda pair: (pair[0], -STATES.index(pair[1])))[1] if ended else "failed"
