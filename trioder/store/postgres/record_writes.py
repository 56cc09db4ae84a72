"""Writes all records; the shares of a large dispatch in several statements.

Neither the event loop nor a statement is blocked for long by 100,000 shares.
"""

from array import array
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import TypeVar

import msgspec

from trioder.domain.dispatch import DispatchRecord
from trioder.domain.fleet import Fleet
from trioder.store.postgres.alarm_records import write_alarms, write_events
from trioder.store.postgres.audit_records import storable, write_audit, write_bindings
from trioder.store.postgres.pending_records import (
    PendingAlarm,
    PendingAudit,
    PendingBinding,
    PendingDispatch,
    PendingEvent,
    PendingOccurrence,
    PendingRecord,
    PendingSchedule,
    PendingSession,
    PendingSiteLimits,
)
from trioder.store.postgres.pg_connection import Connection, timestamp
from trioder.store.postgres.schedule_records import write_occurrences, write_schedules
from trioder.store.postgres.site_limit_records import write_site_limits

R = TypeVar("R", bound=PendingRecord)

# Held, shared, by writers of records until the commit; a headend that takes over from another waits for it.
RECORDS_LOCK = 0x7472696F
# Encoding these takes about 3 ms.
_SHARES_PER_STATEMENT = 500
# Of sessions and dispatches at more sites none are recorded: comparing long lists takes too long.
MAX_SITE_IDS = 256

_DISPATCH = """
    INSERT INTO dispatches AS old (
        dispatch_id, target, target_id, mw, allocated_mw, shortfall_mw, duration_s, reversion_mw, strategy,
        dispatched_at, ends_at, state, living, idempotency_key, valid_until, expires_in_s, resplit,
        request_digest, by_state, assets_left_out, tenant, requested_by, priority, site_ids
    )
    VALUES (
        %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s,
        %s::uuid[]
    )
    ON CONFLICT (dispatch_id) DO UPDATE SET (
        allocated_mw, shortfall_mw, ends_at, state, living, by_state, assets_left_out, site_ids
    ) = (
        excluded.allocated_mw, excluded.shortfall_mw, excluded.ends_at, excluded.state, excluded.living,
        excluded.by_state, excluded.assets_left_out,
        -- Of its shares those are written that have changed.
        CASE
            WHEN excluded.site_ids <@ old.site_ids THEN old.site_ids
            WHEN old.site_ids IS NOT NULL AND excluded.site_ids IS NOT NULL
            THEN (SELECT array_agg(DISTINCT id) FROM unnest(old.site_ids || excluded.site_ids) AS id)
        END
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
"""  # noqa: S608  # constants only


async def write_records(
    connection: Connection, records: Iterable[PendingRecord], db_keys: "array[int]", fleet: Fleet
) -> None:
    """See `Database.write_records`."""
    pending = list(records)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [RECORDS_LOCK])
        await write_bindings(connection, _of(PendingBinding, pending))
        await write_site_limits(connection, _of(PendingSiteLimits, pending))
        await write_audit(connection, _of(PendingAudit, pending))
        await write_alarms(connection, _of(PendingAlarm, pending))
        await write_events(connection, _of(PendingEvent, pending))
        await write_schedules(connection, _of(PendingSchedule, pending))
        await write_occurrences(connection, _of(PendingOccurrence, pending))
        # The last record of a session wins: one statement cannot write a row twice.
        sessions = {record.key: record for record in _of(PendingSession, pending)}
        await _write_sessions(connection, list(sessions.values()), db_keys, fleet)
        # In order: otherwise two headends' transactions could deadlock.
        for dispatch in sorted(_of(PendingDispatch, pending), key=lambda record: record.key):
            await _write_dispatch(connection, dispatch, fleet)


def _of(kind: type[R], records: Iterable[PendingRecord]) -> list[R]:
    return [record for record in records if isinstance(record, kind)]


async def close_stale_sessions(connection: Connection, now: datetime) -> None:
    """Close the sessions that a dead headend left open, once its transactions have ended."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [RECORDS_LOCK])
        await connection.execute(
            "UPDATE sessions SET disconnected_at = greatest(connected_at, %s), reason = 'headend ended' "
            "WHERE disconnected_at IS NULL",
            [now],
        )
        # Watermarks of headends' unsequenced samples, one per start.
        await connection.execute(r"DELETE FROM ingest_watermarks WHERE outbox_id LIKE E'\theadend %%'", [])


async def _write_sessions(
    connection: Connection, records: Sequence[PendingSession], db_keys: "array[int]", fleet: Fleet
) -> None:
    """Write all with three statements: thousands of agents connect at once when a headend starts."""
    if not records:
        return
    lists = [array("i", [db_keys[key] for key in record.session.asset_keys]) for record in records]
    digests = [sha256(asset_keys.tobytes()).digest() for asset_keys in lists]
    await _write_asset_lists(connection, dict(zip(digests, lists, strict=True)))
    sessions = [record.session for record in records]
    await connection.execute(
        """
        INSERT INTO sessions
            (session_id, agent_id, epoch, peer, list_id, connected_at, disconnected_at, reason, tenant,
            identity, site_ids)
        SELECT session_id, agent_id, epoch, peer, list_id, connected_at, disconnected_at, reason, tenant,
            identity, site_ids::uuid[]
        FROM unnest(
            %s::uuid[], %s::text[], %s::numeric[], %s::text[], %s::bytea[], %s::timestamptz[],
            %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[]
        ) AS pending (
            session_id, agent_id, epoch, peer, digest, connected_at, disconnected_at, reason, tenant,
            identity, site_ids
        ) JOIN asset_lists USING (digest)
        ON CONFLICT (session_id) DO UPDATE SET (connected_at, disconnected_at, reason)
            = (excluded.connected_at, excluded.disconnected_at, excluded.reason)
        """,
        [
            [session.session_id for session in sessions],
            [storable(session.agent_id) for session in sessions],
            [session.epoch for session in sessions],
            [storable(session.peer) for session in sessions],
            digests,
            [timestamp(session.connected_ms) for session in sessions],
            [timestamp(record.disconnected_ms) for record in records],
            [_storable(record.reason) for record in records],
            [session.tenant for session in sessions],
            [storable(session.identity) for session in sessions],
            [_site_ids(session.asset_keys, fleet) for session in sessions],
        ],
    )


async def _write_asset_lists(connection: Connection, lists: "dict[bytes, array[int]]") -> None:
    found = await connection.execute("SELECT digest FROM asset_lists WHERE digest = ANY (%s)", [list(lists)])
    known = {digest for (digest,) in await found.fetchall()}
    # In order: otherwise two headends' transactions could deadlock.
    new = sorted(lists.keys() - known)
    if new:
        await connection.execute(
            # As text: an SQL array cannot hold arrays of different lengths.
            "INSERT INTO asset_lists (digest, asset_keys) SELECT digest, asset_keys::integer[] "
            "FROM unnest(%s::bytea[], %s::text[]) AS wanted (digest, asset_keys) ON CONFLICT DO NOTHING",
            [new, ["{" + ",".join(map(str, lists[digest])) + "}" for digest in new]],
        )


async def _write_dispatch(connection: Connection, record: PendingDispatch, fleet: Fleet) -> None:
    """Write a dispatch and its changed shares."""
    dispatch = record.dispatch
    await _write_dispatch_row(connection, dispatch, _site_ids(record.changed, fleet))
    if dispatch.resplits:
        await _write_resplits(connection, dispatch)
    changed = sorted(record.changed)
    for start in range(0, len(changed), _SHARES_PER_STATEMENT):
        share_keys = changed[start : start + _SHARES_PER_STATEMENT]
        await connection.execute(
            _SHARES.encode(),
            [
                dispatch.dispatch_id,
                timestamp(dispatch.dispatched_ms),
                _json([record.share_of(key) for key in share_keys]),
                "{" + ",".join(map(str, share_keys)) + "}",
            ],
        )


async def _write_dispatch_row(connection: Connection, dispatch: DispatchRecord, site_ids: str | None) -> None:
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
            timestamp(dispatch.dispatched_ms),
            timestamp(dispatch.ends_ms),
            dispatch.state,
            dispatch.is_open,
            _storable(dispatch.idempotency_key),
            timestamp(dispatch.valid_until_ms),
            dispatch.expires_in_s,
            dispatch.resplit,
            dispatch.request_digest,
            _json(dispatch.by_state),
            dispatch.assets_left_out,
            dispatch.tenant,
            storable(dispatch.requested_by),
            dispatch.priority,
            site_ids,
        ],
    )


async def _write_resplits(connection: Connection, dispatch: DispatchRecord) -> None:
    """Add those not yet written; written ones never change."""
    found = await connection.execute(
        "SELECT count(*) FROM dispatch_resplits WHERE dispatch_id = %s", [dispatch.dispatch_id]
    )
    [written] = (await found.fetchone()) or (0,)
    for number, resplit in enumerate(dispatch.resplits[written:], start=written + 1):
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
                timestamp(resplit.at_ms),
                resplit.wire_id,
                resplit.changed,
                resplit.shortfall_mw,
                _json(resplit.dropped),
                _json(resplit.adjusted),
                _json(resplit.joined),
            ],
        )


def _json(value: object) -> str:
    # An agent may send NUL, which neither a JSON nor a text column can hold.
    return msgspec.json.encode(value).decode().replace("\\u0000", "\ufffd")


def _site_ids(asset_keys: Iterable[int], fleet: Fleet) -> str | None:
    """The sites of the assets, as an SQL array; None if there are too many, or an asset is unknown."""
    keys = list(asset_keys)
    if max(keys, default=0) >= len(fleet.assets):
        return None
    site_ids = {fleet.assets[key].site_id for key in keys}
    return "{" + ",".join(sorted(site_ids)) + "}" if len(site_ids) <= MAX_SITE_IDS else None


def _storable(text: str | None) -> str | None:
    return None if text is None else storable(text)
