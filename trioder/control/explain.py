"""Why each battery of a group is asked for what it is, in one sentence with the numbers.

The machine-readable reasons, and what decides them, are in `trioder.control.allocation`.
"""

from trioder.control.allocation import Split
from trioder.control.candidates import Candidate, ramp_window_s

_EXCLUDED = {
    "not_connected": "not connected",
    "suspect": "what its agent reported last cannot be",
    "no_telemetry": "nothing reported in this session yet",
    "commanded_otherwise": "commanded otherwise",
    "too_old": "its agent is too old to know reversion_mw",
}


def explain(split: Split, position: int, candidate: Candidate, *, hold_s: float) -> str:
    """Return why the candidate at `position` of the split gets what it gets.

    `hold_s` is what the candidates were made with. Powers are signed as setpoints are.
    """
    sign = -1.0 if split.total_mw < 0.0 else 1.0
    limit_mw = sign * candidate.limit_mw + 0.0
    match split.reasons[position]:
        case "share":
            return f"{split.allocated_mw[position]:g} MW: {_share_of(split, candidate, hold_s)}"
        case "limited_by_nameplate":
            return f"limited by nameplate: {limit_mw:g} MW is its rating"
        case "limited_by_energy":
            return f"limited by energy: {limit_mw:g} MW can be held for {hold_s:g} s"
        case "limited_by_available":
            return f"limited by available: {limit_mw:g} MW is what the battery reports that it can do now"
        case "limited_by_delivery":
            return f"limited by delivery: {limit_mw:g} MW is what it gave when it was asked for more"
        case "limited_by_ramp":
            return f"limited by ramp: {limit_mw:g} MW can be reached within {ramp_window_s(hold_s):g} s"
        case "stale":
            return f"none: stale, last heard of {candidate.age_s or 0.0:.1f} s ago"
        case excluded:
            return f"none: {_EXCLUDED[excluded]}"


def _share_of(split: Split, candidate: Candidate, hold_s: float) -> str:
    if split.total_mw == 0.0:
        return "0 MW is asked of the whole group"
    whole = split.shared_weight
    match split.strategy:
        case "headroom":
            return f"its share by headroom ({candidate.limit_mw:g} of {whole:g} MW holdable for {hold_s:g} s)"
        case "capacity":
            return f"its share by capacity ({candidate.capacity_mwhr:g} of {whole:g} MWh not at their limit)"
        case "equal":
            return f"an equal share (1 of {whole:.0f} batteries not at their limit)"
