"""A dispatch is written: its own row, and the rows of the shares that have changed.

The shares of a large group go in slices, so that neither the headend's one thread nor a statement is held
up by them for long.
"""

import msgspec

from trioder.domain.dispatch import DispatchRecord
from trioder.store.postgres.database import DispatchNote
from trioder.store.postgres.pg_connection import Connection
from trioder.store.postgres.values import instant, storable

# About 3 ms of the headend's time.
_SHARES_A_STATEMENT = 500

_DISPATCH = """
    INSERT INTO dispatches (
        dispatch_id, target, target_id, mw, allocated_mw, shortfall_mw, duration_s, reversion_mw, strategy,
        dispatched_at, ends_at, state, living, idempotency_key, valid_until, expires_in_s, resplit,
        request_digest, by_state, assets_left_out
    )
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s)
    ON CONFLICT (dispatch_id) DO UPDATE SET (
        allocated_mw, shortfall_mw, ends_at, state, living, by_state, assets_left_out
    ) = (
        excluded.allocated_mw, excluded.shortfall_mw, excluded.ends_at, excluded.state, excluded.living,
        excluded.by_state, excluded.assets_left_out
    )
"""
_MS = "timestamptz 'epoch' + {} * interval '1 millisecond'"
_SHARES = f"""
    INSERT INTO dispatch_shares AS old (
        dispatch_id, asset_id, wire_id, dispatched_at, mw, reversion_mw, held_mw, mean_mw, sent_at,
        answered_at, tracking_at, ends_at, queue_until, ended_at, position, left_out, state, code,
        allocation, answer, reason
    )
    SELECT
        %s, asset_id, wire_id, %s, coalesce(mw, 0), coalesce(reversion_mw, 0), held_mw, mean_mw,
        {_MS.format("sent_ms")}, {_MS.format("answered_ms")}, {_MS.format("tracking_ms")},
        {_MS.format("ends_ms")}, {_MS.format("queue_until_ms")}, {_MS.format("ended_ms")},
        position, state IS NULL, state, code, allocation, answer, reason
    FROM ROWS FROM (
        json_to_recordset(%s::json) AS (
            asset_id uuid, wire_id uuid, mw float8, reversion_mw float8, held_mw float8, mean_mw float8,
            sent_ms bigint, answered_ms bigint, tracking_ms bigint, ends_ms bigint, queue_until_ms bigint,
            ended_ms bigint, state text, code text, allocation text, answer text, reason text
        ),
        unnest(%s::integer[])
    ) AS share (
        asset_id, wire_id, mw, reversion_mw, held_mw, mean_mw, sent_ms, answered_ms, tracking_ms, ends_ms,
        queue_until_ms, ended_ms, state, code, allocation, answer, reason, position
    )
    ON CONFLICT (dispatch_id, asset_id) DO UPDATE SET (
        wire_id, mw, reversion_mw, held_mw, mean_mw, sent_at, answered_at, tracking_at, ends_at,
        queue_until, ended_at, position, left_out, state, code, allocation, answer, reason
    ) = (
        excluded.wire_id, excluded.mw, excluded.reversion_mw, excluded.held_mw, excluded.mean_mw,
        excluded.sent_at, excluded.answered_at, excluded.tracking_at, excluded.ends_at,
        excluded.queue_until, excluded.ended_at, excluded.position, excluded.left_out, excluded.state,
        excluded.code, excluded.allocation, excluded.answer, excluded.reason
    )
"""  # noqa: S608  # names of ours alone


async def write_dispatch(connection: Connection, note: DispatchNote) -> None:
    """Write the dispatch as it is now, and of its shares those that have changed."""
    dispatch = note.dispatch
    await _write_own_row(connection, dispatch)
    if dispatch.resplits:
        await _write_resplits(connection, dispatch)
    changed = sorted(note.changed)
    for start in range(0, len(changed), _SHARES_A_STATEMENT):
        keys = changed[start : start + _SHARES_A_STATEMENT]
        await connection.execute(
            _SHARES.encode(),
            [
                dispatch.dispatch_id,
                instant(dispatch.dispatched_ms),
                _json([note.share_of(key) for key in keys]),
                "{" + ",".join(map(str, keys)) + "}",
            ],
        )


async def _write_own_row(connection: Connection, dispatch: DispatchRecord) -> None:
    await connection.execute(
        _DISPATCH.encode(),
        [
            dispatch.dispatch_id,
            dispatch.target.kind,
            dispatch.target.id or None,
            dispatch.mw,
            dispatch.allocated_mw,
            dispatch.shortfall_mw,
            dispatch.duration_s,
            dispatch.reversion_mw,
            dispatch.strategy,
            instant(dispatch.dispatched_ms),
            instant(dispatch.ends_ms),
            dispatch.state,
            dispatch.is_open,
            storable(dispatch.idempotency_key),
            instant(dispatch.valid_until_ms),
            dispatch.expires_in_s,
            dispatch.resplit,
            dispatch.request_digest,
            _json(dispatch.by_state),
            dispatch.assets_left_out,
        ],
    )


async def _write_resplits(connection: Connection, dispatch: DispatchRecord) -> None:
    """Add those that are not there yet; one that is there does not change."""
    found = await connection.execute(
        "SELECT count(*) FROM dispatch_resplits WHERE dispatch_id = %s", [dispatch.dispatch_id]
    )
    [there] = (await found.fetchone()) or (0,)
    for number, resplit in enumerate(dispatch.resplits[there:], start=there + 1):
        await connection.execute(
            """
            INSERT INTO dispatch_resplits
                (dispatch_id, number, at, wire_id, changed, shortfall_mw, dropped, adjusted, joined)
            VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb, %s::jsonb, %s::jsonb)
            ON CONFLICT DO NOTHING
            """,
            [
                dispatch.dispatch_id,
                number,
                instant(resplit.at_ms),
                resplit.wire_id,
                resplit.changed,
                resplit.shortfall_mw,
                _json(resplit.dropped),
                _json(resplit.adjusted),
                _json(resplit.joined),
            ],
        )


def _json(value: object) -> str:
    # An agent's words may hold what neither a JSON nor a text column can.
    return msgspec.json.encode(value).decode().replace("\\u0000", "\ufffd")
