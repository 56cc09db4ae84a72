"""The history of an asset at a resolution: samples aggregated by periods, in SQL.

Hours that are summarized are read from `telemetry_5m`, all others from `samples`; in one statement, so from
one state of the database. What makes the summaries is in `summaries`.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, LiteralString

from trioder.domain.access import ALL_TENANTS, Scope
from trioder.domain.assets import Asset
from trioder.domain.quality import QualityName
from trioder.domain.telemetry import Statistics, TelemetryBucket
from trioder.store.postgres.pg_connection import Connection, timestamp

# The period of a row of telemetry_5m, in s.
SUMMARY_PERIOD_S = 300
# Between two checkpoints: about 3 ms.
_ROWS_PER_TURN = 500
# By the numbers of `worst`.
WORST: tuple[QualityName, ...] = ("good", "synthesized", "suspect", "wrong_time", "bad")

# Beyond any battery: not finite, or so large that sums overflow. Of rows from before schema version 3.
USABLE: LiteralString = """
    quality IN (0, 3) AND soc_mwhr BETWEEN -1e12 AND 1e12
    AND current_mw BETWEEN -1e12 AND 1e12 AND setpoint_mw BETWEEN -1e12 AND 1e12
"""
# Of `samples`, whose synthesized rows from before schema version 3 have quality 0. The columns are those of
# telemetry_5m after its keys.
AGGREGATES: LiteralString = f"""
    sum(soc_mwhr) FILTER (WHERE {USABLE}) AS soc_mwhr_sum,
    min(soc_mwhr) FILTER (WHERE {USABLE}) AS soc_mwhr_min,
    max(soc_mwhr) FILTER (WHERE {USABLE}) AS soc_mwhr_max,
    sum(current_mw) FILTER (WHERE {USABLE}) AS current_mw_sum,
    min(current_mw) FILTER (WHERE {USABLE}) AS current_mw_min,
    max(current_mw) FILTER (WHERE {USABLE}) AS current_mw_max,
    sum(setpoint_mw) FILTER (WHERE {USABLE}) AS setpoint_mw_sum,
    min(setpoint_mw) FILTER (WHERE {USABLE}) AS setpoint_mw_min,
    max(setpoint_mw) FILTER (WHERE {USABLE}) AS setpoint_mw_max,
    max(ARRAY[extract(epoch FROM ts)::float8, soc_mwhr, current_mw, setpoint_mw])
        FILTER (WHERE {USABLE}) AS last,
    count(*) AS samples,
    count(*) FILTER (WHERE {USABLE}) AS good,
    max(CASE WHEN quality = 0 THEN source ELSE ('{{0,2,4,1,3}}'::smallint[])[quality + 1] END) AS worst
"""
OF_SUMMARIES: LiteralString = """
    sum(soc_mwhr_sum) AS soc_mwhr_sum, min(soc_mwhr_min) AS soc_mwhr_min, max(soc_mwhr_max) AS soc_mwhr_max,
    sum(current_mw_sum) AS current_mw_sum, min(current_mw_min) AS current_mw_min,
    max(current_mw_max) AS current_mw_max, sum(setpoint_mw_sum) AS setpoint_mw_sum,
    min(setpoint_mw_min) AS setpoint_mw_min, max(setpoint_mw_max) AS setpoint_mw_max, max(last) AS last,
    sum(samples) AS samples, sum(good) AS good, max(worst) AS worst
"""
# A run is a span that is summarized as a whole, or not at all.
RUNS: LiteralString = """
    WITH summarized AS (
        SELECT min(hour) AS first, max(hour) + interval '1 hour' AS until
        FROM (
            SELECT hour, hour - row_number() OVER (ORDER BY hour) * interval '1 hour' AS run
            FROM telemetry_hours
            WHERE %(of_summaries)s AND changes = summarized
                AND hour >= date_trunc('hour', %(start)s::timestamptz, 'UTC') AND hour < %(end)s::timestamptz
        ) AS numbered
        GROUP BY run
    ), run AS MATERIALIZED (
        SELECT
            true AS is_summarized,
            greatest(first, %(start)s::timestamptz) AS first,
            least(until, %(end)s::timestamptz) AS until
        FROM summarized
        UNION ALL
        SELECT false, first, until
        FROM (
            SELECT coalesce(lag(until) OVER (ORDER BY first), %(start)s::timestamptz) AS first, first AS until
            FROM summarized
            UNION ALL
            SELECT coalesce(max(until), %(start)s::timestamptz), %(end)s::timestamptz FROM summarized
        ) AS gap
        WHERE first < until
"""
# Aggregated within LATERAL: the planner then scans by asset, as the indexes do.
_BUCKETS: LiteralString = f"""
{RUNS}    ), span AS MATERIALIZED (
        SELECT asset_key, capacity_mwhr, run.*
        FROM asset_versions AS version CROSS JOIN run
        WHERE version.asset_id = %(asset_id)s::uuid
            AND (%(site_ids)s::uuid[] IS NULL OR version.site_id = ANY (%(site_ids)s::uuid[]))
            AND (%(tenant)s::text IS NULL OR EXISTS (
                SELECT FROM sites WHERE sites.id = version.site_id AND sites.tenant = %(tenant)s
            ))
    ), part AS (
        SELECT capacity_mwhr, summary.*
        FROM span CROSS JOIN LATERAL (
            SELECT date_bin(%(step)s::interval, bucket, 'epoch') AS start, {OF_SUMMARIES}
            FROM telemetry_5m
            WHERE asset_key = span.asset_key AND bucket >= span.first AND bucket < span.until
            GROUP BY 1
        ) AS summary
        WHERE is_summarized
        UNION ALL
        SELECT capacity_mwhr, sample.*
        FROM span CROSS JOIN LATERAL (
            SELECT date_bin(%(step)s::interval, ts, 'epoch') AS start, {AGGREGATES}
            FROM samples
            WHERE asset_key = span.asset_key AND ts >= span.first AND ts < span.until
            GROUP BY 1
        ) AS sample
        WHERE NOT is_summarized
    ), bucket AS (
        SELECT
            start, {OF_SUMMARIES},
            sum(soc_mwhr_sum / capacity_mwhr) * 100 AS soc_pct_sum,
            min(soc_mwhr_min / capacity_mwhr) * 100 AS soc_pct_min,
            max(soc_mwhr_max / capacity_mwhr) * 100 AS soc_pct_max,
            max(last || capacity_mwhr) FILTER (WHERE last IS NOT NULL) AS last_of_capacity
        FROM part GROUP BY start ORDER BY start DESC LIMIT %(limit)s
    )
    SELECT
        (extract(epoch FROM start) * 1000)::bigint, samples::bigint, good::bigint, worst,
        soc_mwhr_sum / good::float8, soc_mwhr_min, soc_mwhr_max, last[2],
        soc_pct_sum / good::float8, soc_pct_min, soc_pct_max,
        last_of_capacity[2] / last_of_capacity[5] * 100,
        current_mw_sum / good::float8, current_mw_min, current_mw_max, last[3],
        setpoint_mw_sum / good::float8, setpoint_mw_min, setpoint_mw_max, last[4]
    FROM bucket ORDER BY start DESC
"""  # noqa: S608  # constants only


async def read_buckets(
    connection: Connection,
    scope: Scope,
    asset: Asset,
    *,
    resolution_s: int,
    start_ms: int,
    end_ms: int,
    limit: int,
) -> Sequence[TelemetryBucket]:
    """See `Queries.history_buckets`."""
    found = await connection.execute(
        _BUCKETS,
        {
            "asset_id": asset.id,
            "start": timestamp(start_ms),
            "end": timestamp(end_ms),
            "step": timedelta(seconds=resolution_s),
            "of_summaries": resolution_s % SUMMARY_PERIOD_S == 0,
            "limit": limit,
            "tenant": None if scope.tenant == ALL_TENANTS else scope.tenant,
            "site_ids": None if scope.site_ids is None else list(scope.site_ids),
        },
        # Numbers in text take twice as long.
        binary=True,
    )
    buckets: list[TelemetryBucket] = []
    while rows := await found.fetchmany(_ROWS_PER_TURN):
        buckets += map(_bucket, rows)
        await asyncio.sleep(0)
    return buckets


def _bucket(row: tuple[Any, ...]) -> TelemetryBucket:
    return TelemetryBucket(
        start_ms=row[0],
        samples=row[1],
        good_samples=row[2],
        worst_quality=WORST[row[3]],
        soc_mwhr=Statistics(*row[4:8]),
        soc_pct=Statistics(*row[8:12]),
        current_mw=Statistics(*row[12:16]),
        setpoint_mw=Statistics(*row[16:20]),
    )
