"""The words of the domain: an asset, its state, its telemetry and the dispatches it is given.

What moves them lives in `trioder.sim.bess`. Signs: + MW discharges to the grid, - MW charges.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from trioder.sim.nameplate import NAMEPLATE_FIELDS, nameplate_faults

Status = Literal["charging", "discharging", "idle"]

# Below this the power counts as none; a meter's noise is not an operating state.
IDLE_BAND_MW = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A battery's nameplate. One that breaks the rules of `trioder.sim.nameplate` cannot be made.

    Attributes:
        id: UUID, canonical lower case; checked where it is read.
        max_mw: discharge limit at the meter, >= 0 and > min_mw.
        min_mw: charge limit at the meter, negative (0 for a battery that cannot charge).
        charge_efficiency: one way, grid to cell, in (0, 1].
        discharge_efficiency: one way, cell to grid, in (0, 1].
        ramp_rate_mw_per_min: how fast the power may move, > 0.
        min_soc_pct: the model does not discharge below it, 0..100.
        max_soc_pct: the model does not charge above it, 0..100.
        aux_load_mw: constant load behind the meter (cooling, controls), 0..-min_mw.
        self_discharge_pct_per_day: share of the stored energy lost in a day, 0 <= share < 100.
        min_soc_mwhr: the energy below which the battery does not discharge; derived.
        max_soc_mwhr: the energy above which the battery does not charge; derived.

    Raises:
        ValueError: a value breaks a rule; the text names each.
    """

    id: str
    name: str
    site_id: str
    site_name: str = ""
    location: str = ""
    capacity_mwhr: float
    max_mw: float
    min_mw: float
    charge_efficiency: float
    discharge_efficiency: float
    ramp_rate_mw_per_min: float
    min_soc_pct: float = 0.0
    max_soc_pct: float = 100.0
    aux_load_mw: float = 0.0
    self_discharge_pct_per_day: float = 0.0
    # Plain attributes, for every tick of every asset reads them.
    min_soc_mwhr: float = field(init=False, repr=False, compare=False)
    max_soc_mwhr: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        faults = nameplate_faults({name: getattr(self, name) for name in NAMEPLATE_FIELDS})
        if faults:
            raise ValueError("; ".join(f"{name} {message}" for name, message in faults))
        # Divided first: 100 % of the capacity is then the capacity to the last bit.
        object.__setattr__(self, "min_soc_mwhr", self.capacity_mwhr * (self.min_soc_pct / 100.0))
        object.__setattr__(self, "max_soc_mwhr", self.capacity_mwhr * (self.max_soc_pct / 100.0))

    @property
    def efficiency(self) -> float:
        """One-way efficiency whose square is the round trip's."""
        if self.charge_efficiency == self.discharge_efficiency:
            return self.charge_efficiency
        return math.sqrt(self.charge_efficiency * self.discharge_efficiency)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchRequest:
    """What a user asks of one asset: hold `mw`, for a while or until told otherwise.

    Attributes:
        duration_s: for so long, from when the asset is told.
        valid_until_ms: until this instant; Unix time. Not both.
        reversion_mw: the setpoint that follows.
        expires_in_s: how long the command may wait for an asset that is not connected.
    """

    asset_id: str
    mw: float
    duration_s: int | None = None
    valid_until_ms: int | None = None
    reversion_mw: float = 0.0
    expires_in_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """A request that was validated and given an identity; what the wire calls a Setpoint.

    Attributes:
        duration_s: the setpoint ends after so long; it holds without.
        valid_until_ms: it ends at this instant at the latest; Unix time.
        reversion_mw: the setpoint that follows when it ends.
        group_id: of the command to many assets that it is a part of; empty when it stands alone.
    """

    dispatch_id: str
    asset_id: str
    mw: float
    duration_s: int | None = None
    valid_until_ms: int | None = None
    reversion_mw: float = 0.0
    group_id: str = ""


def status_of(current_mw: float) -> Status:
    """The operating state that a power stands for."""
    if current_mw > IDLE_BAND_MW:
        return "discharging"
    if current_mw < -IDLE_BAND_MW:
        return "charging"
    return "idle"
