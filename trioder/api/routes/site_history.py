"""`/sites/{site_id}/history` and `/fleet/history`: sums over assets at a resolution, from the store."""

from collections.abc import Sequence

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndex, FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.openapi import documented
from trioder.api.parsing import checked_query, query_choice
from trioder.api.responses import list_response
from trioder.api.routes.history import Periods, checked_times
from trioder.api.routes.power import known_site
from trioder.domain.telemetry import SiteBucket
from trioder.process.rfc3339 import format_ms
from trioder.schemas.power import DEFAULT_RESOLUTION, SiteHistoryQuery, SiteHistoryRow
from trioder.schemas.resources import RESOLUTIONS
from trioder.store.interface import StoreUnavailableError

# Summaries begin with these.
_RESOLUTIONS = tuple(name for name, seconds in RESOLUTIONS.items() if seconds >= 300)
# What is read: summaries of five minutes, and of the hours that are not summarized yet the samples, one every
# 4 s as a rule. It takes a few seconds.
_MAX_ROWS = 2_000_000
_ROW_MS = 300_000
_SAMPLE_MS = 4_000
_NOT_SUMMARIZED_MS = 2 * 3_600_000


def site_history_blueprint(headend: Headend, indexes: FleetIndexes) -> Blueprint:
    """Return the routes of the history of sites and of the fleet."""
    blueprint = Blueprint("site_history", __name__)

    async def response(site_id: str | None) -> TrioResponse:
        query = checked_query(SiteHistoryQuery)
        start_ms, end_ms = checked_times(query)
        resolution = query_choice(query, "resolution", _RESOLUTIONS) or DEFAULT_RESOLUTION
        index, now_ms = indexes.of_request(), headend.wall.now_ms()
        periods = Periods(query, resolution, start_ms, end_ms, now_ms=now_ms)
        _check_size(index, site_id, periods, now_ms=now_ms)
        try:
            buckets: Sequence[SiteBucket] = await headend.store.site_history(
                None if site_id is None else [site_id],
                resolution_s=periods.resolution_s,
                start_ms=periods.start_ms,
                end_ms=periods.end_ms,
                limit=periods.limit,
                scope=index.scope,
            )
        except StoreUnavailableError as error:
            raise ApiError(503, f"the history cannot be read now: {error}") from None
        return list_response(buckets, _row)

    @blueprint.get("/fleet/history")
    @documented(list[SiteHistoryRow], role="viewer", query=SiteHistoryQuery, errors=(503,))
    async def show_fleet_history() -> TrioResponse:
        """Show sums over all assets by periods, newest first; none without a database."""
        return await response(None)

    @blueprint.get("/sites/<site_id>/history")
    @documented(list[SiteHistoryRow], role="viewer", query=SiteHistoryQuery, errors=(404, 503))
    async def show_site_history(site_id: str) -> TrioResponse:
        """Show sums over the assets of a site by periods, newest first; none without a database."""
        return await response(known_site(site_id, indexes))

    return blueprint


def _check_size(index: FleetIndex, site_id: str | None, periods: Periods, *, now_ms: int) -> None:
    """Refuse what takes long.

    Raises:
        ApiError: 400.
    """
    assets = len(index.all_keys if site_id is None else index.keys_of_site(site_id))
    end_ms = min(periods.end_ms, now_ms)
    summarized_ms = max(0, min(end_ms, now_ms - _NOT_SUMMARIZED_MS) - periods.start_ms)
    rest_ms = max(0, end_ms - max(periods.start_ms, now_ms - _NOT_SUMMARIZED_MS))
    rows = assets * (summarized_ms // _ROW_MS + rest_ms // _SAMPLE_MS)
    if rows > _MAX_ROWS:
        hours = (periods.end_ms - periods.start_ms) / 3_600_000
        raise ApiError(
            400,
            f"{hours:g} h of {assets:,} assets are about {rows:,} rows to be read; there may be "
            f"{_MAX_ROWS:,} at most: a later start, an earlier end or one site is less",
        )


def _row(bucket: SiteBucket) -> SiteHistoryRow:
    soc_pct = None
    if bucket.soc_mwhr is not None and bucket.capacity_mwhr:
        soc_pct = 100 * bucket.soc_mwhr / bucket.capacity_mwhr
    return SiteHistoryRow(
        timestamp=format_ms(bucket.start_ms),
        assets=bucket.assets,
        samples=bucket.samples,
        good_samples=bucket.good_samples,
        worst_quality=bucket.worst_quality,
        current_mw=bucket.current_mw,
        setpoint_mw=bucket.setpoint_mw,
        soc_mwhr=bucket.soc_mwhr,
        soc_pct=soc_pct,
        capacity_mwhr=bucket.capacity_mwhr,
    )
