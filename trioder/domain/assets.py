"""An asset: a battery's nameplate, the rules for its numbers, and what follows from them.

Signs: + MW discharges to the grid, - MW charges. Power is measured at the meter, energy in the cells.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

NAMEPLATE_FIELDS = (
    "capacity_mwhr",
    "max_mw",
    "min_mw",
    "charge_efficiency",
    "discharge_efficiency",
    "ramp_rate_mw_per_min",
    "min_soc_pct",
    "max_soc_pct",
    "aux_load_mw",
    "self_discharge_pct_per_day",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A battery's nameplate. An asset that breaks a rule of `nameplate_faults` cannot be constructed.

    Attributes:
        id: UUID, canonical lower case; checked where it is read.
        max_mw: discharge limit at the meter, >= 0 and > min_mw.
        min_mw: charge limit at the meter, negative (0 for a battery that cannot charge).
        charge_efficiency: one way, grid to cell, in (0, 1].
        discharge_efficiency: one way, cell to grid, in (0, 1].
        ramp_rate_mw_per_min: how fast the power may change, > 0.
        min_soc_pct: it does not discharge below this state of charge, 0..100.
        max_soc_pct: it does not charge above this state of charge, 0..100.
        aux_load_mw: constant load behind the meter (cooling, controls), 0..-min_mw.
        self_discharge_pct_per_day: share of the stored energy lost in a day, 0 <= share < 100.
        min_soc_mwhr: min_soc_pct as energy; derived.
        max_soc_mwhr: max_soc_pct as energy; derived.

    Raises:
        ValueError: values break rules; the text has all of them.
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
    # Attributes, not properties: every tick of every asset reads them.
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
        """The one-way efficiency whose square is the round-trip efficiency."""
        if self.charge_efficiency == self.discharge_efficiency:
            return self.charge_efficiency
        return math.sqrt(self.charge_efficiency * self.discharge_efficiency)


def soc_pct(asset: Asset, soc_mwhr: float) -> float:
    """Return the stored energy as 0..100 % of the capacity; a full battery gives exactly 100."""
    return soc_mwhr / asset.capacity_mwhr * 100.0


def sustainable_mw(asset: Asset, soc_mwhr: float, hours: float) -> tuple[float, float]:
    """Return the highest discharge and the highest charge, as a magnitude, that can be held for `hours`.

    The discharge is negative when the battery is empty: the grid carries its aux load. With 0 hours, energy
    is no limit between the minimum and the maximum. Self-discharge meanwhile is left to the caller.
    """
    aux_mw = asset.aux_load_mw
    discharge_mw = asset.max_mw
    charge_mw = 0.0 - asset.min_mw  # not -0.0
    above_mwhr = soc_mwhr - asset.min_soc_mwhr
    if above_mwhr <= 0.0:
        discharge_mw = -aux_mw
    elif hours > 0.0:
        held_mw = above_mwhr * asset.discharge_efficiency / hours - aux_mw
        discharge_mw = min(discharge_mw, held_mw)
    below_mwhr = asset.max_soc_mwhr - soc_mwhr
    if below_mwhr <= 0.0:
        charge_mw = aux_mw
    elif hours > 0.0:
        held_mw = below_mwhr / asset.charge_efficiency / hours + aux_mw
        charge_mw = min(charge_mw, held_mw)
    return discharge_mw, charge_mw


def nameplate_faults(values: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return each broken rule as (field, text with the number and the rule); an absent field breaks none.

    Checks `efficiency` and `round_trip_efficiency` as well, from which readers derive the one-way values.
    """
    faults: list[tuple[str, str]] = []
    valid: dict[str, float] = {}
    for name, value in values.items():
        fault = _fault_of(name, value)
        if fault is None:
            valid[name] = value
        else:
            faults.append((name, f"is {value!r}; {fault}"))
    faults.extend(_faults_between(valid))
    return faults


def _fault_of(name: str, value: float) -> str | None:  # noqa: PLR0911 - one line a rule
    if not math.isfinite(value):
        return "it must be a finite number"
    match name:
        case "capacity_mwhr" | "ramp_rate_mw_per_min" if not value > 0.0:
            return "it must be > 0"
        case "max_mw" if value < 0.0:
            return "it must be >= 0 (+ discharges)"
        case "min_mw" if value > 0.0:
            return "it must be <= 0 (- charges)"
        case "efficiency" | "charge_efficiency" | "discharge_efficiency" | "round_trip_efficiency" if (
            not 0.0 < value <= 1.0
        ):
            return "it must be within (0, 1]"
        case "min_soc_pct" | "max_soc_pct" if not 0.0 <= value <= 100.0:
            return "it must be within 0..100"
        case "aux_load_mw" if value < 0.0:
            return "it must be >= 0"
        case "self_discharge_pct_per_day" if not 0.0 <= value < 100.0:
            return "it must be within 0 <= x < 100"
    return None


def _faults_between(values: Mapping[str, float]) -> list[tuple[str, str]]:
    def compare(name: str, rule: str, limit: float) -> tuple[str, str]:
        return name, f"is {values[name]!r}; it must be {rule}, which is {limit!r}"

    faults = []
    min_mw, max_mw = values.get("min_mw"), values.get("max_mw")
    if min_mw is not None and max_mw is not None and min_mw >= max_mw:
        faults.append(compare("min_mw", "< max_mw", max_mw))
    min_soc_pct, max_soc_pct = values.get("min_soc_pct", 0.0), values.get("max_soc_pct", 100.0)
    if min_soc_pct >= max_soc_pct:
        if "min_soc_pct" in values:
            faults.append(compare("min_soc_pct", "< max_soc_pct", max_soc_pct))
        else:
            faults.append(compare("max_soc_pct", "> min_soc_pct", min_soc_pct))
    # An empty battery's aux load is carried by the grid, within the charge limit.
    if min_mw is not None and values.get("aux_load_mw", 0.0) > -min_mw:
        faults.append(compare("aux_load_mw", "<= -min_mw", -min_mw))
    return faults
