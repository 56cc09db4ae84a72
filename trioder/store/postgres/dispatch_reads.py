"""Dispatches and their allocations, read back."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import LiteralString

import msgspec

from trioder.domain.access import Scope
from trioder.domain.assets import Asset
from trioder.domain.dispatch import (
    LEFT_OUT,
    AllocationRecord,
    AssetSetpointRecord,
    DispatchRecord,
    ExcludedAssetRecord,
)
from trioder.store.postgres.pg_connection import Connection, timestamp
from trioder.store.postgres.reads import IN_SCOPE, of_scope

# What agents that were away at the time may still obey: the last ones of a week.
_CANCELLED: LiteralString = """
    WHERE state = 'cancelled' AND dispatched_at > now() - interval '7 days'
    ORDER BY dispatched_at DESC LIMIT %s
"""
_CANCELLED_DISPATCHES = 100
# Decoding these takes about 3 ms.
_SHARES_PER_FETCH = 1_000

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
        'reason', CASE WHEN target = 'asset' THEN (
            SELECT reason FROM dispatch_shares AS lone
            WHERE lone.dispatch_id = dispatch.dispatch_id LIMIT 1
        ) END,
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
# Of more than 256 sites there is no list.
_AT_SITE: LiteralString = """
    AND (site_ids IS NULL OR site_ids @> ARRAY[%(site_id)s::uuid])
    AND EXISTS (
        SELECT FROM dispatch_shares AS own JOIN assets AS asset ON asset.id = own.asset_id
        WHERE own.dispatch_id = dispatch.dispatch_id AND NOT own.left_out
            AND asset.site_id = %(site_id)s::uuid
    )
"""
_BEFORE: LiteralString = """
    AND dispatched_at <= %(before_at)s
    AND (dispatched_at, dispatch_id) < (%(before_at)s, %(before_id)s::uuid)
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
    FROM dispatch_shares
"""
_ALL_SHARES: LiteralString = "WHERE dispatch_id = ANY (%s::uuid[]) ORDER BY dispatch_id, position"
_PAGE_OF_SHARES: LiteralString = """
    WHERE dispatch_id = %(dispatch_id)s
        AND (%(left_out)s::boolean IS NULL OR left_out = %(left_out)s)
        AND (%(state)s::text IS NULL OR state = %(state)s)
        AND (%(after)s::uuid IS NULL OR (position, asset_id) > (%(position)s, %(after)s))
    ORDER BY position, asset_id LIMIT %(limit)s
"""
_dispatch_decoder = msgspec.json.Decoder(DispatchRecord)
_member_decoder = msgspec.json.Decoder(AssetSetpointRecord)
_left_out_decoder = msgspec.json.Decoder(ExcludedAssetRecord)


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
        + IN_SCOPE
        + "ORDER BY dispatched_at DESC LIMIT 1",
        {"dispatch_id": dispatch_id, "key": idempotency_key, **of_scope(scope)},
    )
    if whole:
        found = await _with_shares(connection, found)
    return found[0] if found else None


async def read_dispatches(
    connection: Connection,
    scope: Scope,
    *,
    limit: int,
    asset: Asset | None,
    site_id: str | None,
    state: str | None,
    before: tuple[int, str] | None,
    whole: bool,
) -> Sequence[DispatchRecord]:
    """See `Store.dispatches`."""
    of_asset: LiteralString = "" if asset is None else _BY_ASSET
    at_site: LiteralString = "" if site_id is None else _AT_SITE
    earlier: LiteralString = "" if before is None else _BEFORE
    # The index of shares has this time.
    newest_first: LiteralString = "dispatched_at DESC" if asset is None else "share_at DESC"
    query = (
        _DISPATCH
        + of_asset
        + "WHERE (%(state)s::text IS NULL OR state = %(state)s) AND "
        + IN_SCOPE
        + at_site
        + earlier
        + "ORDER BY "
        + newest_first
        + ", dispatch_id DESC LIMIT %(limit)s"
    )
    before_ms, before_id = before or (None, None)
    found = await _read(
        connection,
        query,
        {
            "asset_id": None if asset is None else asset.id,
            "site_id": site_id,
            "state": state,
            "before_at": timestamp(before_ms),
            "before_id": before_id,
            "limit": limit,
            **of_scope(scope),
        },
    )
    return await _with_shares(connection, found) if whole else found


async def read_allocations(
    connection: Connection,
    scope: Scope,  # noqa: ARG001  # row-level security alone: who asks has seen the dispatch
    dispatch_id: str,
    *,
    limit: int,
    after: str | None,
    state: str | None,
) -> Sequence[AllocationRecord] | None:
    """See `Queries.allocations`."""
    position: int | None = None
    if after is not None:
        found = await connection.execute(
            "SELECT position FROM dispatch_shares WHERE dispatch_id = %s AND asset_id = %s",
            [dispatch_id, after],
        )
        row = await found.fetchone()
        if row is None:
            return None
        [position] = row
    found = await connection.execute(
        _SHARES + _PAGE_OF_SHARES,
        {
            "dispatch_id": dispatch_id,
            "position": position,
            "after": after,
            "left_out": None if state is None else state == LEFT_OUT,
            "state": None if state == LEFT_OUT else state,
            "limit": limit,
        },
    )
    page: list[AllocationRecord] = []
    while rows := await found.fetchmany(_SHARES_PER_FETCH):
        page += [
            _left_out_decoder.decode(text) if left_out else _member_decoder.decode(text)
            for _, text, left_out in rows
        ]
        await asyncio.sleep(0)
    return page


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
            await cursor.execute(_SHARES + _ALL_SHARES, [list(members)])
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
