"""Dispatches read back, as they were recorded."""

from collections.abc import Sequence

import msgspec

from trioder.sim.model import Asset
from trioder.store.postgres.link import Connection
from trioder.store.records import DispatchRecord

_decoder = msgspec.json.Decoder(DispatchRecord)


async def read_living_dispatches(connection: Connection, *, limit: int) -> Sequence[DispatchRecord]:
    """See `Store.living_dispatches`."""
    found = await connection.execute(
        "SELECT record::text FROM dispatches WHERE living ORDER BY dispatched_at DESC LIMIT %s", [limit]
    )
    return [_decoder.decode(text) for (text,) in reversed(await found.fetchall())]


async def read_dispatch(
    connection: Connection, *, dispatch_id: str | None, idempotency_key: str | None
) -> DispatchRecord | None:
    """See `Store.find_dispatch`."""
    found = await connection.execute(
        "SELECT record::text FROM dispatches WHERE dispatch_id = %s::uuid OR idempotency_key = %s::text "
        "ORDER BY dispatched_at DESC LIMIT 1",
        [dispatch_id, idempotency_key],
    )
    row = await found.fetchone()
    return None if row is None else _decoder.decode(row[0])


async def read_dispatches(
    connection: Connection, *, limit: int, asset: Asset | None, state: str | None, whole: bool
) -> Sequence[DispatchRecord]:
    """See `Store.dispatches`."""
    found = await connection.execute(
        """
        SELECT (CASE WHEN %(whole)s THEN record ELSE record - '{members,left_out}'::text[] END)::text
        FROM dispatches
        WHERE (%(asset_id)s::uuid IS NULL OR asset_ids @> ARRAY[%(asset_id)s::uuid])
            AND (%(state)s::text IS NULL OR state = %(state)s)
        ORDER BY dispatched_at DESC LIMIT %(limit)s
        """,
        {"asset_id": None if asset is None else asset.id, "state": state, "limit": limit, "whole": whole},
    )
    return [_decoder.decode(text) for (text,) in await found.fetchall()]
