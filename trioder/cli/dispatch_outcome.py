"""How far a dispatch has come towards what is waited for, and whether it is fulfilled."""

from collections.abc import Mapping
from typing import Literal

from trioder.cli.printable import line_of
from trioder.cli.quantities import mw_text
from trioder.domain.lifecycle import OPEN, STATES
from trioder.schemas.dispatch import AllocationRow, DispatchRow

Goal = Literal["ack", "tracking", "end"]

# While any asset is in one of these, the goal is not reached.
_BEFORE: Mapping[Goal, frozenset[str]] = {
    "ack": frozenset({"deferred", "queued", "sent"}),
    "tracking": frozenset(OPEN) - {"tracking"},
    "end": frozenset(OPEN),
}
_UNFULFILLED = frozenset({"rejected", "not_tracked", "superseded", "expired", "failed", "cancelled"})
# Of 1 W: sums of splits are exact to this.
_SAME_MW = 1e-6
_MAX_ASSETS = 5


def is_reached(dispatch: DispatchRow, goal: Goal) -> bool:
    """Whether every asset has come so far, or has ended."""
    return not any(dispatch.by_state.get(state) for state in _BEFORE[goal])


def progress_text(dispatch: DispatchRow, goal: Goal) -> str:
    """Return how many assets have come so far, and in which states the assets are."""
    members = sum(dispatch.by_state.values())
    waiting = sum(dispatch.by_state.get(state, 0) for state in _BEFORE[goal])
    what = {"ack": "acknowledged", "tracking": "tracking or ended", "end": "ended"}[goal]
    return f"{members - waiting:,} of {members:,} {what} ({states_text(dispatch.by_state)})"


def states_text(by_state: Mapping[str, int]) -> str:
    """Return how many assets are in which state, the least advanced first."""
    known = [state for state in STATES if by_state.get(state)]
    return ", ".join(f"{by_state[state]:,} {state.replace('_', ' ')}" for state in known) or "no assets"


def shortcomings(dispatch: DispatchRow, names: Mapping[str, str]) -> list[str]:
    """Return why a dispatch is not wholly fulfilled, one reason each; none if it is.

    An asset that dropped out of a group is none, where the others do its share.

    Args:
        dispatch: with its allocations.
        names: of the assets.
    """
    reasons = []
    if abs(dispatch.shortfall_mw) > _SAME_MW:
        reasons.append(f"shortfall of {mw_text(dispatch.shortfall_mw, signed=True)}")
    replaced = {dropped.asset_id for resplit in dispatch.resplits for dropped in resplit.dropped}
    failed = [row for row in dispatch.allocations or () if _has_failed(row) and row.asset_id not in replaced]
    reasons += [_failure(row, names) for row in failed[:_MAX_ASSETS]]
    if len(failed) > _MAX_ASSETS:
        reasons.append(f"and {len(failed) - _MAX_ASSETS:,} more assets")
    return reasons


def _has_failed(row: AllocationRow) -> bool:
    return row.state in _UNFULFILLED


def _failure(row: AllocationRow, names: Mapping[str, str]) -> str:
    name = line_of(names.get(row.asset_id, row.asset_id), 60)
    reason = f": {line_of(row.reason)}" if row.reason else ""
    return f"{name} {(row.state or '').replace('_', ' ')}{reason}"
