"""Telemetry: a battery's state, one sample in full, and many samples as columns.

Signs: + MW discharges to the grid, - MW charges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from trioder.domain.quality import QualityName

Status = Literal["charging", "discharging", "idle"]


Source = Literal["agent", "synthesized"]


# Below this the power counts as none; a meter's noise is not an operating state.
IDLE_BAND_MW = 0.1


class BessState(NamedTuple):
    """One battery at one instant: what a tick takes and returns.

    The available powers are magnitudes (>= 0), as of the last tick's step: what the battery could
    have held for the whole of it.
    """

    soc_mwhr: float
    current_mw: float
    setpoint_mw: float
    available_discharge_mw: float
    available_charge_mw: float


class Telemetry(NamedTuple):
    """One sample of one asset in full, as REST and single-asset agents tell it.

    On the way from the agents to the database samples travel as columns, never as this object.
    """

    asset_id: str
    site_id: str
    site_name: str
    ts_unix_ms: int
    soc_mwhr: float
    soc_pct: float
    capacity_mwhr: float
    current_mw: float
    setpoint_mw: float
    max_mw: float
    min_mw: float
    available_discharge_mw: float
    available_charge_mw: float
    status: Status


# Not frozen, though nothing changes it once it is made: that would double what each costs to make.
@dataclass(slots=True, kw_only=True)
class Samples:
    """One instant of some assets, as columns of equal length; units as in the names.

    Whoever takes it may keep its columns without a copy.

    Attributes:
        source: who says so: an agent, or the headend's own model.
        asset_keys: distinct.
        quality: a `trioder.domain.quality.Quality` code a row; empty when every row is good, or synthesized.
        available_discharge_mw: magnitudes, >= 0.
        available_charge_mw: magnitudes, >= 0.
    """

    ts_unix_ms: int
    source: Source
    asset_keys: Sequence[int]
    soc_mwhr: Sequence[float]
    current_mw: Sequence[float]
    setpoint_mw: Sequence[float]
    available_discharge_mw: Sequence[float]
    available_charge_mw: Sequence[float]
    quality: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastSample:
    """One row of an asset's history; values of a sample that is not good may be NaN or infinite."""

    telemetry: Telemetry
    source: Source
    quality: QualityName


def status_of(current_mw: float) -> Status:
    """The operating state that a power stands for."""
    if current_mw > IDLE_BAND_MW:
        return "discharging"
    if current_mw < -IDLE_BAND_MW:
        return "charging"
    return "idle"
