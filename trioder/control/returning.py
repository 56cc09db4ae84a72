"""Who may take part in a group's dispatch later, or again: batteries that have been good for long enough.

What they are then given is decided in `resplit`.
"""

from collections.abc import Callable

from trioder.control.lifecycle import TERMINAL, DispatchState
from trioder.control.model import Dispatch, Standing

# How long a battery must have been good before it takes part; doubled each time that it drops out.
HOLD_OFF_AWAY_MS = 5_000
HOLD_OFF_DEVIATED_MS = 60_000
MAX_HOLD_OFF_MS = 900_000
# A battery that so often did not do what it was asked is not tried again by the same command.
MAX_DEVIATIONS = 5

# What keeps a battery out only while it lasts; the other reasons are the user's or the agent's decision.
_PASSING = frozenset({"not_connected", "no_telemetry", "stale", "suspect"})
# How a member ended that may come in again. A refusal, and a newer command, stand.
_MAY_RETURN: frozenset[DispatchState] = frozenset({"failed", "expired", "not_tracked"})


def note_dropout(command: Dispatch, key: int, *, deviated: bool) -> None:
    """A member drops out, or is given less because it delivered less."""
    standing = command.standings.get(key)
    least_ms = HOLD_OFF_DEVIATED_MS if deviated else HOLD_OFF_AWAY_MS
    hold_off_ms = least_ms if standing is None else max(least_ms, 2 * standing.hold_off_ms)
    deviations = deviated + (0 if standing is None else standing.deviations)
    command.standings[key] = Standing(min(hold_off_ms, MAX_HOLD_OFF_MS), deviations=deviations)


def ready_to_return(command: Dispatch, now_ms: int, *, is_good: Callable[[int], bool]) -> set[int]:
    """Return who may take part now, or be asked for more than it delivered.

    Args:
        command: whose; the standings of its batteries are brought up to date.
        now_ms: now.
        is_good: whether a battery is connected, reports good values, and is under no other command.
    """
    ready = set()
    for key in _candidates(command):
        standing = command.standings.setdefault(key, Standing(HOLD_OFF_AWAY_MS))
        if standing.deviations >= MAX_DEVIATIONS:
            continue
        if not is_good(key):
            standing.good_since_ms = None
        elif standing.good_since_ms is None:
            standing.good_since_ms = now_ms
        elif now_ms - standing.good_since_ms >= standing.hold_off_ms:
            ready.add(key)
    return ready


def _candidates(command: Dispatch) -> list[int]:
    out = [key for key, (code, _) in command.left_out.items() if code in _PASSING]
    for key, member in command.members.items():
        if member.state in TERMINAL:
            if member.dropped_out and member.state in _MAY_RETURN:
                out.append(key)
        elif key in command.delivered_mw:
            out.append(key)
    return out
