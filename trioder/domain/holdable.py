"""The power that a battery can reach soon and then hold for a time, and the limit that decides it.

The formulas are in `docs/model.md`; allocation and totals use them.
"""

import math
from typing import Literal

from trioder.domain.assets import Asset, sustainable_mw

Limit = Literal["nameplate", "available", "energy", "ramp"]


def holdable_mw(
    asset: Asset,
    soc_mwhr: float,
    current_mw: float,
    *,
    hold_s: float,
    ramp_s: float,
    available_discharge_mw: float | None = None,
    available_charge_mw: float | None = None,
) -> tuple[float, float]:
    """Return the highest discharge and the highest charge, as magnitudes in MW, that `holdable` gives.

    Raises:
        ValueError: as `holdable`.
    """
    discharge_mw, _ = holdable(
        asset,
        soc_mwhr,
        current_mw,
        hold_s=hold_s,
        ramp_s=ramp_s,
        charging=False,
        available_mw=available_discharge_mw,
    )
    charge_mw, _ = holdable(
        asset,
        soc_mwhr,
        current_mw,
        hold_s=hold_s,
        ramp_s=ramp_s,
        charging=True,
        available_mw=available_charge_mw,
    )
    return discharge_mw, charge_mw


def holdable(
    asset: Asset,
    soc_mwhr: float,
    current_mw: float,
    *,
    hold_s: float,
    ramp_s: float,
    charging: bool,
    available_mw: float | None = None,
) -> tuple[float, Limit]:
    """Return the highest power in one direction that the battery can reach and hold, and what limits it.

    A setpoint of this power, applied now, is reached within `ramp_s` seconds and held until `hold_s` seconds
    from now. It is an upper bound only: a battery whose power is higher now may take longer to ramp down. Of
    limits that are equal, the first of nameplate, energy, ramp and available is returned.

    Args:
        asset: the nameplate.
        soc_mwhr: energy in the cells, MWh.
        current_mw: power at the meter now, + discharges.
        hold_s: s, > 0; the time of the ramp is a part of it.
        ramp_s: s, >= 0.
        charging: the direction.
        available_mw: the available power that the device reports in that direction, a magnitude >= 0; it
            reflects faults and deratings that the nameplate does not show. None when it reports none.

    Returns:
        A magnitude in MW at the meter, >= 0, and its limit.

    Raises:
        ValueError: hold_s is not > 0, ramp_s or available_mw is negative, or any number given is NaN or
            infinite.
    """
    total = soc_mwhr + current_mw + hold_s + ramp_s
    if available_mw is not None and not 0.0 <= available_mw < math.inf:
        raise ValueError(f"available_mw is {available_mw}; it must be a finite number >= 0 MW")
    # As in tick_asset: NaN and infinity survive a sum.
    if total - total != 0.0 or hold_s <= 0.0 or ramp_s < 0.0:
        _refuse_bad_numbers(soc_mwhr, current_mw, hold_s, ramp_s)

    hours = hold_s / 3600.0
    if charging:
        # The capacity that self-discharge frees meanwhile is not counted.
        _, held_mw = sustainable_mw(asset, soc_mwhr, hours)
        from_mw, nameplate_mw, least_mw = -current_mw, -asset.min_mw, asset.aux_load_mw
    else:
        if asset.self_discharge_pct_per_day:
            soc_mwhr *= (1.0 - asset.self_discharge_pct_per_day / 100.0) ** (hours / 24.0)
        held_mw, _ = sustainable_mw(asset, soc_mwhr, hours)
        from_mw, nameplate_mw, least_mw = current_mw, asset.max_mw, 0.0

    limit: Limit = "nameplate"
    if held_mw < nameplate_mw:
        limit = "energy"
        beyond_mw = min(from_mw, nameplate_mw) - held_mw
        if beyond_mw > 0.0:
            ramp_mw_per_h = asset.ramp_rate_mw_per_min * 60.0
            held_mw = max(least_mw, held_mw - _ramp_down_costs_mw(beyond_mw, ramp_mw_per_h, hours))
    reached_mw = from_mw + asset.ramp_rate_mw_per_min * (ramp_s / 60.0)
    if reached_mw < held_mw:
        limit, held_mw = "ramp", reached_mw
    if available_mw is not None and available_mw < held_mw:
        limit, held_mw = "available", available_mw
    return max(0.0, held_mw), limit


def _ramp_down_costs_mw(beyond_mw: float, ramp_mw_per_h: float, hours: float) -> float:
    """Return how much lower the held power must be because the ramp down to it consumes energy too.

    `beyond_mw` is the excess of the power at the start of the ramp. Infinite where the energy does not
    suffice for any ramp.
    """
    # Down by x from the first power: (x - beyond) hours = x^2 / (2 ramp); its smaller root.
    root = hours * hours - 2.0 * beyond_mw * hours / ramp_mw_per_h
    if root < 0.0:
        return math.inf
    return 2.0 * beyond_mw * hours / (hours + math.sqrt(root)) - beyond_mw


def _refuse_bad_numbers(soc_mwhr: float, current_mw: float, hold_s: float, ramp_s: float) -> None:
    for name, value in (
        ("soc_mwhr", soc_mwhr),
        ("current_mw", current_mw),
        ("hold_s", hold_s),
        ("ramp_s", ramp_s),
    ):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}; it must be a finite number")
    if hold_s <= 0.0:
        raise ValueError(f"hold_s is {hold_s}; it must be > 0 s")
    if ramp_s < 0.0:
        raise ValueError(f"ramp_s is {ramp_s}; it must be >= 0 s")
