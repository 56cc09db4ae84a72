"""Telemetry: a battery's state, one sample in full, and many samples as columns.

A sample has a source (who produced it) and a quality (`domain.quality`). Signs: + MW discharges to the grid,
- MW charges. `soc_mwhr` is the stored energy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from trioder.domain.quality import QualityName

Status = Literal["charging", "discharging", "idle"]
Source = Literal["agent", "synthesized"]

# Below this a power counts as zero: a meter's noise is not an operating state.
IDLE_BAND_MW = 0.1


class BessState(NamedTuple):
    """The state of one battery at one instant, before and after a tick of the model.

    The available powers are magnitudes (>= 0): what the battery could have held for the whole of the last
    tick.
    """

    soc_mwhr: float
    current_mw: float
    setpoint_mw: float
    available_discharge_mw: float
    available_charge_mw: float


class Telemetry(NamedTuple):
    """One sample of one asset in full, as REST returns it.

    Between the agents and the database samples are columns (`Samples`), never this object.
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


# Not frozen, though never changed: that would double the cost of making one.
@dataclass(slots=True, kw_only=True)
class Samples:
    """One instant of some assets, as columns of equal length; units as in the names.

    A receiver may keep the columns without copying them.

    Attributes:
        source: an agent, or the headend's own model.
        asset_keys: positions in `Fleet.assets`, distinct.
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
    """One row of an asset's history; unless its quality is good, values may be NaN or infinite."""

    telemetry: Telemetry
    source: Source
    quality: QualityName


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one quantity over the good and synthesized samples of a period; None without any.

    Attributes:
        mean: the arithmetic mean of the samples.
        min: the smallest.
        max: the greatest.
        last: that of the newest sample.
    """

    mean: float | None
    min: float | None
    max: float | None
    last: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryBucket:
    """An asset's samples of one period.

    Attributes:
        start_ms: the start of the period.
        samples: how many there are, of any quality.
        good_samples: how many of them are good or synthesized.
        worst_quality: in the order good, synthesized, suspect, wrong_time, bad.
        soc_mwhr: charge.
        soc_pct: charge in % of the capacity at its time.
        current_mw: power.
        setpoint_mw: setpoint.
    """

    start_ms: int
    samples: int
    good_samples: int
    worst_quality: QualityName
    soc_mwhr: Statistics
    soc_pct: Statistics
    current_mw: Statistics
    setpoint_mw: Statistics


@dataclass(frozen=True, slots=True)
class SiteBucket:
    """The samples of a site's assets, or of several sites', in one period.

    The sums are of the means of the assets' good and synthesized samples; None if no asset has any.

    Attributes:
        start_ms: the start of the period.
        assets: how many have such a sample.
        samples: how many samples there are, of any quality.
        good_samples: how many of them are good or synthesized.
        worst_quality: as in `TelemetryBucket`.
        current_mw: power.
        setpoint_mw: setpoint.
        soc_mwhr: charge.
        capacity_mwhr: by the nameplates at the time, of the same assets.
    """

    start_ms: int
    assets: int
    samples: int
    good_samples: int
    worst_quality: QualityName
    current_mw: float | None
    setpoint_mw: float | None
    soc_mwhr: float | None
    capacity_mwhr: float | None


@dataclass(frozen=True, slots=True)
class SitePower:
    """The power of a site over one period: sums of its assets' means, of good and synthesized samples.

    Attributes:
        site_id: of the site.
        start_ms: the start of the period.
        live: how many of its assets have such a sample.
        current_mw: power.
        setpoint_mw: setpoint.
    """

    site_id: str
    start_ms: int
    live: int
    current_mw: float
    setpoint_mw: float


def status_of(current_mw: float) -> Status:
    """Return the operating state at a power."""
    if current_mw > IDLE_BAND_MW:
        return "discharging"
    if current_mw < -IDLE_BAND_MW:
        return "charging"
    return "idle"
