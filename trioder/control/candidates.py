"""What each battery can give to a group's dispatch, or why it is left out; and for how long it must last.

How a total is then split over them lives in `trioder.control.allocation`.
"""

from collections.abc import Iterable
from math import inf, isfinite
from typing import Literal, NamedTuple

from trioder.domain.assets import Asset
from trioder.domain.holdable import Limit, holdable

Exclusion = Literal["not_connected", "suspect", "no_telemetry", "stale", "commanded_otherwise", "too_old"]
# What holds a battery's share down; `delivery`: what it gave when it was asked for more.
ShareLimit = Limit | Literal["delivery"]

# A setpoint without an end is looked at again within a settlement period; it must last for one.
HOLD_S_WITHOUT_END = 900.0
# An operator sees the total reached within a minute, and within the first quarter of a short dispatch.
RAMP_S = 60.0
_RAMP_SHARE = 0.25


class Known(NamedTuple):
    """What the headend knows of one battery when a group is dispatched; a plain tuple will do.

    Attributes:
        asset_key: its position in the fleet.
        asset: with the nameplate that rules.
        soc_mwhr: MWh, as last reported.
        current_mw: at the meter, + discharges, as last reported.
        age_s: of what was last reported; None when nothing was in the present session.
        connected: whether an agent is there to be commanded.
        commanded_otherwise: whether a command of its own goes before the group's.
        too_old: whether its agent does not know what the group's command says.
        suspect: whether what its agent reported last cannot be trusted.
        available_discharge_mw: what it reports that it can do now; a magnitude.
        available_charge_mw: the same in the other direction.
        delivered_mw: what it gave when this command asked it for more, as a magnitude; None when it obeyed.
    """

    asset_key: int
    asset: Asset
    soc_mwhr: float
    current_mw: float
    age_s: float | None
    connected: bool
    commanded_otherwise: bool = False
    too_old: bool = False
    suspect: bool = False
    available_discharge_mw: float = inf
    available_charge_mw: float = inf
    delivered_mw: float | None = None


class Candidate(NamedTuple):
    """One battery of a group, as the split sees it.

    Attributes:
        asset_key: its position in the fleet.
        capacity_mwhr: MWh, > 0.
        limit_mw: the most it can be asked for in the direction of the total, as a magnitude >= 0.
        limited_by: which of its limits that is.
        excluded: why it gets no setpoint at all; None for a battery that takes part.
        age_s: of what `limit_mw` was made of; None when nothing was reported.
    """

    asset_key: int
    capacity_mwhr: float
    limit_mw: float
    limited_by: ShareLimit = "nameplate"
    excluded: Exclusion | None = None
    age_s: float | None = None


def horizon_s(duration_s: float | None) -> float:
    """Return for how many seconds a group's dispatch of this duration must be held."""
    return HOLD_S_WITHOUT_END if duration_s is None else float(duration_s)


def ramp_window_s(hold_s: float) -> float:
    """Return within how many seconds each battery must reach its part of what is held for `hold_s`."""
    return min(RAMP_S, hold_s * _RAMP_SHARE)


def candidates_of(
    known: Iterable[Known], *, charging: bool, hold_s: float, stale_after_s: float
) -> list[Candidate]:
    """Return a candidate for each battery, in the same order.

    Args:
        known: each battery once.
        charging: whether the total is negative.
        hold_s: as `horizon_s` gives it, > 0.
        stale_after_s: what is older says nothing of the battery now.

    Raises:
        ValueError: hold_s is not a time, or a battery that would take part has a state that is not finite.
    """
    ramp_s = ramp_window_s(hold_s)
    candidates = []
    for (
        key,
        asset,
        soc_mwhr,
        current_mw,
        age_s,
        connected,
        commanded_otherwise,
        too_old,
        suspect,
        available_discharge_mw,
        available_charge_mw,
        delivered_mw,
    ) in known:
        excluded: Exclusion
        if not connected:
            excluded = "not_connected"
        elif suspect:
            excluded = "suspect"
        elif age_s is None:
            excluded = "no_telemetry"
        elif age_s > stale_after_s:
            excluded = "stale"
        elif commanded_otherwise:
            excluded = "commanded_otherwise"
        elif too_old:
            excluded = "too_old"
        else:
            available_mw = available_charge_mw if charging else available_discharge_mw
            limited_by: ShareLimit
            limit_mw, limited_by = holdable(
                asset,
                soc_mwhr,
                current_mw,
                hold_s=hold_s,
                ramp_s=ramp_s,
                charging=charging,
                available_mw=max(0.0, available_mw) if isfinite(available_mw) else None,
            )
            if delivered_mw is not None and delivered_mw < limit_mw:
                limit_mw, limited_by = delivered_mw, "delivery"
            candidates.append(Candidate(key, asset.capacity_mwhr, limit_mw, limited_by, None, age_s))
            continue
        candidates.append(Candidate(key, asset.capacity_mwhr, 0.0, "nameplate", excluded, age_s))
    return candidates
