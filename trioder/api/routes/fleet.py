"""`/assets`, `/sites` and `/fleet`: nameplates, and sums over the assets of a site or of the whole fleet."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, get_args

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.access import AccessControl, principal
from trioder.api.asset_query import FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.ndjson import lines_response, wants_lines
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query
from trioder.api.responses import ROWS_PER_CHUNK, json_response, list_chunks, list_response, stream_response
from trioder.api.schemas.resources import (
    AssetRow,
    AssetsQuery,
    AvailableRow,
    FleetReloadResponse,
    FleetRow,
    NoQuery,
    PowerRow,
    SiteRow,
)
from trioder.control.allocation import ramp_window_s
from trioder.domain.access import EVERYTHING
from trioder.domain.fleet import Site
from trioder.domain.holdable import holdable_mw
from trioder.fleet import FleetFileError
from trioder.ingest.latest import Quality
from trioder.process.rfc3339 import format_ms
from trioder.process.slices import Steps, parts_of, run_in_slices

RELOAD_ACTION = "fleet.reload"
# The cost of adding an asset to a sum, and of a site's row.
_SUM_US = 5.0
_ROW_US = 20.0
_SUMMED: frozenset[Quality] = frozenset({"good", "synthesized"})
# For how long a power is to be held, by its name in `AvailableRow`.
_HORIZONS_S = {"min_15": 900.0, "min_60": 3600.0}

_asset_columns = attrgetter(*AssetRow.__struct_fields__)


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


def assets_blueprint(headend: Headend, indexes: FleetIndexes) -> Blueprint:
    """Return the routes of assets."""
    blueprint = Blueprint("assets", __name__)

    def row(key: int) -> AssetRow:
        return AssetRow(*_asset_columns(headend.fleet.assets[key]))

    @blueprint.get("/assets")
    @documented(list[AssetRow], role="viewer", query=AssetsQuery, errors=(404,), lines=True)
    async def list_assets() -> TrioResponse:
        """List assets, in fleet order."""
        keys = await indexes.of_request().keys_of_query(checked_query(AssetsQuery))
        return lines_response(keys, row) if wants_lines() else list_response(keys, row)

    @blueprint.get("/assets/<asset_id>")
    @documented(AssetRow, role="viewer", errors=(404,))
    async def show_asset(asset_id: str) -> TrioResponse:
        """Show one asset."""
        checked_query(NoQuery)
        return json_response(row(indexes.of_request().key_of(asset_id)))

    return blueprint


def fleet_blueprint(headend: Headend, indexes: FleetIndexes, access: AccessControl) -> Blueprint:
    """Return the routes of sites and of the whole fleet."""
    blueprint = Blueprint("fleet", __name__)
    table = headend.dispatcher.site_limits

    def sum_steps(keys: Sequence[int]) -> Steps[Sums]:
        sums = Sums()
        for part in parts_of(keys):
            add_assets(sums, part, headend)
            yield _SUM_US * len(part)
        return sums

    def site_steps(sites: Sequence[tuple[Site, Sequence[int]]]) -> Steps[list[dict[str, Any]]]:
        """Return the columns of a `SiteRow` for each site with its assets."""
        rows = []
        for site, keys in sites:
            columns = {name: getattr(site, name) for name in ("id", "name", "location", "lat", "lon")}
            limits, record = table.limits_of(site.id), table.set_by_user(site.id)
            columns["export_limit_mw"], columns["import_limit_mw"] = limits.export_mw, limits.import_mw
            until_ms = None if record is None else record.until_ms
            columns["limits_until"] = None if until_ms is None else format_ms(until_ms)
            sums = yield from sum_steps(keys)
            rows.append(columns | _columns(sums))
            yield _ROW_US
        return rows

    @blueprint.get("/sites")
    @documented(list[SiteRow], role="viewer")
    async def list_sites() -> TrioResponse:
        """List sites with the sums over their assets, in fleet order."""
        checked_query(NoQuery)
        index = indexes.of_request()
        sites = [(site, index.keys_by_site[site.id]) for site in index.sites]
        if len(sites) <= ROWS_PER_CHUNK:
            return json_response(await run_in_slices(site_steps(sites)))
        parts = (await run_in_slices(site_steps(part)) for part in parts_of(sites))
        return stream_response(list_chunks(parts))

    @blueprint.get("/fleet")
    @documented(FleetRow, role="viewer")
    async def show_fleet() -> TrioResponse:
        """Show the sums over all assets."""
        checked_query(NoQuery)
        sums = await run_in_slices(sum_steps(indexes.of_request().all_keys))
        return json_response(FleetRow(**_columns(sums)))

    _add_reload(blueprint, headend, access)
    return blueprint


def _add_reload(blueprint: Blueprint, headend: Headend, access: AccessControl) -> None:
    @blueprint.post("/fleet/reload")
    @documented(FleetReloadResponse, role="admin", errors=(409,))
    async def reload_fleet() -> TrioResponse:
        """Reload the fleet file; if it has errors, nothing changes and all of them are reported."""
        checked_query(NoQuery)
        scope = principal().scope
        if scope != EVERYTHING:
            raise access.forbidden(
                RELOAD_ACTION,
                f"this needs a token for all tenants and sites; {principal().name!r} is for "
                + (f"tenant {scope.tenant}" if scope.site_ids is None else "some sites"),
            )
        try:
            change = await headend.reloader.reload()
        except FleetFileError as error:
            access.record(RELOAD_ACTION, outcome="failed", reason=f"{len(error.faults)} errors in the file")
            raise ApiError(409, f"the fleet file has errors, and nothing has changed:\n{error}") from None
        access.record(RELOAD_ACTION)
        return json_response(
            FleetReloadResponse(
                assets=len(headend.fleet.keys),
                added=len(change.added),
                changed=len(change.changed),
                retired=len(change.retired),
            )
        )


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
