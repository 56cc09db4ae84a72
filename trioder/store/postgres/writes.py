"""The transaction that matters most: batches with their marks. The other one is in `write_notes`."""

import asyncio
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncClientCursor

from trioder.store.postgres.database import DatabaseError, PendingBatch, Written
from trioder.store.postgres.packing import COPY, HEADER, TRAILER, packed
from trioder.store.postgres.pg_connection import Connection
from trioder.store.records import NOTHING_COMMITTED, Watermark

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
        "SELECT outbox_id, batch_seq, batch_ts_unix_ms FROM ingest_watermarks WHERE outbox_id = ANY (%s) "
        "ORDER BY outbox_id FOR UPDATE"
    )
    async with _transaction(connection, select, [outbox_ids]) as found:
        before = {outbox_id: Watermark(int(seq), ts_ms) for outbox_id, seq, ts_ms in await found.fetchall()}
        after = dict(before)
        fresh = []
        for batch in batches:
            if batch.batch_seq > after.get(batch.outbox_id, NOTHING_COMMITTED).batch_seq:
                after[batch.outbox_id] = batch.watermark
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


async def _move_marks(
    connection: Connection, before: dict[str, Watermark], after: dict[str, Watermark]
) -> None:
    moved = [outbox_id for outbox_id in sorted(after) if before.get(outbox_id) != after[outbox_id]]
    known = [outbox_id for outbox_id in moved if outbox_id in before]
    new = [outbox_id for outbox_id in moved if outbox_id not in before]
    count = 0
    if known:
        updated = await connection.execute(
            "UPDATE ingest_watermarks AS mark SET batch_seq = wanted.batch_seq, "
            "batch_ts_unix_ms = wanted.ts_unix_ms, updated_at = now() "
            "FROM unnest(%s::text[], %s::numeric[], %s::bigint[], %s::numeric[]) "
            "AS wanted (outbox_id, batch_seq, ts_unix_ms, expected) "
            "WHERE mark.outbox_id = wanted.outbox_id AND mark.batch_seq = wanted.expected",
            [known, *_columns(after, known), [before[outbox_id].batch_seq for outbox_id in known]],
        )
        count += updated.rowcount
    if new:
        inserted = await connection.execute(
            "INSERT INTO ingest_watermarks (outbox_id, batch_seq, batch_ts_unix_ms) "
            "SELECT * FROM unnest(%s::text[], %s::numeric[], %s::bigint[]) ON CONFLICT DO NOTHING",
            [new, *_columns(after, new)],
        )
        count += inserted.rowcount
    if count != len(moved):
        # Rolled back: whoever else wrote has kept these batches, or some of them.
        raise DatabaseError("another connection moved the marks of the same outboxes")


def _columns(marks: dict[str, Watermark], outbox_ids: Sequence[str]) -> tuple[list[int], list[int | None]]:
    """The sequence numbers and the times of some outboxes' marks."""
    return (
        [marks[outbox_id].batch_seq for outbox_id in outbox_ids],
        [marks[outbox_id].ts_unix_ms for outbox_id in outbox_ids],
    )
