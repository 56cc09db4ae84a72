"""`/telemetry/{id}/history`: an asset's recorded samples, or their statistics by periods."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from math import isfinite

from quart import Blueprint
from quart_trio.wrappers import TrioResponse

from trioder.api.asset_query import FleetIndex, FleetIndexes
from trioder.api.context import Headend
from trioder.api.errors import ApiError
from trioder.api.ndjson import lines_response, pages_response, wants_lines
from trioder.api.openapi import documented
from trioder.api.parsing import Query, checked_query, is_id, query_choice, query_limit, query_time_ms
from trioder.api.responses import list_response
from trioder.domain.assets import Asset
from trioder.domain.telemetry import PastSample, Statistics, TelemetryBucket
from trioder.process.rfc3339 import format_ms
from trioder.schemas.resources import (
    DEFAULT_HISTORY_ROWS,
    MAX_HISTORY_LINES,
    MAX_HISTORY_ROWS,
    RESOLUTIONS,
    HistoryBucketRow,
    HistoryQuery,
    HistoryRow,
    StatisticsRow,
)
from trioder.store.interface import StoreUnavailableError

# Of lines: decoding a page takes 3 ms.
_PAGE_ROWS = 500
# The years 1 to 9999, as in `rfc3339`.
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999


def history_blueprint(headend: Headend, indexes: FleetIndexes) -> Blueprint:
    """Return the route of history."""
    blueprint = Blueprint("history", __name__)

    @blueprint.get("/telemetry/<asset_id>/history")
    @documented(
        (list[HistoryRow], list[HistoryBucketRow]),
        role="viewer",
        query=HistoryQuery,
        errors=(404, 503),
        lines=True,
    )
    async def list_history(asset_id: str) -> TrioResponse:
        """List recorded samples of one asset, newest first, or their statistics; none without a database."""
        query = checked_query(HistoryQuery)
        start_ms, end_ms = checked_times(query)
        resolution = query_choice(query, "resolution", tuple(RESOLUTIONS))
        lines = wants_lines()
        index = indexes.of_request()
        try:
            if resolution is not None:
                periods = Periods(query, resolution, start_ms, end_ms, now_ms=headend.wall.now_ms())
                asset = await _asset_with_history(headend, index, asset_id)
                buckets = await headend.store.history_buckets(
                    asset,
                    resolution_s=periods.resolution_s,
                    start_ms=periods.start_ms,
                    end_ms=periods.end_ms,
                    limit=periods.limit,
                    scope=index.scope,
                )
                return (lines_response if lines else list_response)(buckets, _bucket_row)
            highest, default = (MAX_HISTORY_LINES,) * 2 if lines else (MAX_HISTORY_ROWS, DEFAULT_HISTORY_ROWS)
            limit = query_limit(query, highest=highest, default=default)
            asset = await _asset_with_history(headend, index, asset_id)
            read = partial(headend.store.history, asset, start_ms=start_ms, scope=index.scope)
            past = await read(limit=min(limit, _PAGE_ROWS) if lines else limit, end_ms=end_ms)
        except StoreUnavailableError as error:
            raise ApiError(503, f"the history cannot be read now: {error}") from None
        if not lines:
            return list_response(past, _history_row)
        return pages_response(_pages(read, past, limit), _history_row)

    return blueprint


async def _pages(
    read: Callable[..., Awaitable[Sequence[PastSample]]], page: Sequence[PastSample], limit: int
) -> AsyncGenerator[Sequence[PastSample]]:
    """Yield samples page by page, newest first: each is a query of its own, and none waits for the client.

    Args:
        read: the newest samples up to a `limit` and before `end_ms`.
        page: the first page.
        limit: of all pages.
    """
    while len(page) == _PAGE_ROWS and len(page) < limit:
        last_ms = page[-1].telemetry.ts_unix_ms
        # There may be more of the last instant: its samples begin the next page, unless they are a page.
        complete = [sample for sample in page if sample.telemetry.ts_unix_ms > last_ms]
        yield complete or page
        limit -= len(complete or page)
        end_ms = last_ms + 1 if complete else last_ms
        page = await read(limit=min(limit, _PAGE_ROWS), end_ms=end_ms)
    yield page


def checked_times(query: Query) -> tuple[int | None, int | None]:
    """Return the start and the end of a query, Unix time in ms.

    Raises:
        ApiError: 400.
    """
    start_ms, end_ms = query_time_ms(query, "start"), query_time_ms(query, "end")
    if start_ms is not None and end_ms is not None and start_ms >= end_ms:
        raise ApiError(
            400,
            f"start is {format_ms(start_ms)} and end is {format_ms(end_ms)}; start must be before end",
        )
    return start_ms, end_ms


class Periods:
    """The whole periods that a query asks for; `end` is the present by default.

    Without a start, as many as the limit says; with one, all of them, or the newest up to the limit.

    Attributes:
        resolution_s: of each period.
        start_ms: a multiple of it, and so is
        end_ms: the end.
        limit: how many of those with samples.

    Raises:
        ApiError: 400: there are too many.
    """

    def __init__(
        self, query: Query, resolution: str, start_ms: int | None, end_ms: int | None, *, now_ms: int
    ) -> None:
        self.resolution_s = RESOLUTIONS[resolution]
        step_ms = self.resolution_s * 1000
        default = DEFAULT_HISTORY_ROWS if start_ms is None else MAX_HISTORY_ROWS
        self.limit = query_limit(query, highest=MAX_HISTORY_ROWS, default=default)
        if end_ms is None:
            end_ms = now_ms if start_ms is None else max(now_ms, start_ms + 1)
        self.end_ms = min(-(-end_ms // step_ms) * step_ms, _LAST_MS // step_ms * step_ms)
        if start_ms is None:
            start_ms = self.end_ms - self.limit * step_ms
        self.start_ms = max(start_ms, _FIRST_MS) // step_ms * step_ms
        periods = (self.end_ms - self.start_ms) // step_ms
        if periods > MAX_HISTORY_ROWS:
            raise ApiError(
                400,
                f"from start to end, or to now, are {periods:,} periods of {resolution}; there may be "
                f"{MAX_HISTORY_ROWS:,} at most",
            )


async def _asset_with_history(headend: Headend, index: FleetIndex, asset_id: str) -> Asset:
    if is_id(asset_id) and index.find(asset_id.lower()) is None:
        retired = await headend.store.find_retired_asset(asset_id.lower(), scope=index.scope)
        if retired is not None:
            return retired
    return headend.fleet.assets[index.key_of(asset_id)]


def _bucket_row(bucket: TelemetryBucket) -> HistoryBucketRow:
    return HistoryBucketRow(
        timestamp=format_ms(bucket.start_ms),
        samples=bucket.samples,
        good_samples=bucket.good_samples,
        worst_quality=bucket.worst_quality,
        soc_mwhr=_statistics_row(bucket.soc_mwhr),
        soc_pct=_statistics_row(bucket.soc_pct),
        current_mw=_statistics_row(bucket.current_mw),
        setpoint_mw=_statistics_row(bucket.setpoint_mw),
    )


def _statistics_row(of: Statistics) -> StatisticsRow:
    return StatisticsRow(mean=of.mean, min=of.min, max=of.max, last=of.last)


def _history_row(sample: PastSample) -> HistoryRow:
    telemetry = sample.telemetry
    return HistoryRow(
        asset_id=telemetry.asset_id,
        site_id=telemetry.site_id,
        timestamp=format_ms(telemetry.ts_unix_ms),
        soc_mwhr=_finite(telemetry.soc_mwhr),
        soc_pct=_finite(telemetry.soc_pct),
        capacity_mwhr=telemetry.capacity_mwhr,
        current_mw=_finite(telemetry.current_mw),
        setpoint_mw=_finite(telemetry.setpoint_mw),
        max_mw=telemetry.max_mw,
        min_mw=telemetry.min_mw,
        status=telemetry.status,
        source=sample.source,
        quality=sample.quality,
    )


def _finite(value: float) -> float | None:
    """Return None for the values that JSON cannot represent."""
    return value if isfinite(value) else None
