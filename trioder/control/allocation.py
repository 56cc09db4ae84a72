"""Splits a total over a group's batteries, and explains each one's part of it.

No battery gets more than it can hold, and nothing is lost to rounding. What each can hold is in `allocator`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from typing import Literal, NamedTuple

from trioder.domain.dispatch import Strategy
from trioder.domain.holdable import Limit
from trioder.process.slices import Steps, parts_of

Exclusion = Literal["not_connected", "suspect", "no_telemetry", "stale", "commanded_otherwise", "too_old"]
# What limits a battery's allocation; `delivery`: what it delivered when it was asked for more; `site`: its
# part of what the limit of its site leaves.
ShareLimit = Limit | Literal["delivery", "site"]
Reason = (
    Literal[
        "share",
        "limited_by_nameplate",
        "limited_by_available",
        "limited_by_energy",
        "limited_by_ramp",
        "limited_by_delivery",
        "limited_by_site",
    ]
    | Exclusion
)

_LIMITED: dict[ShareLimit, Reason] = {
    "nameplate": "limited_by_nameplate",
    "available": "limited_by_available",
    "energy": "limited_by_energy",
    "ramp": "limited_by_ramp",
    "delivery": "limited_by_delivery",
    "site": "limited_by_site",
}
# A total that exceeds the sum of all limits by less, as a part of it, does so through rounding only.
_ROUNDING = 1e-12
# Far beyond any plant; sums and products of smaller numbers do not overflow.
_LARGEST = 1e290
# Of each pass over all batteries: the sums, the sort and the comprehensions below.
_PASS_US_EACH = 0.1
# Each round adds the rounding residue to one battery; mostly one is enough.
_RESIDUE_ROUNDS = 16
# The total is to be reached within a minute, and within the first quarter of a short dispatch.
RAMP_S = 60.0
_RAMP_SHARE = 0.25
_LIMIT_TEXTS: dict[Reason, str] = {
    "limited_by_nameplate": "limited by nameplate: {mw:g} MW is its rating",
    "limited_by_energy": "limited by energy: {mw:g} MW can be held for {hold_s:g} s",
    "limited_by_available": "limited by available: {mw:g} MW is what the battery reports that it can do now",
    "limited_by_delivery": "limited by delivery: {mw:g} MW is what it gave when it was asked for more",
    "limited_by_ramp": "limited by ramp: {mw:g} MW can be reached within {ramp_s:g} s",
    "limited_by_site": "limited by the site: {mw:g} MW is its part of what the site's limit leaves",
}
_EXCLUDED = {
    "not_connected": "not connected",
    "suspect": "what its agent reported last cannot be",
    "no_telemetry": "nothing reported in this session yet",
    "commanded_otherwise": "commanded otherwise",
    "too_old": "its agent is too old to know reversion_mw",
}


class Candidate(NamedTuple):
    """One battery of a group.

    Attributes:
        asset_key: its position in the fleet.
        capacity_mwhr: MWh, > 0.
        limit_mw: the most it can hold in the direction of the total, as a magnitude >= 0.
        limited_by: which of its limits that is.
        excluded: why it gets no setpoint; None for a battery that takes part.
        age_s: of the sample that `limit_mw` is computed from; None without one.
    """

    asset_key: int
    capacity_mwhr: float
    limit_mw: float
    limited_by: ShareLimit = "nameplate"
    excluded: Exclusion | None = None
    age_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A split of a total. The columns are in the candidates' order.

    Attributes:
        total_mw: of the group, + discharges.
        hold_s: for how long it is to be held.
        allocated_mw: the setpoint of each, 0.0 or of the total's sign; None for those excluded.
        reasons: `share`, the limit that a battery is at, or why it is excluded.
        shortfall_mw: the part of the total that no battery can hold, of the total's sign.
        shared_weight: the sum of the weights of those below their limit: MW holdable (`headroom`), MWh of
            capacity (`capacity`) or batteries (`equal`).
    """

    total_mw: float
    strategy: Strategy
    hold_s: float
    candidates: Sequence[Candidate]
    allocated_mw: Sequence[float | None]
    reasons: Sequence[Reason]
    shortfall_mw: float
    shared_weight: float

    def explain(self, position: int) -> tuple[Reason, str]:
        """Return why the candidate at `position` is allocated this: for programs, and for people."""
        return self.reasons[position], _explain(self, position)


def split_steps(
    total_mw: float, candidates: Sequence[Candidate], strategy: Strategy, *, hold_s: float
) -> Steps[Split]:
    """Split a total over the candidates that take part; pauses between its passes over them.

    `headroom` allocates to each the same part of what it can hold. `capacity` and `equal` allocate in
    proportion to the capacity, or equally; what a battery cannot hold of its share is allocated to the
    others in the same proportion. One that is limited to what it delivered keeps that, unless these are more
    than the total. The sum of the allocations and the shortfall is the total to within 1e-6 MW, or, for
    totals beyond 1e6 MW, to within 1e-12 of it.

    Raises:
        ValueError: total_mw is NaN or infinite, or of a candidate that takes part the limit is not finite and
            >= 0, or (`capacity`) the capacity not finite and > 0.
    """
    pass_us = _PASS_US_EACH * len(candidates)
    if not math.isfinite(total_mw):
        raise ValueError(f"total_mw is {total_mw}; it must be a finite number")
    positions = [position for position, candidate in enumerate(candidates) if candidate.excluded is None]
    yield pass_us
    group = [candidates[position] for position in positions]
    yield pass_us
    limits = [min(candidate.limit_mw, _LARGEST) for candidate in group]
    yield pass_us
    weights = _weights(group, limits, strategy)
    yield pass_us
    if not all(0.0 <= candidate.limit_mw < math.inf for candidate in group):
        _refuse_bad_numbers(group)

    size_mw = abs(total_mw)
    kept = [candidate.limited_by == "delivery" for candidate in group]
    shares, missing_mw = yield from _share_steps(size_mw, limits, weights, kept)
    yield pass_us
    allocated: list[float | None] = [None] * len(candidates)
    reasons: list[Reason] = [candidate.excluded or "share" for candidate in candidates]
    shared_weights = []
    sign = -1.0 if total_mw < 0.0 else 1.0
    yield pass_us
    for position, share_mw, limit_mw, weight in zip(positions, shares, limits, weights, strict=True):
        allocated[position] = sign * share_mw + 0.0  # never -0.0
        if share_mw >= limit_mw and size_mw > 0.0:
            reasons[position] = _LIMITED[candidates[position].limited_by]
        else:
            shared_weights.append(weight)
    yield pass_us
    return Split(
        total_mw=total_mw + 0.0,
        strategy=strategy,
        hold_s=hold_s,
        candidates=candidates,
        allocated_mw=allocated,
        reasons=reasons,
        shortfall_mw=sign * missing_mw + 0.0,
        shared_weight=math.fsum(shared_weights),
    )


def ramp_window_s(hold_s: float) -> float:
    """Return within how many seconds a battery must reach a power that it is to hold for `hold_s`."""
    return min(RAMP_S, hold_s * _RAMP_SHARE)


def _weights(group: Sequence[Candidate], limits: list[float], strategy: Strategy) -> list[float]:
    match strategy:
        case "headroom":
            return limits
        case "capacity":
            if not all(0.0 < candidate.capacity_mwhr < math.inf for candidate in group):
                _refuse_bad_numbers(group)
            return [min(candidate.capacity_mwhr, _LARGEST) for candidate in group]
        case "equal":
            return [1.0] * len(group)


def _share_steps(
    size_mw: float, limits: list[float], weights: list[float], kept: list[bool]
) -> Steps[tuple[list[float], float]]:
    """Return magnitudes within the limits, and what is missing of the total's magnitude.

    Those of `kept` get their limits, unless these are more than the total.
    """
    if size_mw == 0.0:
        return [0.0] * len(limits), 0.0
    missing_mw = _difference(size_mw, limits)
    if missing_mw >= 0.0:
        return limits, missing_mw if missing_mw > size_mw * _ROUNDING else 0.0
    kept_mw = math.fsum(compress(limits, kept))
    if not any(kept) or kept_mw >= size_mw:
        shares = yield from _proportional_steps(size_mw, limits, weights)
    else:
        others = [position for position, is_kept in enumerate(kept) if not is_kept]
        their_limits = [limits[position] for position in others]
        by_limit = weights is limits
        their_weights = their_limits if by_limit else [weights[position] for position in others]
        of_others = yield from _proportional_steps(size_mw - kept_mw, their_limits, their_weights)
        shares = limits.copy()
        for position, share_mw in zip(others, of_others, strict=True):
            shares[position] = share_mw
    yield _PASS_US_EACH * len(limits)
    yield from _add_residue_steps(size_mw, shares, limits)
    return shares, 0.0


def _proportional_steps(size_mw: float, limits: list[float], weights: list[float]) -> Steps[list[float]]:
    """Return shares by weight within the limits, whose sum is more than the total."""
    if weights is not limits:
        return (yield from _water_fill_steps(size_mw, limits, weights))
    part = size_mw / math.fsum(limits)
    return [limit_mw * part for limit_mw in limits]


def _water_fill_steps(size_mw: float, limits: list[float], weights: list[float]) -> Steps[list[float]]:
    """Return shares by weight, cut off at each limit; less than the sum of the limits is to be shared."""
    # The level of MW per weight rises until all is shared; those that it reaches first are full.
    ratios = [limit_mw / weight for limit_mw, weight in zip(limits, weights, strict=True)]
    pass_us = _PASS_US_EACH * len(limits)
    yield pass_us
    order = yield from _order_steps(ratios)
    # Sums of positive numbers from both ends: a running difference would lose small weights behind large.
    filled_mw = accumulate((limits[position] for position in order), initial=0.0)
    open_weights = list(accumulate(weights[position] for position in reversed(order)))[::-1]
    yield pass_us
    full = 0
    for position, open_weight, below_mw in zip(order, open_weights, filled_mw, strict=False):
        if ratios[position] * open_weight > size_mw - below_mw:
            break
        full += 1
    yield pass_us
    rest_mw = max(0.0, _difference(size_mw, (limits[position] for position in order[:full])))
    rest_weight = math.fsum(weights[position] for position in order[full:])
    yield pass_us
    shares = limits.copy()
    for position in order[full:]:
        shares[position] = min(limits[position], rest_mw * (weights[position] / rest_weight))
    return shares


def _order_steps(numbers: list[float]) -> Steps[list[int]]:
    """Return the positions of the numbers, smallest number first."""
    order: list[int] = []
    for positions in parts_of(range(len(numbers))):
        order += sorted(positions, key=numbers.__getitem__)
        yield _PASS_US_EACH * len(positions)
    # The sort finds the runs, and only merges them.
    order.sort(key=numbers.__getitem__)
    yield _PASS_US_EACH * len(numbers)
    return order


def _add_residue_steps(size_mw: float, shares: list[float], limits: list[float]) -> Steps[None]:
    """Bring the sum of the shares to `size_mw`: add the rounding residue where there is most room for it."""
    for _ in range(_RESIDUE_ROUNDS):
        residue_mw = _difference(size_mw, shares)
        if residue_mw == 0.0:
            return
        if residue_mw > 0.0:
            rooms = [limit_mw - share_mw for limit_mw, share_mw in zip(limits, shares, strict=True)]
        else:
            # One at its limit stays there, as long as any other can be reduced.
            open_mw = [
                share_mw if share_mw < limit_mw else 0.0
                for limit_mw, share_mw in zip(limits, shares, strict=True)
            ]
            rooms = open_mw if any(open_mw) else shares
        yield _PASS_US_EACH * len(limits)
        position = max(range(len(rooms)), key=rooms.__getitem__)
        share_mw = min(max(shares[position] + residue_mw, 0.0), limits[position])
        if share_mw == shares[position]:
            return
        shares[position] = share_mw


def _difference(total: float, parts: Iterable[float]) -> float:
    """Return the total less the parts, rounded once."""
    return -math.fsum((-total, *parts))


def _refuse_bad_numbers(group: Iterable[Candidate]) -> None:
    for candidate in group:
        if not 0.0 <= candidate.limit_mw < math.inf:
            raise ValueError(
                f"limit_mw of asset {candidate.asset_key} is {candidate.limit_mw}; it must be finite and >= 0"
            )
        if not 0.0 < candidate.capacity_mwhr < math.inf:
            raise ValueError(
                f"capacity_mwhr of asset {candidate.asset_key} is {candidate.capacity_mwhr}; "
                "it must be finite and > 0"
            )


def _explain(split: Split, position: int) -> str:
    """Explain in one sentence with the numbers; powers are signed as setpoints are."""
    candidate, hold_s = split.candidates[position], split.hold_s
    sign = -1.0 if split.total_mw < 0.0 else 1.0
    reason = split.reasons[position]
    text = _LIMIT_TEXTS.get(reason)
    if text is not None:
        limit_mw = sign * candidate.limit_mw + 0.0
        return text.format(mw=limit_mw, hold_s=hold_s, ramp_s=ramp_window_s(hold_s))
    match reason:
        case "share":
            return f"{split.allocated_mw[position]:g} MW: {_explain_share(split, candidate)}"
        case "stale":
            return f"none: stale, last heard of {candidate.age_s or 0.0:.1f} s ago"
        case excluded:
            return f"none: {_EXCLUDED[excluded]}"


def _explain_share(split: Split, candidate: Candidate) -> str:
    if split.total_mw == 0.0:
        return "0 MW is asked of the whole group"
    whole, hold_s = split.shared_weight, split.hold_s
    match split.strategy:
        case "headroom":
            return f"its share by headroom ({candidate.limit_mw:g} of {whole:g} MW holdable for {hold_s:g} s)"
        case "capacity":
            return f"its share by capacity ({candidate.capacity_mwhr:g} of {whole:g} MWh not at their limit)"
        case "equal":
            return f"an equal share (1 of {whole:.0f} batteries not at their limit)"
