"""Dispatches read back, as they were recorded; those of many assets in slices."""

from collections.abc import Sequence
from dataclasses import replace
from typing import LiteralString

import msgspec

from trioder.domain.assets import Asset
from trioder.domain.dispatch import AssetSetpointRecord, DispatchRecord, ExcludedAssetRecord
from trioder.store.postgres.pg_connection import Connection

# About 3 ms of the headend's time.
_SHARES_A_TURN = 1_000

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
        'resplits', (
            SELECT coalesce(json_agg(json_build_object(
                'at_ms', (extract(epoch FROM at) * 1000)::bigint,
                'wire_id', wire_id,
                'dropped', dropped,
                'adjusted', adjusted,
                'joined', joined,
                'changed', changed,
                'shortfall_mw', again.shortfall_mw
            ) ORDER BY number), '[]')
            FROM dispatch_resplits AS again WHERE again.dispatch_id = dispatch.dispatch_id
        )
    )::text
    FROM dispatches AS dispatch
"""
_OF_ASSET: LiteralString = """
    JOIN (
        SELECT dispatch_id, dispatched_at AS given_at FROM dispatch_shares
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


async def read_open_dispatches(connection: Connection, *, limit: int) -> Sequence[DispatchRecord]:
    """See `Store.living_dispatches`."""
    newest = await _read(connection, _DISPATCH + "WHERE living ORDER BY dispatched_at DESC LIMIT %s", [limit])
    return await _whole(connection, list(reversed(newest)))


async def read_dispatch(
    connection: Connection, *, dispatch_id: str | None, idempotency_key: str | None, whole: bool
) -> DispatchRecord | None:
    """See `Store.find_dispatch`."""
    found = await _read(
        connection,
        _DISPATCH + "WHERE dispatch_id = %s::uuid OR idempotency_key = %s::text "
        "ORDER BY dispatched_at DESC LIMIT 1",
        [dispatch_id, idempotency_key],
    )
    if whole:
        found = await _whole(connection, found)
    return found[0] if found else None


async def read_dispatches(
    connection: Connection, *, limit: int, asset: Asset | None, state: str | None, whole: bool
) -> Sequence[DispatchRecord]:
    """See `Store.dispatches`."""
    query = _DISPATCH + (
        "WHERE (%(state)s::text IS NULL OR state = %(state)s) ORDER BY dispatched_at DESC LIMIT %(limit)s"
        if asset is None
        # By the time in its shares' index.
        else _OF_ASSET
        + "WHERE (%(state)s::text IS NULL OR state = %(state)s) ORDER BY given_at DESC LIMIT %(limit)s"
    )
    found = await _read(
        connection,
        query,
        {"asset_id": None if asset is None else asset.id, "state": state, "limit": limit},
    )
    return await _whole(connection, found) if whole else found


async def _read(
    connection: Connection, query: LiteralString, values: Sequence[object] | dict[str, object]
) -> list[DispatchRecord]:
    found = await connection.execute(query, values)
    return [_dispatch_decoder.decode(text) for (text,) in await found.fetchall()]


async def _whole(connection: Connection, dispatches: Sequence[DispatchRecord]) -> list[DispatchRecord]:
    """The dispatches with their shares."""
    members: dict[str, list[AssetSetpointRecord]] = {dispatch.dispatch_id: [] for dispatch in dispatches}
    others: dict[str, list[ExcludedAssetRecord]] = {dispatch.dispatch_id: [] for dispatch in dispatches}
    if dispatches:
        # With the server's cursor: the rows of 100,000 assets are more than is to be received in one turn.
        async with connection.transaction(), connection.cursor(name="shares") as cursor:
            await cursor.execute(_SHARES, [list(members)])
            while rows := await cursor.fetchmany(_SHARES_A_TURN):
                for dispatch_id, text, left_out in rows:
                    if left_out:
                        others[dispatch_id].append(_left_out_decoder.decode(text))
                    else:
                        members[dispatch_id].append(_member_decoder.decode(text))
    return [
        replace(dispatch, members=members[dispatch.dispatch_id], left_out=others[dispatch.dispatch_id])
        for dispatch in dispatches
    ]
