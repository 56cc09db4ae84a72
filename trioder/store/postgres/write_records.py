"""Sessions and dispatches are written, and what a dead headend left of them is cleaned up."""

from array import array
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256

from trioder.store.postgres.database import DispatchNote, Note, SessionNote
from trioder.store.postgres.pg_connection import Connection
from trioder.store.postgres.values import instant, storable
from trioder.store.postgres.write_dispatches import write_dispatch

# Held by whoever writes notes, until that is committed; a headend that cleans up after another waits for it.
NOTES_LOCK = 0x7472696F


async def write_notes(connection: Connection, notes: Iterable[Note], keys: "array[int]") -> None:
    """See `Database.note`."""
    # The last note of a session counts: one statement cannot write a row twice.
    sessions: dict[str, SessionNote] = {}
    dispatches: list[DispatchNote] = []
    for note in notes:
        if isinstance(note, SessionNote):
            sessions[note.session.session_id] = note
        else:
            dispatches.append(note)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [NOTES_LOCK])
        await _write_sessions(connection, list(sessions.values()), keys)
        # In order, for another headend's sake: two transactions must not wait for each other.
        for dispatch in sorted(dispatches, key=lambda note: note.dispatch.dispatch_id):
            await write_dispatch(connection, dispatch)


async def clean_up_after_predecessor(connection: Connection, now: datetime) -> None:
    """Close the sessions that a dead headend left open; what it had under way is waited for first."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [NOTES_LOCK])
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
            [storable(session.agent_id) for session in sessions],
            [session.epoch for session in sessions],
            [storable(session.peer) for session in sessions],
            digests,
            [instant(session.connected_ms) for session in sessions],
            [instant(note.disconnected_ms) for note in notes],
            [storable(note.reason) for note in notes],
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
