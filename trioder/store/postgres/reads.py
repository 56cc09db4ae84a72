"""Everything read back: watermarks, samples, sessions, assets, dispatches."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, LiteralString

import msgspec
from psycopg.rows import class_row

from trioder.domain.access import ALL_TENANTS, Scope
from trioder.domain.assets import Asset
from trioder.domain.dispatch import AssetSetpointRecord, DispatchRecord, ExcludedAssetRecord
from trioder.domain.quality import QUALITY_NAMES, Quality
from trioder.domain.telemetry import PastSample, Telemetry, status_of
from trioder.store.postgres.database import Watermarks
from trioder.store.postgres.pg_connection import Connection, timestamp
from trioder.store.records import NOTHING_COMMITTED, PastSession, Watermark

# Of `sessions` and of `dispatches`; no sites is too few, not all.
_IN_SCOPE: LiteralString = """
    (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
    AND (
        %(site_ids)s::uuid[] IS NULL
        OR cardinality(site_ids) > 0 AND site_ids <@ %(site_ids)s::uuid[]
    )
"""
# What agents that were away at the time may still obey: the last ones of a week.
_CANCELLED: LiteralString = """
    WHERE state = 'cancelled' AND dispatched_at > now() - interval '7 days'
    ORDER BY dispatched_at DESC LIMIT %s
"""
_CANCELLED_DISPATCHES = 100
# Decoding these takes about 3 ms.
_SHARES_PER_FETCH = 1_000

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
    WHERE {_IN_SCOPE}
        AND (%(agent_id)s::text IS NULL OR agent_id = %(agent_id)s)
        AND (%(asset_id)s::uuid IS NULL OR list_id = ANY (ARRAY(
            SELECT list_id FROM asset_lists WHERE asset_keys && (
                SELECT coalesce(array_agg(asset_key), '{{}}') FROM asset_versions
                WHERE asset_id = %(asset_id)s
            )
        )))
    ORDER BY connected_at DESC LIMIT %(limit)s
"""  # noqa: S608  # constants only
_DISPATCH: LiteralString = """
    SELECT json_build_object(
        'dispatch_id', dispatch.dispatch_id,
        'target', json_build_object('kind', target, 'id', coalesce(target_id::text, '')),
        'mw', mw,
        'allocated_mw', allocated_mw,
        'shortfall_mw', shortfall_mw,
        'duration_s', duration_s,
        'valid_until_ms', (extract(epoch FROM valid_until) * 1000)::bigint,
        'reversion_mw', reversion_mw,
        'expires_in_s', expires_in_s,
        'strategy', strategy,
        'resplit', resplit,
        'dispatched_ms', (extract(epoch FROM dispatched_at) * 1000)::bigint,
        'ends_ms', (extract(epoch FROM ends_at) * 1000)::bigint,
        'state', state,
        'is_open', living,
        'idempotency_key', idempotency_key,
        'request_digest', request_digest,
        'by_state', by_state,
        'assets_left_out', assets_left_out,
        'tenant', tenant,
        'requested_by', requested_by,
        'priority', priority,
        'resplits', (
            SELECT coalesce(json_agg(json_build_object(
                'at_ms', (extract(epoch FROM at) * 1000)::bigint,
                'wire_id', wire_id,
                'dropped', dropped,
                'adjusted', adjusted,
                'joined', joined,
                'changed', changed,
                'shortfall_mw', resplit.shortfall_mw
            ) ORDER BY number), '[]')
            FROM dispatch_resplits AS resplit WHERE resplit.dispatch_id = dispatch.dispatch_id
        )
    )::text
    FROM dispatches AS dispatch
"""
_BY_ASSET: LiteralString = """
    JOIN (
        SELECT dispatch_id, dispatched_at AS share_at FROM dispatch_shares
        WHERE asset_id = %(asset_id)s AND NOT left_out
    ) AS share USING (dispatch_id)
"""
_SHARES: LiteralString = """
    SELECT
        dispatch_id::text,
        CASE WHEN left_out THEN
            json_build_object('asset_id', asset_id, 'code', code, 'allocation', allocation)
        ELSE
            json_build_object(
                'asset_id', asset_id,
                'mw', mw,
                'reversion_mw', reversion_mw,
                'wire_id', wire_id,
                'code', code,
                'allocation', allocation,
                'state', state,
                'held_mw', held_mw,
                'mean_mw', mean_mw,
                'answer', answer,
                'reason', reason,
                'sent_ms', (extract(epoch FROM sent_at) * 1000)::bigint,
                'answered_ms', (extract(epoch FROM answered_at) * 1000)::bigint,
                'tracking_ms', (extract(epoch FROM tracking_at) * 1000)::bigint,
                'ends_ms', (extract(epoch FROM ends_at) * 1000)::bigint,
                'queue_until_ms', (extract(epoch FROM queue_until) * 1000)::bigint,
                'ended_ms', (extract(epoch FROM ended_at) * 1000)::bigint
            )
        END::text,
        left_out
    FROM dispatch_shares WHERE dispatch_id = ANY (%s::uuid[])
    ORDER BY dispatch_id, position
"""
_dispatch_decoder = msgspec.json.Decoder(DispatchRecord)
_member_decoder = msgspec.json.Decoder(AssetSetpointRecord)
_left_out_decoder = msgspec.json.Decoder(ExcludedAssetRecord)


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
            **_of_scope(scope),
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


def _of_scope(scope: Scope) -> dict[str, object]:
    """The parameters of `_IN_SCOPE`; NULL for what is not restricted."""
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
    connection: Connection, scope: Scope, *, limit: int, asset: Asset | None, agent_id: str | None
) -> Sequence[PastSession]:
    """See `Store.sessions`."""
    found = await connection.execute(
        _SESSIONS.encode(),
        {
            "limit": limit,
            "asset_id": None if asset is None else asset.id,
            "agent_id": agent_id,
            **_of_scope(scope),
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
            {"asset_id": asset_id, **_of_scope(scope)},
        )
        return await cursor.fetchone()


async def read_open_dispatches(connection: Connection, *, limit: int) -> Sequence[DispatchRecord]:
    """See `Store.open_dispatches`."""
    # Stops, whatever else is open, must not be forgotten.
    newest = await _read(
        connection,
        _DISPATCH + "WHERE living ORDER BY priority = 'emergency' DESC, dispatched_at DESC LIMIT %s",
        [limit],
    )
    cancelled = await _read(connection, _DISPATCH + _CANCELLED, [_CANCELLED_DISPATCHES])
    oldest_first = sorted([*newest, *cancelled], key=lambda record: record.dispatched_ms)
    return await _with_shares(connection, oldest_first)


async def read_dispatch(
    connection: Connection, scope: Scope, *, dispatch_id: str | None, idempotency_key: str | None, whole: bool
) -> DispatchRecord | None:
    """See `Store.find_dispatch`."""
    found = await _read(
        connection,
        _DISPATCH
        + "WHERE (dispatch_id = %(dispatch_id)s::uuid OR idempotency_key = %(key)s::text) AND "
        + _IN_SCOPE
        + "ORDER BY dispatched_at DESC LIMIT 1",
        {"dispatch_id": dispatch_id, "key": idempotency_key, **_of_scope(scope)},
    )
    if whole:
        found = await _with_shares(connection, found)
    return found[0] if found else None


async def read_dispatches(
    connection: Connection, scope: Scope, *, limit: int, asset: Asset | None, state: str | None, whole: bool
) -> Sequence[DispatchRecord]:
    """See `Store.dispatches`."""
    of_asset: LiteralString = "" if asset is None else _BY_ASSET
    # The index of shares has this time.
    newest_first: LiteralString = "dispatched_at DESC" if asset is None else "share_at DESC"
    query = (
        _DISPATCH
        + of_asset
        + "WHERE (%(state)s::text IS NULL OR state = %(state)s) AND "
        + _IN_SCOPE
        + "ORDER BY "
        + newest_first
        + " LIMIT %(limit)s"
    )
    found = await _read(
        connection,
        query,
        {
            "asset_id": None if asset is None else asset.id,
            "state": state,
            "limit": limit,
            **_of_scope(scope),
        },
    )
    return await _with_shares(connection, found) if whole else found


async def _read(
    connection: Connection, query: LiteralString, values: Sequence[object] | dict[str, object]
) -> list[DispatchRecord]:
    found = await connection.execute(query, values)
    return [_dispatch_decoder.decode(text) for (text,) in await found.fetchall()]


async def _with_shares(connection: Connection, dispatches: Sequence[DispatchRecord]) -> list[DispatchRecord]:
    """Return the dispatches with their assets' shares."""
    members: dict[str, list[AssetSetpointRecord]] = {dispatch.dispatch_id: [] for dispatch in dispatches}
    others: dict[str, list[ExcludedAssetRecord]] = {dispatch.dispatch_id: [] for dispatch in dispatches}
    if dispatches:
        # A server-side cursor: receiving the rows of 100,000 assets at once would block the event loop.
        async with connection.transaction(), connection.cursor(name="shares") as cursor:
            await cursor.execute(_SHARES, [list(members)])
            while rows := await cursor.fetchmany(_SHARES_PER_FETCH):
                for dispatch_id, text, left_out in rows:
                    if left_out:
                        others[dispatch_id].append(_left_out_decoder.decode(text))
                    else:
                        members[dispatch_id].append(_member_decoder.decode(text))
    return [
        replace(dispatch, members=members[dispatch.dispatch_id], left_out=others[dispatch.dispatch_id])
        for dispatch in dispatches
    ]
