"""Writes telemetry: batches and their outboxes' watermarks, in one transaction with one binary COPY."""

import asyncio
import sys
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from struct import Struct
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncClientCursor

from trioder.domain.quality import Quality
from trioder.store.postgres.batch_queue import SOURCE_CODES, PendingBatch
from trioder.store.postgres.database import DatabaseError, Written
from trioder.store.postgres.pg_connection import Connection
from trioder.store.postgres.summaries import count_changes
from trioder.store.records import NOTHING_COMMITTED, Watermark

# Packed at once, at least: few enough for the processor's caches.
_ROWS_PER_CHUNK = 2_000
# Between two checkpoints: about 4 ms.
_ROWS_PER_TURN = 20_000

_COPY = (
    "COPY samples (ts, soc_mwhr, current_mw, setpoint_mw, available_discharge_mw, available_charge_mw, "
    "asset_key, source, quality) FROM STDIN (FORMAT BINARY)"
)
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"

# The number of fields, then the length and value of each.
_ROW = Struct("!h iq id id id id id ii ih ih")
_EMPTY_ROW = _ROW.pack(9, 8, 0, 8, 0.0, 8, 0.0, 8, 0.0, 8, 0.0, 8, 0.0, 4, 0, 2, 0, 2, 0)
# The offsets of the values in a row.
_TS, _FLOATS, _KEY, _SOURCE, _QUALITY = 6, (18, 30, 42, 54, 66), 78, 86, 92
# The size of this many rows is a multiple of every value's size, so a column is a few strided views.
_STRIDE_ROWS = 4
# PostgreSQL counts from 2000-01-01.
_EPOCH_OFFSET_US = 946_684_800_000_000


async def write_batches(
    connection: Connection,
    batches: Sequence[PendingBatch],
    db_keys: "array[int]",
    *,
    rows: bool,
    now: datetime,
) -> Written:
    """See `Database.write`.

    The watermarks are first read under lock, so it does not matter how often, by whom and with what outcome
    a batch was tried before.
    """
    outbox_ids = sorted({batch.outbox_id for batch in batches})
    select = (
        "SELECT outbox_id, batch_seq, batch_ts_unix_ms FROM ingest_watermarks WHERE outbox_id = ANY (%s) "
        "ORDER BY outbox_id FOR UPDATE"
    )
    async with _transaction(connection, select, [outbox_ids]) as found:
        before = {outbox_id: Watermark(int(seq), ts_ms) for outbox_id, seq, ts_ms in await found.fetchall()}
        after = dict(before)
        new = []
        for batch in batches:
            if batch.batch_seq > after.get(batch.outbox_id, NOTHING_COMMITTED).batch_seq:
                after[batch.outbox_id] = batch.watermark
                new.append(batch)
        added = sum(batch.rows for batch in new) if rows else 0
        if added:
            await _copy(connection, new, db_keys)
            # Last: other writers of the same hours wait for the commit.
            await count_changes(connection, new, now)
        await _update_watermarks(connection, before, after)
    return Written(watermarks=after, rows=added)


@asynccontextmanager
async def _transaction(
    connection: Connection, statement: LiteralString, values: Sequence[object]
) -> AsyncIterator[AsyncClientCursor[tuple[Any, ...]]]:
    """A transaction whose BEGIN is sent together with its first statement, to save a round trip."""
    cursor = AsyncClientCursor(connection)
    try:
        await cursor.execute("BEGIN; " + statement, values)
        cursor.nextset()
        yield cursor
        await connection.commit()
    except BaseException:
        # If it cannot even be rolled back the connection is lost, and the next job on it fails.
        with suppress(psycopg.Error):
            await connection.rollback()
        raise


async def _copy(connection: Connection, batches: Sequence[PendingBatch], db_keys: "array[int]") -> None:
    async with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        await copy.write(_HEADER)
        rows = 0
        for chunk in _chunks(batches):
            await copy.write(pack_rows(chunk, db_keys))
            rows += sum(batch.rows for batch in chunk)
            if rows >= _ROWS_PER_TURN:
                rows = 0
                await asyncio.sleep(0)
        await copy.write(_TRAILER)


def _chunks(batches: Sequence[PendingBatch]) -> Iterator[list[PendingBatch]]:
    chunk: list[PendingBatch] = []
    rows = 0
    for batch in batches:
        chunk.append(batch)
        rows += batch.rows
        if rows >= _ROWS_PER_CHUNK:
            yield chunk
            chunk, rows = [], 0
    if chunk:
        yield chunk


async def _update_watermarks(
    connection: Connection, before: dict[str, Watermark], after: dict[str, Watermark]
) -> None:
    changed = [outbox_id for outbox_id in sorted(after) if before.get(outbox_id) != after[outbox_id]]
    known = [outbox_id for outbox_id in changed if outbox_id in before]
    new = [outbox_id for outbox_id in changed if outbox_id not in before]
    count = 0
    if known:
        updated = await connection.execute(
            "UPDATE ingest_watermarks AS watermark SET batch_seq = wanted.batch_seq, "
            "batch_ts_unix_ms = wanted.ts_unix_ms, updated_at = now() "
            "FROM unnest(%s::text[], %s::numeric[], %s::bigint[], %s::numeric[]) "
            "AS wanted (outbox_id, batch_seq, ts_unix_ms, expected) "
            "WHERE watermark.outbox_id = wanted.outbox_id AND watermark.batch_seq = wanted.expected",
            [known, *_watermark_columns(after, known), [before[outbox_id].batch_seq for outbox_id in known]],
        )
        count += updated.rowcount
    if new:
        inserted = await connection.execute(
            "INSERT INTO ingest_watermarks (outbox_id, batch_seq, batch_ts_unix_ms) "
            "SELECT * FROM unnest(%s::text[], %s::numeric[], %s::bigint[]) ON CONFLICT DO NOTHING",
            [new, *_watermark_columns(after, new)],
        )
        count += inserted.rowcount
    if count != len(changed):
        # Rolls back: the other writer has committed some of these batches.
        raise DatabaseError("another connection moved the watermarks of the same outboxes")


def _watermark_columns(
    watermarks: dict[str, Watermark], outbox_ids: Sequence[str]
) -> tuple[list[int], list[int | None]]:
    return (
        [watermarks[outbox_id].batch_seq for outbox_id in outbox_ids],
        [watermarks[outbox_id].ts_unix_ms for outbox_id in outbox_ids],
    )


def pack_rows(batches: Sequence[PendingBatch], db_keys: "array[int]") -> bytes:
    """Return the rows of the batches in COPY's binary format, packed by column: several times faster.

    Args:
        batches: what to pack, in order.
        db_keys: the database's key of each asset, by its position in the fleet.

    Raises:
        OverflowError: a time outside of the database's range.
        IndexError: an asset that the database does not have yet.
    """
    rows = sum(batch.rows for batch in batches)
    stride = _STRIDE_ROWS * _ROW.size
    # Surplus rows at the end: a column's view of the last rows reaches beyond them.
    image = memoryview(bytearray(_EMPTY_ROW * (rows + 2 * _STRIDE_ROWS)))
    for offset, column in _columns(batches, db_keys):
        if sys.byteorder == "little":
            column.byteswap()
        values = memoryview(column)
        for first in range(min(_STRIDE_ROWS, rows)):
            part = values[first::_STRIDE_ROWS]
            start = offset + first * _ROW.size
            view = image[start : start + len(part) * stride].cast(column.typecode)  # type: ignore[arg-type]  # not for text
            view[:: stride // column.itemsize] = part
    return bytes(image[: rows * _ROW.size])


def _columns(
    batches: Sequence[PendingBatch], db_keys: "array[int]"
) -> Iterator[tuple[int, "array[int] | array[float]"]]:
    """Yield the columns that are not all 0, each with its offset in a row."""
    ts_us = array("q")
    floats = [array("d") for _ in _FLOATS]
    for batch in batches:
        if batch.run_rows.count(1) == len(batch.run_rows):
            # As of samples submitted one by one.
            ts_us.extend([ts_ms * 1000 - _EPOCH_OFFSET_US for ts_ms in batch.run_ts_unix_ms])
        else:
            for ts_ms, rows in zip(batch.run_ts_unix_ms, batch.run_rows, strict=True):
                ts_us += array("q", [ts_ms * 1000 - _EPOCH_OFFSET_US]) * rows
        batch_floats = (
            batch.soc_mwhr,
            batch.current_mw,
            batch.setpoint_mw,
            batch.available_discharge_mw,
            batch.available_charge_mw,
        )
        for column, part in zip(floats, batch_floats, strict=True):
            column.extend(part)
    yield _TS, ts_us
    yield from zip(_FLOATS, floats, strict=True)
    key_column = array("i")
    for batch in batches:
        # A range is a shard's keys, or some of them.
        asset_keys = batch.asset_keys
        if isinstance(asset_keys, range):
            if asset_keys.stop > len(db_keys):
                raise IndexError(f"asset key {asset_keys.stop - 1} of {len(db_keys)} assets")
            key_column += db_keys[asset_keys.start : asset_keys.stop]
        else:
            key_column.extend(map(db_keys.__getitem__, asset_keys))
    yield _KEY, key_column
    if any(any(batch.run_sources) for batch in batches):
        yield _SOURCE, _run_column(batches, SOURCE_CODES["synthesized"], use_quality=False)
    if any(batch.quality or any(batch.run_sources) for batch in batches):
        yield _QUALITY, _run_column(batches, Quality.SYNTHESIZED, use_quality=True)


def _run_column(batches: Sequence[PendingBatch], synthesized: int, *, use_quality: bool) -> "array[int]":
    """A column with `synthesized` in synthesized rows and 0 in others; or the batch's own quality codes."""
    column = array("h")
    for batch in batches:
        if use_quality and batch.quality:
            column.extend(batch.quality)
            continue
        for source, rows in zip(batch.run_sources, batch.run_rows, strict=True):
            column += array("h", [synthesized if source else 0]) * rows
    return column
