"""What readers get of an asset's latest sample: its values, age and quality."""

from typing import NamedTuple

from trioder.domain.quality import LatestQuality
from trioder.domain.telemetry import BessState, Source, Telemetry


class LatestView(NamedTuple):
    """One asset's latest sample.

    Attributes:
        age_s: since the sample was made, by the headend's clock; >= 0.
        quality: `suspect` and `bad` at any age, for such a value must not be used; `stale` for any other
            sample of an agent that is older than it should be.
    """

    telemetry: Telemetry
    source: Source
    age_s: float
    quality: LatestQuality


class Reported(NamedTuple):
    """The last values that an asset's agent reported in its present session; good ones only.

    Attributes:
        soc_mwhr: MWh.
        current_mw: at the meter, + discharges.
        setpoint_mw: the setpoint that the battery follows.
        available_discharge_mw: a magnitude, >= 0.
        available_charge_mw: a magnitude, >= 0.
        age_s: as in `LatestView`.
    """

    soc_mwhr: float
    current_mw: float
    setpoint_mw: float
    available_discharge_mw: float
    available_charge_mw: float
    age_s: float


class Columns(NamedTuple):
    """One asset's latest sample as it is stored, for a reader of many.

    Attributes:
        is_agents: its agent reported it; else the headend's own model.
        code: its `domain.quality.Quality`; staleness is up to the reader.
        ts_ms: by the agent's own clock.
        made_ms: when it was made, by the headend's clock.
        state: the values.
    """

    is_agents: bool
    code: int
    ts_ms: int
    made_ms: int
    state: BessState
