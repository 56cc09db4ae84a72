"""What is read back: marks, an asset's past, past sessions."""

from collections.abc import Mapping, Sequence
from typing import Any

from trioder.domain.assets import Asset
from trioder.domain.quality import QUALITY_NAMES, Quality
from trioder.domain.telemetry import PastSample, Telemetry, status_of
from trioder.store.postgres.database import Watermarks
from trioder.store.postgres.pg_connection import Connection
from trioder.store.postgres.values import instant
from trioder.store.records import NOTHING_COMMITTED, PastSession, Watermark

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
_SESSIONS = """
    SELECT
        session_id::text, agent_id, epoch, peer, cardinality(asset_keys),
        (extract(epoch FROM connected_at) * 1000)::bigint,
        (extract(epoch FROM disconnected_at) * 1000)::bigint, reason
    FROM sessions JOIN asset_lists USING (list_id)
    WHERE (%(agent_id)s::text IS NULL OR agent_id = %(agent_id)s)
        AND (%(asset_id)s::uuid IS NULL OR asset_keys && (
            SELECT coalesce(array_agg(asset_key), '{}') FROM asset_versions WHERE asset_id = %(asset_id)s
        ))
    ORDER BY connected_at DESC LIMIT %(limit)s
"""


async def read_marks(connection: Connection, *, limit: int) -> Watermarks:
    """The marks that moved last."""
    found = await connection.execute(
        "SELECT outbox_id, batch_seq, batch_ts_unix_ms FROM ingest_watermarks "
        "ORDER BY updated_at DESC LIMIT %s",
        [limit + 1],
    )
    newest = {outbox_id: Watermark(int(seq), ts_ms) for outbox_id, seq, ts_ms in await found.fetchall()}
    # Oldest first, as they are forgotten when there are more.
    by_outbox = dict(reversed(newest.items()))
    return Watermarks(by_outbox=by_outbox, complete=len(by_outbox) <= limit)


async def read_mark(connection: Connection, outbox_id: str) -> Watermark:
    """One outbox's mark; `NOTHING_COMMITTED` when it has none."""
    found = await connection.execute(
        "SELECT batch_seq, batch_ts_unix_ms FROM ingest_watermarks WHERE outbox_id = %s", [outbox_id]
    )
    row = await found.fetchone()
    return NOTHING_COMMITTED if row is None else Watermark(int(row[0]), row[1])


async def read_history(
    connection: Connection, asset: Asset, *, limit: int, start_ms: int | None, end_ms: int | None
) -> Sequence[PastSample]:
    """See `Store.history`; each sample with the nameplate of its time."""
    found = await connection.execute(
        _HISTORY,
        {"asset_id": asset.id, "limit": limit, "start": instant(start_ms), "end": instant(end_ms)},
    )
    return [_past_sample(asset, row) for row in await found.fetchall()]


async def read_reported_times(
    connection: Connection, asset_ids: Sequence[str], *, limit: int
) -> Mapping[str, Sequence[int]]:
    """See `Store.reported_times`; of an asset whose nameplate was changed, `limit` of each nameplate."""
    found = await connection.execute(_REPORTED_TIMES, {"asset_ids": list(asset_ids), "limit": limit})
    return dict(await found.fetchall())


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
        # Synthesized rows from before there were codes have 0.
        quality="synthesized" if source and not code else QUALITY_NAMES[Quality(code)],
    )


async def read_sessions(
    connection: Connection, *, limit: int, asset: Asset | None, agent_id: str | None
) -> Sequence[PastSession]:
    """See `Store.sessions`."""
    found = await connection.execute(
        _SESSIONS, {"limit": limit, "asset_id": None if asset is None else asset.id, "agent_id": agent_id}
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
        )
        for session_id, of_agent, epoch, peer, assets, connected_ms, disconnected_ms, reason in (
            await found.fetchall()
        )
    ]


async def read_retired_asset(connection: Connection, *, asset_id: str) -> Asset | None:
    """An asset that is not in the fleet any more; None when there is none of this id."""
    found = await connection.execute(
        """
        SELECT asset.name, site_id::text, site.name, asset.location, capacity_mwhr, max_mw, min_mw,
            charge_efficiency, discharge_efficiency, ramp_rate_mw_per_min
        FROM assets AS asset JOIN sites AS site ON site.id = site_id
        WHERE asset.id = %s::uuid AND NOT asset.in_fleet
        """,
        [asset_id],
    )
    row = await found.fetchone()
    if row is None:
        return None
    name, site_id, site_name, location, capacity_mwhr, max_mw, min_mw, charging, discharging, ramp = row
    return Asset(
        id=asset_id,
        name=name,
        site_id=site_id,
        site_name=site_name,
        location=location,
        capacity_mwhr=capacity_mwhr,
        max_mw=max_mw,
        min_mw=min_mw,
        charge_efficiency=charging,
        discharge_efficiency=discharging,
        ramp_rate_mw_per_min=ramp,
    )
