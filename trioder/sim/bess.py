"""The battery model: one synchronous tick of the energy and power balance.

The source of each formula, and the meaning of the aux load, are in `docs/model.md`.
"""

import math

from trioder.domain.assets import Asset, sustainable_mw
from trioder.domain.telemetry import BessState

START_SOC_PCT = 50.0


def initial_state(asset: Asset, soc_pct: float = START_SOC_PCT) -> BessState:
    """Return a battery at rest that stores `soc_pct` of its capacity.

    Raises:
        ValueError: soc_pct is not within 0..100.
    """
    if not 0.0 <= soc_pct <= 100.0:
        raise ValueError(f"soc_pct is {soc_pct}; it must be within 0..100")
    soc_mwhr = asset.capacity_mwhr * (soc_pct / 100.0)
    discharge_mw, charge_mw = sustainable_mw(asset, soc_mwhr, 0.0)
    return BessState(
        soc_mwhr=soc_mwhr,
        current_mw=0.0,
        setpoint_mw=0.0,
        available_discharge_mw=max(0.0, discharge_mw),
        available_charge_mw=charge_mw,
    )


def restored_state(asset: Asset, *, soc_mwhr: float, current_mw: float, setpoint_mw: float) -> BessState:
    """Return the state of a battery with these values, clamped to its nameplate.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    state = initial_state(asset)._replace(
        soc_mwhr=min(max(soc_mwhr, 0.0), asset.capacity_mwhr), current_mw=current_mw, setpoint_mw=setpoint_mw
    )
    # A step of 0 s moves no energy, and clamps the power.
    return tick_asset(asset, state, 0.0)


def with_setpoint(state: BessState, mw: float) -> BessState:
    """Return the state with another setpoint, which the next tick approaches.

    Raises:
        ValueError: mw is NaN or infinite.
    """
    if not math.isfinite(mw):
        raise ValueError(f"mw is {mw}; a setpoint must be a finite number")
    return state._replace(setpoint_mw=float(mw))


def tick_asset(asset: Asset, state: BessState, dt_secs: float) -> BessState:
    """Return the state `dt_secs` later, after a step towards the setpoint at constant power.

    `current_mw` of the result is the meter's mean power over the step, and agrees with the energy moved: a
    battery that runs empty within a step has the power that emptied it, and 0 MW from the next step on. A
    step of 0 s moves no energy and no ramp.

    Raises:
        ValueError: dt_secs is negative, or any number given is NaN or infinite.
    """
    soc_mwhr, last_mw, setpoint_mw, _, _ = state
    total = soc_mwhr + last_mw + setpoint_mw + dt_secs
    # NaN and infinity survive a sum, and less itself it is not 0. So does an overflow, which is not refused.
    if total - total != 0.0 or dt_secs < 0.0:
        _refuse_bad_numbers(state, dt_secs)

    hours = dt_secs / 3600.0
    if asset.self_discharge_pct_per_day:
        soc_mwhr *= (1.0 - asset.self_discharge_pct_per_day / 100.0) ** (hours / 24.0)

    discharge_mw, charge_mw = sustainable_mw(asset, soc_mwhr, hours)
    lowest_mw = -charge_mw

    target_mw = _clamped(setpoint_mw, lowest_mw, discharge_mw)
    ramp_mw = asset.ramp_rate_mw_per_min * (dt_secs / 60.0)
    ramped_mw = _clamped(target_mw, last_mw - ramp_mw, last_mw + ramp_mw)
    # Again, as the last power may be beyond the present limits: physics beats the ramp.
    current_mw = _clamped(ramped_mw, lowest_mw, discharge_mw)

    # The cells supply the meter's power and the aux load's. Rounding must neither move them past a limit by
    # an ulp, nor leave an ulp in a battery that gave all it could: it is empty, and the next step has 0 MW.
    # Cells at or beyond a limit are never moved outwards: the sustainable power there is the aux load alone.
    cell_mw = current_mw + asset.aux_load_mw
    if cell_mw > 0.0:
        soc_mwhr -= cell_mw * hours / asset.discharge_efficiency
        if soc_mwhr < asset.min_soc_mwhr or current_mw == discharge_mw < asset.max_mw:
            soc_mwhr = asset.min_soc_mwhr
    elif cell_mw < 0.0:
        soc_mwhr -= cell_mw * hours * asset.charge_efficiency
        if soc_mwhr > asset.max_soc_mwhr or asset.min_mw < current_mw == lowest_mw:
            soc_mwhr = asset.max_soc_mwhr

    return BessState(
        soc_mwhr,
        current_mw + 0.0,  # never -0.0
        setpoint_mw,
        max(0.0, discharge_mw),
        charge_mw,
    )


def _clamped(value: float, low: float, high: float) -> float:
    if value > high:
        return high
    return max(low, value)


def _refuse_bad_numbers(state: BessState, dt_secs: float) -> None:
    if dt_secs < 0.0:
        raise ValueError(f"dt_secs is {dt_secs}; time does not run backwards")
    for name, value in (
        ("dt_secs", dt_secs),
        ("soc_mwhr", state.soc_mwhr),
        ("current_mw", state.current_mw),
        ("setpoint_mw", state.setpoint_mw),
    ):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}; it must be a finite number")
