"""Sums over the assets of sites: their history at a resolution, and the power of the last minutes."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import LiteralString

from trioder.domain.access import Scope
from trioder.domain.telemetry import SiteBucket, SitePower
from trioder.store.postgres.buckets import AGGREGATES, OF_SUMMARIES, RUNS, USABLE, WORST
from trioder.store.postgres.pg_connection import Connection, timestamp
from trioder.store.postgres.reads import of_scope

# Between two checkpoints: about 3 ms.
_ROWS_PER_TURN = 500

# As for one asset, in `buckets`; then the mean of each asset, which may have had several nameplates.
_HISTORY: LiteralString = f"""
{RUNS}
    ), span AS MATERIALIZED (
        SELECT asset_id, asset_key, capacity_mwhr, run.*
        FROM asset_versions AS version CROSS JOIN run
        WHERE (%(wanted)s::uuid[] IS NULL OR version.site_id = ANY (%(wanted)s::uuid[]))
            AND (%(site_ids)s::uuid[] IS NULL OR version.site_id = ANY (%(site_ids)s::uuid[]))
            AND (%(tenant)s::text IS NULL OR EXISTS (
                SELECT FROM sites WHERE sites.id = version.site_id AND sites.tenant = %(tenant)s
            ))
    ), part AS (
        SELECT asset_id, capacity_mwhr, summary.*
        FROM span CROSS JOIN LATERAL (
            SELECT date_bin(%(step)s::interval, bucket, 'epoch') AS start, {OF_SUMMARIES}
            FROM telemetry_5m
            WHERE asset_key = span.asset_key AND bucket >= span.first AND bucket < span.until
            GROUP BY 1
        ) AS summary
        WHERE is_summarized
        UNION ALL
        SELECT asset_id, capacity_mwhr, sample.*
        FROM span CROSS JOIN LATERAL (
            SELECT date_bin(%(step)s::interval, ts, 'epoch') AS start, {AGGREGATES}
            FROM samples
            WHERE asset_key = span.asset_key AND ts >= span.first AND ts < span.until
            GROUP BY 1
        ) AS sample
        WHERE NOT is_summarized
    ), mean AS (
        SELECT
            start, sum(samples) AS samples, sum(good) AS good, max(worst) AS worst,
            sum(current_mw_sum) / nullif(sum(good), 0)::float8 AS current_mw,
            sum(setpoint_mw_sum) / nullif(sum(good), 0)::float8 AS setpoint_mw,
            sum(soc_mwhr_sum) / nullif(sum(good), 0)::float8 AS soc_mwhr,
            sum(capacity_mwhr * good) / nullif(sum(good), 0)::float8 AS capacity_mwhr
        FROM part GROUP BY asset_id, start
    )
    SELECT
        (extract(epoch FROM start) * 1000)::bigint, count(*) FILTER (WHERE good > 0),
        sum(samples)::bigint, sum(good)::bigint, max(worst),
        sum(current_mw), sum(setpoint_mw), sum(soc_mwhr), sum(capacity_mwhr)
    FROM mean GROUP BY start ORDER BY start DESC LIMIT %(limit)s
"""  # noqa: S608  # constants only
_POWER: LiteralString = f"""
    SELECT
        version.site_id::text, (extract(epoch FROM start) * 1000)::bigint, count(*),
        sum(mean.current_mw), sum(mean.setpoint_mw)
    FROM asset_versions AS version
    JOIN assets AS asset ON asset.id = version.asset_id AND asset.in_fleet
    CROSS JOIN LATERAL (
        SELECT
            date_bin(%(step)s::interval, ts, 'epoch') AS start,
            avg(current_mw) AS current_mw, avg(setpoint_mw) AS setpoint_mw
        FROM samples
        WHERE asset_key = version.asset_key AND ts >= %(start)s AND ts < %(end)s AND {USABLE}
        GROUP BY 1
    ) AS mean
    GROUP BY version.site_id, start
"""  # noqa: S608  # constants only


async def read_site_history(
    connection: Connection,
    scope: Scope,
    site_ids: Sequence[str] | None,
    *,
    resolution_s: int,
    start_ms: int,
    end_ms: int,
    limit: int,
) -> Sequence[SiteBucket]:
    """See `Queries.site_history`."""
    found = await connection.execute(
        _HISTORY,
        {
            **of_scope(scope),
            "wanted": None if site_ids is None else list(site_ids),
            "start": timestamp(start_ms),
            "end": timestamp(end_ms),
            "step": timedelta(seconds=resolution_s),
            "of_summaries": True,
            "limit": limit,
        },
        # Numbers in text take twice as long.
        binary=True,
    )
    buckets: list[SiteBucket] = []
    while rows := await found.fetchmany(_ROWS_PER_TURN):
        buckets += [
            SiteBucket(start, assets, samples, good, WORST[worst], *sums)
            for start, assets, samples, good, worst, *sums in rows
        ]
        await asyncio.sleep(0)
    return buckets


async def read_site_power(
    connection: Connection, *, start_ms: int, end_ms: int, step_s: int
) -> Sequence[SitePower]:
    """See `Queries.site_power`."""
    found = await connection.execute(
        _POWER,
        {
            "start": timestamp(start_ms),
            "end": timestamp(end_ms),
            "step": timedelta(seconds=step_s),
        },
        binary=True,
    )
    powers: list[SitePower] = []
    while rows := await found.fetchmany(_ROWS_PER_TURN):
        powers += [SitePower(*row) for row in rows]
        await asyncio.sleep(0)
    return powers
