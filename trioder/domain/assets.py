"""An asset's nameplate. Signs: + MW discharges to the grid, - MW charges."""

import math
from dataclasses import dataclass, field

from trioder.domain.nameplate import NAMEPLATE_FIELDS, nameplate_faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A battery's nameplate. One that breaks the rules of `trioder.domain.nameplate` cannot be made.

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
