"""Many assets as one: what they do together, and what they could do for a while. Synchronous.

What a single asset could hold is computed in `trioder.domain.holdable`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from trioder.control.candidates import ramp_window_s
from trioder.domain.fleet import Fleet
from trioder.domain.holdable import holdable_mw
from trioder.gateway.sessions import SessionRegistry
from trioder.ingest.latest import LatestState, Quality

HORIZONS_S = {"15_min": 900.0, "60_min": 3600.0}
_SUMMED = frozenset({"good", "synthesized"})


@dataclass(slots=True)
class Power:
    """What could be held together, as magnitudes in MW."""

    discharge_mw: float = 0.0
    charge_mw: float = 0.0


@dataclass(slots=True, kw_only=True)
class Sums:
    """What was added up so far.

    Attributes:
        connected: assets with an agent.
        by_quality: how many samples there are of each; assets without any are not among them.
        live: assets whose sample is good or synthesized: current_mw, setpoint_mw and soc_mwhr are of these.
        available_now: of the live assets that an agent drives, over one pulse.
        available: the same for a time, by its name in `HORIZONS_S`; of each asset at most what it reports.
    """

    assets: int = 0
    connected: int = 0
    live: int = 0
    by_quality: Counter[Quality] = field(default_factory=Counter)
    capacity_mwhr: float = 0.0
    max_mw: float = 0.0
    min_mw: float = 0.0
    current_mw: float = 0.0
    setpoint_mw: float = 0.0
    soc_mwhr: float = 0.0
    available_now: Power = field(default_factory=Power)
    available: dict[str, Power] = field(default_factory=lambda: {name: Power() for name in HORIZONS_S})


class Summing:
    """Adds up assets as they are."""

    def __init__(self, *, fleet: Fleet, latest: LatestState, sessions: SessionRegistry) -> None:
        self._fleet = fleet
        self._latest = latest
        self._sessions = sessions

    def add(self, sums: Sums, keys: Iterable[int], now_ms: int) -> None:
        """Add these assets to the sums."""
        for key in keys:
            asset = self._fleet.assets[key]
            sums.assets += 1
            sums.capacity_mwhr += asset.capacity_mwhr
            sums.max_mw += asset.max_mw
            sums.min_mw += asset.min_mw
            connected = self._sessions.session_of(key) is not None
            sums.connected += connected
            quality, state = self._latest.quality(key, now_ms), self._latest.state(key)
            if quality is None or state is None:
                continue
            sums.by_quality[quality] += 1
            if quality not in _SUMMED:
                continue
            sums.live += 1
            sums.current_mw += state.current_mw
            sums.setpoint_mw += state.setpoint_mw
            sums.soc_mwhr += state.soc_mwhr
            reported = self._latest.reported(key, now_ms)
            if not connected or reported is None:
                continue
            # A device's noise may lie below 0.
            now_discharge_mw = max(0.0, reported.available_discharge_mw)
            now_charge_mw = max(0.0, reported.available_charge_mw)
            sums.available_now.discharge_mw += now_discharge_mw
            sums.available_now.charge_mw += now_charge_mw
            for name, hold_s in HORIZONS_S.items():
                discharge_mw, charge_mw = holdable_mw(
                    asset,
                    reported.soc_mwhr,
                    reported.current_mw,
                    hold_s=hold_s,
                    ramp_s=ramp_window_s(hold_s),
                    available_discharge_mw=max(0.0, reported.available_discharge_mw),
                    available_charge_mw=max(0.0, reported.available_charge_mw),
                )
                sums.available[name].discharge_mw += min(discharge_mw, now_discharge_mw)
                sums.available[name].charge_mw += min(charge_mw, now_charge_mw)
