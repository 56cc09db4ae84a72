"""The two transactions that matter: batches with their marks, and sessions with dispatches."""

import asyncio
from array import array
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg import AsyncClientCursor

from trioder.store.postgres.database import DatabaseError, Note, PendingBatch, SessionNote, Written
from trioder.store.postgres.link import Connection
from trioder.store.postgres.packing import COPY, HEADER, TRAILER, packed
from trioder.store.records import DispatchRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Held by whoever writes notes, until that is committed; a headend that cleans up after another waits for it.
_NOTES_LOCK = 0x7472696F
# At least so many are packed at once: few enough for the processor's caches.
_ROWS_A_CHUNK = 2_000
# After so many, others have their turn: about 4 ms.
_ROWS_A_TURN = 20_000


async def write_batches(
    connection: Connection, batches: Sequence[PendingBatch], keys: "array[int]", *, rows: bool
) -> Written:
    """See `Database.write`.

    The marks are read under lock first, so that it makes no difference how often, by whom, and with what
    outcome a batch was tried before.
    """
    outbox_ids = sorted({batch.outbox_id for batch in batches})
    select = (
        "SELECT outbox_id, batch_seq FROM ingest_watermarks WHERE outbox_id = ANY (%s) "
        "ORDER BY outbox_id FOR UPDATE"
    )
    async with _transaction(connection, select, [outbox_ids]) as found:
        before = {outbox_id: int(seq) for outbox_id, seq in await found.fetchall()}
        after = dict(before)
        fresh = []
        for batch in batches:
            if batch.batch_seq > after.get(batch.outbox_id, 0):
                after[batch.outbox_id] = batch.batch_seq
                fresh.append(batch)
        added = sum(batch.rows for batch in fresh) if rows else 0
        if added:
            await _copy(connection, fresh, keys)
        await _move_marks(connection, before, after)
    return Written(marks=after, rows=added)


@asynccontextmanager
async def _transaction(
    connection: Connection, statement: LiteralString, values: Sequence[object]
) -> AsyncIterator[AsyncClientCursor[tuple[Any, ...]]]:
    """A transaction and its first statement, sent together: the server is asked once less."""
    cursor = AsyncClientCursor(connection)
    try:
        await cursor.execute("BEGIN; " + statement, values)
        cursor.nextset()
        yield cursor
        await connection.commit()
    except BaseException:
        # One that cannot even be rolled back is a lost connection, and is noticed as one.
        with suppress(psycopg.Error):
            await connection.rollback()
        raise


async def _copy(connection: Connection, batches: Sequence[PendingBatch], keys: "array[int]") -> None:
    async with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        await copy.write(HEADER)
        rows = 0
        for chunk in _chunks(batches):
            await copy.write(packed(chunk, keys))
            rows += sum(batch.rows for batch in chunk)
            if rows >= _ROWS_A_TURN:
                rows = 0
                await asyncio.sleep(0)
        await copy.write(TRAILER)


def _chunks(batches: Sequence[PendingBatch]) -> Iterator[list[PendingBatch]]:
    chunk: list[PendingBatch] = []
    rows = 0
    for batch in batches:
        chunk.append(batch)
        rows += batch.rows
        if rows >= _ROWS_A_CHUNK:
            yield chunk
            chunk, rows = [], 0
    if chunk:
        yield chunk


async def _move_marks(connection: Connection, before: dict[str, int], after: dict[str, int]) -> None:
    moved = [outbox_id for outbox_id in sorted(after) if before.get(outbox_id, 0) != after[outbox_id]]
    known = [outbox_id for outbox_id in moved if outbox_id in before]
    new = [outbox_id for outbox_id in moved if outbox_id not in before]
    count = 0
    if known:
        updated = await connection.execute(
            "UPDATE ingest_watermarks AS mark SET batch_seq = wanted.batch_seq, updated_at = now() "
            "FROM unnest(%s::text[], %s::numeric[], %s::numeric[]) AS wanted (outbox_id, batch_seq, expected)"
            " WHERE mark.outbox_id = wanted.outbox_id AND mark.batch_seq = wanted.expected",
            [known, [after[outbox_id] for outbox_id in known], [before[outbox_id] for outbox_id in known]],
        )
        count += updated.rowcount
    if new:
        inserted = await connection.execute(
            "INSERT INTO ingest_watermarks (outbox_id, batch_seq) "
            "SELECT * FROM unnest(%s::text[], %s::numeric[]) ON CONFLICT DO NOTHING",
            [new, [after[outbox_id] for outbox_id in new]],
        )
        count += inserted.rowcount
    if count != len(moved):
        # Rolled back: whoever else wrote has kept these batches, or some of them.
        raise DatabaseError("another connection moved the marks of the same outboxes")


async def write_notes(connection: Connection, notes: Iterable[Note], keys: "array[int]") -> None:
    """See `Database.note`."""
    # The last note of a session counts: one statement cannot write a row twice.
    sessions: dict[str, SessionNote] = {}
    dispatches: list[DispatchRecord] = []
    for note in notes:
        if isinstance(note, SessionNote):
            sessions[note.session.session_id] = note
        else:
            dispatches.append(note)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [_NOTES_LOCK])
        await _write_sessions(connection, list(sessions.values()), keys)
        for dispatch in dispatches:
            await _write_dispatch(connection, dispatch)


async def clean_up_after_predecessor(connection: Connection, now: datetime) -> None:
    """Close the sessions that a dead headend left open; what it had under way is waited for first."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_NOTES_LOCK])
        await connection.execute(
            "UPDATE sessions SET disconnected_at = greatest(connected_at, %s), reason = 'headend ended' "
            "WHERE disconnected_at IS NULL",
            [now],
        )
        # The outboxes of headends' own samples, one a start.
        await connection.execute(r"DELETE FROM ingest_watermarks WHERE outbox_id LIKE E'\theadend %%'", [])


async def _write_sessions(connection: Connection, notes: Sequence[SessionNote], keys: "array[int]") -> None:
    """Write them all with three statements: thousands of agents come at once when a headend starts."""
    if not notes:
        return
    lists = [array("i", [keys[key] for key in note.session.asset_keys]) for note in notes]
    digests = [sha256(asset_keys.tobytes()).digest() for asset_keys in lists]
    await _write_asset_lists(connection, dict(zip(digests, lists, strict=True)))
    sessions = [note.session for note in notes]
    await connection.execute(
        """
        INSERT INTO sessions
            (session_id, agent_id, epoch, peer, list_id, connected_at, disconnected_at, reason)
        SELECT session_id, agent_id, epoch, peer, list_id, connected_at, disconnected_at, reason
        FROM unnest(
            %s::uuid[], %s::text[], %s::numeric[], %s::text[], %s::bytea[], %s::timestamptz[],
            %s::timestamptz[], %s::text[]
        ) AS noted (
            session_id, agent_id, epoch, peer, digest, connected_at, disconnected_at, reason
        ) JOIN asset_lists USING (digest)
        ON CONFLICT (session_id) DO UPDATE SET (connected_at, disconnected_at, reason)
            = (excluded.connected_at, excluded.disconnected_at, excluded.reason)
        """,
        [
            [session.session_id for session in sessions],
            [_text(session.agent_id) for session in sessions],
            [session.epoch for session in sessions],
            [_text(session.peer) for session in sessions],
            digests,
            [instant(session.connected_ms) for session in sessions],
            [instant(note.disconnected_ms) for note in notes],
            [_text(note.reason) for note in notes],
        ],
    )


async def _write_asset_lists(connection: Connection, lists: "dict[bytes, array[int]]") -> None:
    found = await connection.execute("SELECT digest FROM asset_lists WHERE digest = ANY (%s)", [list(lists)])
    known = {digest for (digest,) in await found.fetchall()}
    # In order, for another headend's sake: two transactions must not wait for each other.
    new = sorted(lists.keys() - known)
    if new:
        await connection.execute(
            # As text: arrays of several lengths do not fit into one.
            "INSERT INTO asset_lists (digest, asset_keys) SELECT digest, asset_keys::integer[] "
            "FROM unnest(%s::bytea[], %s::text[]) AS wanted (digest, asset_keys) ON CONFLICT DO NOTHING",
            [new, ["{" + ",".join(map(str, lists[digest])) + "}" for digest in new]],
        )


async def _write_dispatch(connection: Connection, dispatch: DispatchRecord) -> None:
    await connection.execute(
        """
        INSERT INTO dispatches (
            dispatch_id, target, target_id, asset_ids, mw, allocated_mw, shortfall_mw, duration_s,
            reversion_mw, strategy, dispatched_at, ends_at, state, living, idempotency_key, record
        )
        VALUES (%s, %s, %s, %s::uuid[], %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb)
        ON CONFLICT (dispatch_id) DO UPDATE SET (
            asset_ids, allocated_mw, shortfall_mw, ends_at, state, living, record
        ) = (
            excluded.asset_ids, excluded.allocated_mw, excluded.shortfall_mw, excluded.ends_at,
            excluded.state, excluded.living, excluded.record
        )
        """,
        [
            dispatch.dispatch_id,
            dispatch.target.kind,
            dispatch.target.id or None,
            [member.asset_id for member in dispatch.members],
            dispatch.mw,
            dispatch.allocated_mw,
            dispatch.shortfall_mw,
            dispatch.duration_s,
            dispatch.reversion_mw,
            dispatch.strategy,
            instant(dispatch.dispatched_ms),
            instant(dispatch.ends_ms),
            dispatch.state,
            dispatch.living,
            _text(dispatch.idempotency_key),
            # An agent's words may hold what no JSON column can.
            msgspec.json.encode(dispatch).decode().replace("\\u0000", "\ufffd"),
        ],
    )


def instant(ts_unix_ms: int | None) -> datetime | None:
    """The instant as the database takes it."""
    return None if ts_unix_ms is None else _EPOCH + timedelta(milliseconds=ts_unix_ms)


def _text(text: str | None) -> str | None:
    # An agent's words may hold what a text column cannot.
    return None if text is None else text.replace("\0", "\N{REPLACEMENT CHARACTER}")
