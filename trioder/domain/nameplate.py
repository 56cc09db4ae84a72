"""The rules that a battery's nameplate numbers obey, each told in one sentence with the numbers.

Used by `trioder.sim.model.Asset` and by every reader of assets, so that all refuse the same things.
"""

import math
from collections.abc import Mapping

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


def nameplate_faults(values: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return each broken rule as (field, what is wrong); a field that is absent breaks none.

    Besides NAMEPLATE_FIELDS this knows `efficiency` and `round_trip_efficiency`, which readers resolve.
    """
    faults: list[tuple[str, str]] = []
    sound: dict[str, float] = {}
    for name, value in values.items():
        fault = _fault_of(name, value)
        if fault is None:
            sound[name] = value
        else:
            faults.append((name, f"is {value!r}; {fault}"))
    faults.extend(_faults_between(sound))
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
