"""Sums over the assets of a site or of the whole fleet, as `/sites` and `/fleet` show them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from trioder.api.context import Headend
from trioder.api.schemas.resources import AvailableRow, FleetRow, PowerRow
from trioder.control.allocation import ramp_window_s
from trioder.domain.fleet import Site
from trioder.domain.holdable import holdable_mw
from trioder.ingest.latest import Quality
from trioder.process.rfc3339 import format_ms
from trioder.process.slices import Steps, parts_of

# The cost of adding an asset to a sum, and of a site's row.
_SUM_US = 5.0
_ROW_US = 20.0
_SUMMED: frozenset[Quality] = frozenset({"good", "synthesized"})
# For how long a power is to be held, by its name in `AvailableRow`.
_HORIZONS_S = {"min_15": 900.0, "min_60": 3600.0}


@dataclass(slots=True)
class Sums:
    """Sums over assets.

    Attributes:
        connected: assets with a session.
        by_quality: how many latest samples have each quality; assets without a sample are not counted.
        live: assets whose sample is good or synthesized: current_mw, setpoint_mw and soc_mwhr are of these.
        available: of the live assets that an agent drives, over one tick (`now`) and over each horizon; at
            most what each asset reports.
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
    available: dict[str, PowerRow] = field(
        default_factory=lambda: {
            name: PowerRow(discharge_mw=0.0, charge_mw=0.0) for name in ("now", *_HORIZONS_S)
        }
    )


def fleet_steps(headend: Headend, keys: Sequence[int]) -> Steps[FleetRow]:
    """Return the sums over these assets, in steps."""
    sums = yield from _sum_steps(headend, keys)
    return FleetRow(**_columns(sums))


def site_steps(headend: Headend, sites: Sequence[tuple[Site, Sequence[int]]]) -> Steps[list[dict[str, Any]]]:
    """Return the columns of a `SiteRow` for each site with its assets, in steps."""
    rows: list[dict[str, Any]] = []
    table = headend.dispatcher.site_limits
    for site, keys in sites:
        columns = {name: getattr(site, name) for name in ("id", "name", "location", "lat", "lon")}
        limits, record = table.limits_of(site.id), table.set_by_user(site.id)
        columns["export_limit_mw"], columns["import_limit_mw"] = limits.export_mw, limits.import_mw
        until_ms = None if record is None else record.until_ms
        columns["limits_until"] = None if until_ms is None else format_ms(until_ms)
        sums = yield from _sum_steps(headend, keys)
        rows.append(columns | _columns(sums))
        yield _ROW_US
    return rows


def _sum_steps(headend: Headend, keys: Sequence[int]) -> Steps[Sums]:
    sums = Sums()
    for part in parts_of(keys):
        add_assets(sums, part, headend)
        yield _SUM_US * len(part)
    return sums


def add_assets(sums: Sums, keys: Iterable[int], headend: Headend) -> None:
    """Add these assets to the sums, as they are now."""
    now_ms, latest = headend.wall.now_ms(), headend.latest
    for key in keys:
        asset = headend.fleet.assets[key]
        sums.assets += 1
        sums.capacity_mwhr += asset.capacity_mwhr
        sums.max_mw += asset.max_mw
        sums.min_mw += asset.min_mw
        connected = headend.sessions.session_of(key) is not None
        sums.connected += connected
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
        if not connected or reported is None:
            continue
        # A device's noise may lie below 0.
        now_discharge_mw = max(0.0, reported.available_discharge_mw)
        now_charge_mw = max(0.0, reported.available_charge_mw)
        sums.available["now"].discharge_mw += now_discharge_mw
        sums.available["now"].charge_mw += now_charge_mw
        for name, hold_s in _HORIZONS_S.items():
            discharge_mw, charge_mw = holdable_mw(
                asset,
                reported.soc_mwhr,
                reported.current_mw,
                hold_s=hold_s,
                ramp_s=ramp_window_s(hold_s),
                available_discharge_mw=now_discharge_mw,
                available_charge_mw=now_charge_mw,
            )
            sums.available[name].discharge_mw += min(discharge_mw, now_discharge_mw)
            sums.available[name].charge_mw += min(charge_mw, now_charge_mw)


def _columns(sums: Sums) -> dict[str, Any]:
    return {
        "assets": sums.assets,
        "connected_assets": sums.connected,
        "live_assets": sums.live,
        # Assets without any sample included.
        "stale_assets": sums.assets - sums.live - sums.by_quality["suspect"] - sums.by_quality["bad"],
        "by_quality": {name: sums.by_quality[name] for name in get_args(Quality)},
        "capacity_mwhr": sums.capacity_mwhr,
        "max_mw": sums.max_mw,
        "min_mw": sums.min_mw,
        "current_mw": sums.current_mw,
        "setpoint_mw": sums.setpoint_mw,
        "soc_mwhr": sums.soc_mwhr,
        "available": AvailableRow(**sums.available),
    }
