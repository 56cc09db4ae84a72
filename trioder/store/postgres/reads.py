"""Everything read back: watermarks, samples, sessions, assets, dispatches."""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from psycopg.rows import class_row

from trioder.domain.access import ALL_TENANTS, Scope
from trioder.domain.assets import Asset
from trioder.domain.quality import QUALITY_NAMES, Quality
from trioder.domain.telemetry import PastSample, Telemetry, status_of
from trioder.store.postgres.database import Watermarks
from trioder.store.postgres.pg_connection import Connection, timestamp
from trioder.store.records import NOTHING_COMMITTED, PastSession, Watermark

# Of `sessions` and of `dispatches`; no sites is too few, not all.
IN_SCOPE: LiteralString = """
    (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
    AND (
        %(site_ids)s::uuid[] IS NULL
        OR cardinality(site_ids) > 0 AND site_ids <@ %(site_ids)s::uuid[]
    )
"""
_HISTORY = """
    SELECT sample.*, version.site_id::text, version.capacity_mwhr, version.max_mw, version.min_mw
    FROM asset_versions AS version
    CROSS JOIN LATERAL (
        SELECT
            (extract(epoch FROM ts) * 1000)::bigint AS ts_unix_ms, soc_mwhr, current_mw, setpoint_mw,
            available_discharge_mw, available_charge_mw, source, quality
        FROM samples
        WHERE asset_key = version.asset_key
            AND ts >= coalesce(%(start)s::timestamptz, '-infinity')
            AND ts < coalesce(%(end)s::timestamptz, 'infinity')
        ORDER BY ts DESC LIMIT %(limit)s
    ) AS sample
    WHERE version.asset_id = %(asset_id)s::uuid
        AND (%(site_ids)s::uuid[] IS NULL OR version.site_id = ANY (%(site_ids)s::uuid[]))
        AND (%(tenant)s::text IS NULL OR EXISTS (
            SELECT FROM sites WHERE sites.id = version.site_id AND sites.tenant = %(tenant)s
        ))
    ORDER BY sample.ts_unix_ms DESC LIMIT %(limit)s
"""
_REPORTED_TIMES = """
    SELECT version.asset_id::text, array_agg(sample.ts_unix_ms ORDER BY sample.ts_unix_ms)
    FROM asset_versions AS version
    CROSS JOIN LATERAL (
        SELECT (extract(epoch FROM ts) * 1000)::bigint AS ts_unix_ms, source
        FROM samples WHERE asset_key = version.asset_key
        ORDER BY ts DESC LIMIT %(limit)s
    ) AS sample
    WHERE version.asset_id = ANY (%(asset_ids)s::uuid[]) AND sample.source = 0
    GROUP BY version.asset_id
"""
_SESSIONS = f"""
    SELECT
        session_id::text, agent_id, epoch, peer, cardinality(asset_keys),
        (extract(epoch FROM connected_at) * 1000)::bigint,
        (extract(epoch FROM disconnected_at) * 1000)::bigint, reason, identity
    FROM sessions JOIN asset_lists USING (list_id)
    WHERE {IN_SCOPE}
        AND (%(agent_id)s::text IS NULL OR agent_id = %(agent_id)s)
        AND (%(asset_id)s::uuid IS NULL OR list_id = ANY (ARRAY(
            SELECT list_id FROM asset_lists WHERE asset_keys && (
                SELECT coalesce(array_agg(asset_key), '{{}}') FROM asset_versions
                WHERE asset_id = %(asset_id)s
            )
        )))
        AND (%(session_id)s::uuid IS NULL OR session_id = %(session_id)s)
        AND (%(site_id)s::uuid IS NULL OR site_ids @> ARRAY[%(site_id)s::uuid] OR (
            site_ids IS NULL AND list_id = ANY (ARRAY(
                SELECT list_id FROM asset_lists WHERE asset_keys && (
                    SELECT coalesce(array_agg(asset_key), '{{}}') FROM asset_versions
                    WHERE site_id = %(site_id)s
                )
            ))
        ))
        AND (
            %(before_at)s::timestamptz IS NULL
            OR (connected_at, session_id) < (%(before_at)s, %(before_id)s::uuid)
        )
    ORDER BY connected_at DESC, session_id DESC LIMIT %(limit)s
"""  # noqa: S608  # constants only


async def read_watermarks(connection: Connection, *, limit: int) -> Watermarks:
    """Return the most recently updated watermarks."""
    found = await connection.execute(
        "SELECT outbox_id, batch_seq, batch_ts_unix_ms FROM ingest_watermarks "
        "ORDER BY updated_at DESC LIMIT %s",
        [limit + 1],
    )
    newest = {outbox_id: Watermark(int(seq), ts_ms) for outbox_id, seq, ts_ms in await found.fetchall()}
    # Oldest first: the store evicts from the front.
    by_outbox = dict(reversed(newest.items()))
    return Watermarks(by_outbox=by_outbox, complete=len(by_outbox) <= limit)


async def read_watermark(connection: Connection, outbox_id: str) -> Watermark:
    """Return one outbox's watermark."""
    found = await connection.execute(
        "SELECT batch_seq, batch_ts_unix_ms FROM ingest_watermarks WHERE outbox_id = %s", [outbox_id]
    )
    row = await found.fetchone()
    return NOTHING_COMMITTED if row is None else Watermark(int(row[0]), row[1])


async def read_history(
    connection: Connection,
    scope: Scope,
    asset: Asset,
    *,
    limit: int,
    start_ms: int | None,
    end_ms: int | None,
) -> Sequence[PastSample]:
    """See `Store.history`; each sample has the nameplate valid at its time."""
    found = await connection.execute(
        _HISTORY,
        {
            "asset_id": asset.id,
            "limit": limit,
            "start": timestamp(start_ms),
            "end": timestamp(end_ms),
            **of_scope(scope),
        },
    )
    return [_past_sample(asset, row) for row in await found.fetchall()]


async def read_reported_times(
    connection: Connection, assets: Sequence[Asset], *, limit: int
) -> Mapping[str, Sequence[int]]:
    """See `Store.reported_times`; of an asset with several nameplates, `limit` of each."""
    found = await connection.execute(
        _REPORTED_TIMES, {"asset_ids": [asset.id for asset in assets], "limit": limit}
    )
    return dict(await found.fetchall())


def of_scope(scope: Scope) -> dict[str, object]:
    """The parameters of `IN_SCOPE`; NULL for what is not restricted."""
    return {
        "tenant": None if scope.tenant == ALL_TENANTS else scope.tenant,
        "site_ids": None if scope.site_ids is None else list(scope.site_ids),
    }


def _past_sample(asset: Asset, row: tuple[Any, ...]) -> PastSample:
    ts_unix_ms, soc_mwhr, current_mw, setpoint_mw, discharge_mw, charge_mw, source, code, *nameplate = row
    site_id, capacity_mwhr, max_mw, min_mw = nameplate
    return PastSample(
        telemetry=Telemetry(
            asset_id=asset.id,
            site_id=site_id,
            site_name=asset.site_name,
            ts_unix_ms=ts_unix_ms,
            soc_mwhr=soc_mwhr,
            soc_pct=soc_mwhr / capacity_mwhr * 100.0,
            capacity_mwhr=capacity_mwhr,
            current_mw=current_mw,
            setpoint_mw=setpoint_mw,
            max_mw=max_mw,
            min_mw=min_mw,
            available_discharge_mw=discharge_mw,
            available_charge_mw=charge_mw,
            status=status_of(current_mw),
        ),
        source="agent" if source == 0 else "synthesized",
        # Synthesized rows from before schema version 3 have 0.
        quality="synthesized" if source and not code else QUALITY_NAMES[Quality(code)],
    )


async def read_sessions(
    connection: Connection,
    scope: Scope,
    *,
    limit: int,
    asset: Asset | None = None,
    site_id: str | None = None,
    agent_id: str | None = None,
    before: tuple[int, str] | None = None,
    session_id: str | None = None,
) -> Sequence[PastSession]:
    """See `Store.sessions`."""
    before_ms, before_id = before or (None, None)
    found = await connection.execute(
        _SESSIONS.encode(),
        {
            "limit": limit,
            "asset_id": None if asset is None else asset.id,
            "site_id": site_id,
            "agent_id": agent_id,
            "session_id": session_id,
            "before_at": timestamp(before_ms),
            "before_id": before_id,
            **of_scope(scope),
        },
    )
    return [
        PastSession(
            session_id=session_id,
            agent_id=of_agent,
            epoch=int(epoch),
            peer=peer,
            assets=assets,
            connected_ms=connected_ms,
            disconnected_ms=disconnected_ms,
            reason=reason,
            identity=identity,
        )
        for session_id, of_agent, epoch, peer, assets, connected_ms, disconnected_ms, reason, identity in (
            await found.fetchall()
        )
    ]


async def read_session(connection: Connection, scope: Scope, session_id: str) -> PastSession | None:
    """See `Queries.find_session`."""
    found = await read_sessions(connection, scope, limit=1, session_id=session_id)
    return found[0] if found else None


async def read_retired_asset(connection: Connection, scope: Scope, asset_id: str) -> Asset | None:
    """See `Store.find_retired_asset`."""
    async with connection.cursor(row_factory=class_row(Asset)) as cursor:
        await cursor.execute(
            """
            SELECT asset.id::text, asset.name, site_id::text, site.name AS site_name, asset.location,
                capacity_mwhr, max_mw, min_mw, charge_efficiency, discharge_efficiency, ramp_rate_mw_per_min
            FROM assets AS asset JOIN sites AS site ON site.id = site_id
            WHERE asset.id = %(asset_id)s::uuid AND NOT asset.in_fleet
                AND (%(tenant)s::text IS NULL OR site.tenant = %(tenant)s)
                AND (%(site_ids)s::uuid[] IS NULL OR site.id = ANY (%(site_ids)s::uuid[]))
            """,
            {"asset_id": asset_id, **of_scope(scope)},
        )
        return await cursor.fetchone()
