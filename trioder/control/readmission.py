"""When a battery that dropped out of a group may be used again: the rules, and its state there."""

from dataclasses import dataclass

from trioder.domain.lifecycle import DispatchState

# How long a battery must have been good before it is used again; doubled each time that it drops out.
HOLD_OFF_ABSENT_S = 5.0
HOLD_OFF_DEVIATED_S = 60.0
MAX_HOLD_OFF_S = 900.0
# A battery that deviated this often is not used again by the same dispatch.
MAX_DEVIATIONS = 5
# The exclusions that end by themselves; the others are the user's or the agent's decision.
TEMPORARY = frozenset({"not_connected", "no_telemetry", "stale", "suspect"})
# The ends after which an asset may be used again. A refusal, and a later dispatch, are final.
READMITTED_AFTER: frozenset[DispatchState] = frozenset({"failed", "expired", "not_tracked"})


@dataclass(slots=True, eq=False)
class Readmission:
    """When a battery that dropped out of a group, or was limited to what it delivered, may be used again.

    Attributes:
        hold_off_s: how long it must have been good before.
        good_since_ms: since when it is good; None while it is not.
        deviations: how often its power was not what was asked.
    """

    hold_off_s: float
    good_since_ms: int | None = None
    deviations: int = 0


def hold_off(readmissions: dict[int, Readmission], key: int, *, deviated: bool) -> None:
    """An asset drops out or is reduced: it must be good for longer each time before it is used again."""
    former = readmissions.get(key, Readmission(0.0))
    least_s = HOLD_OFF_DEVIATED_S if deviated else HOLD_OFF_ABSENT_S
    hold_off_s = min(MAX_HOLD_OFF_S, max(least_s, 2 * former.hold_off_s))
    readmissions[key] = Readmission(hold_off_s, deviations=former.deviations + deviated)
