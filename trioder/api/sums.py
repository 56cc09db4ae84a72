"""Sums over assets, as they are now: of a site, of the fleet, or of what a live feed shows."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

from trioder.control.allocation import ramp_window_s
from trioder.control.dispatcher import Dispatcher
from trioder.domain.assets import Asset
from trioder.domain.fleet import Fleet
from trioder.domain.holdable import holdable_mw
from trioder.domain.quality import LatestQuality
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState
from trioder.ingest.latest_values import Reported
from trioder.process.wall_time import WallClock
from trioder.schemas.resources import AvailableRow, PowerRow

# The cost of adding an asset to a sum.
SUM_US = 5.0
_SUMMED: frozenset[LatestQuality] = frozenset({"good", "synthesized"})
# For how long a power is to be held, by its name in `AvailableRow`.
_HORIZONS_S = {"min_15": 900.0, "min_60": 3600.0}


class SumSources(Protocol):
    """What the sums are made from."""

    @property
    def fleet(self) -> Fleet:
        """The assets."""

    @property
    def latest(self) -> LatestState:
        """Their latest samples."""

    @property
    def sessions(self) -> SessionRegistry:
        """Which of them are connected."""

    @property
    def dispatcher(self) -> Dispatcher:
        """What they are under."""

    @property
    def wall(self) -> WallClock:
        """For the samples' ages."""


@dataclass(slots=True)
class Sums:
    """Sums over assets.

    Attributes:
        connected: assets with a session.
        by_quality: how many latest samples have each quality; assets without a sample are not counted.
        live: assets whose sample is good or synthesized: current_mw, setpoint_mw and soc_mwhr are of these.
        dispatched: assets with a setpoint of an open dispatch; requested_mw is the sum of these setpoints.
        stopped: those of them that a stop holds.
        available: of the live assets that an agent drives, over one tick (`now`) and over each horizon; at
            most what each asset reports.
    """

    assets: int = 0
    connected: int = 0
    live: int = 0
    by_quality: Counter[LatestQuality] = field(default_factory=Counter)
    capacity_mwhr: float = 0.0
    max_mw: float = 0.0
    min_mw: float = 0.0
    current_mw: float = 0.0
    setpoint_mw: float = 0.0
    soc_mwhr: float = 0.0
    dispatched: int = 0
    stopped: int = 0
    requested_mw: float = 0.0
    available: dict[str, PowerRow] = field(
        default_factory=lambda: {
            name: PowerRow(discharge_mw=0.0, charge_mw=0.0) for name in ("now", *_HORIZONS_S)
        }
    )


def add_assets(sums: Sums, keys: Iterable[int], sources: SumSources, *, horizons: bool = True) -> None:
    """Add these assets to the sums, as they are now.

    Args:
        sums: changed in place.
        keys: of the assets.
        sources: of the figures.
        horizons: whether to add what they can hold over each horizon, half of the cost; without it those
            rows stay as they are.
    """
    now_ms, latest, in_force = sources.wall.now_ms(), sources.latest, sources.dispatcher.in_force
    for key in keys:
        asset = sources.fleet.assets[key]
        sums.assets += 1
        sums.capacity_mwhr += asset.capacity_mwhr
        sums.max_mw += asset.max_mw
        sums.min_mw += asset.min_mw
        connected = sources.sessions.session_of(key) is not None
        sums.connected += connected
        setpoint = in_force(key)
        if setpoint is not None:
            sums.dispatched += 1
            sums.stopped += setpoint.holds_asset
            sums.requested_mw += setpoint.mw
        quality, state = latest.quality(key, now_ms), latest.state(key)
        if quality is None or state is None:
            continue
        sums.by_quality[quality] += 1
        if quality not in _SUMMED:
            continue
        sums.live += 1
        sums.current_mw += state.current_mw
        sums.setpoint_mw += state.setpoint_mw
        sums.soc_mwhr += state.soc_mwhr
        reported = latest.reported(key, now_ms)
        if connected and reported is not None:
            _add_available(sums.available, asset, reported, horizons=horizons)


def _add_available(
    available: dict[str, PowerRow], asset: Asset, reported: Reported, *, horizons: bool
) -> None:
    # A device's noise may lie below 0.
    now_discharge_mw = max(0.0, reported.available_discharge_mw)
    now_charge_mw = max(0.0, reported.available_charge_mw)
    available["now"].discharge_mw += now_discharge_mw
    available["now"].charge_mw += now_charge_mw
    for name, hold_s in _HORIZONS_S.items() if horizons else ():
        discharge_mw, charge_mw = holdable_mw(
            asset,
            reported.soc_mwhr,
            reported.current_mw,
            hold_s=hold_s,
            ramp_s=ramp_window_s(hold_s),
            available_discharge_mw=now_discharge_mw,
            available_charge_mw=now_charge_mw,
        )
        available[name].discharge_mw += min(discharge_mw, now_discharge_mw)
        available[name].charge_mw += min(charge_mw, now_charge_mw)


def sum_columns(sums: Sums) -> dict[str, Any]:
    """Return the sums by the names of `FleetRow`."""
    return {
        "assets": sums.assets,
        "connected_assets": sums.connected,
        "live_assets": sums.live,
        # Assets without any sample included.
        "stale_assets": sums.assets - sums.live - sums.by_quality["suspect"] - sums.by_quality["bad"],
        "by_quality": {name: sums.by_quality[name] for name in get_args(LatestQuality)},
        "capacity_mwhr": sums.capacity_mwhr,
        "max_mw": sums.max_mw,
        "min_mw": sums.min_mw,
        "current_mw": sums.current_mw,
        "setpoint_mw": sums.setpoint_mw,
        "soc_mwhr": sums.soc_mwhr,
        "requested_mw": sums.requested_mw if sums.dispatched else None,
        "dispatched_assets": sums.dispatched,
        "stopped_assets": sums.stopped,
        "available": AvailableRow(**sums.available),
    }
