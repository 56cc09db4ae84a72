"""COPY's binary form of `samples`: the bytes of many batches' rows, a column at a time.

Row by row, with `struct`, it takes several times as long. What is sent when is told in `writes`.
"""

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from struct import Struct

from trioder.domain.quality import Quality
from trioder.store.postgres.database import SOURCE_CODES, PendingBatch

COPY = (
    "COPY samples (ts, soc_mwhr, current_mw, setpoint_mw, available_discharge_mw, available_charge_mw, "
    "asset_key, source, quality) FROM STDIN (FORMAT BINARY)"
)
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

# The count of fields, and then each as its length and value.
_ROW = Struct("!h iq id id id id id ii ih ih")
_EMPTY_ROW = _ROW.pack(9, 8, 0, 8, 0.0, 8, 0.0, 8, 0.0, 8, 0.0, 8, 0.0, 4, 0, 2, 0, 2, 0)
# Where the values lie in it.
_TS, _FLOATS, _KEY, _SOURCE, _QUALITY = 6, (18, 30, 42, 54, 66), 78, 86, 92
# The bytes of so many rows are a multiple of every value's, so that each column is a few views with strides.
_STRIDE_ROWS = 4
# PostgreSQL counts from 2000-01-01.
_EPOCH_OFFSET_US = 946_684_800_000_000


def packed(batches: Sequence[PendingBatch], keys: "array[int]") -> bytes:
    """Return the rows of the batches, in order.

    Args:
        batches: what to pack.
        keys: the database's key of each asset.

    Raises:
        OverflowError: an instant that the database does not know.
    """
    rows = sum(batch.rows for batch in batches)
    stride = _STRIDE_ROWS * _ROW.size
    # Rows too many at the end: a column's view of the last rows reaches beyond them.
    image = memoryview(bytearray(_EMPTY_ROW * (rows + 2 * _STRIDE_ROWS)))
    for offset, column in _columns(batches, keys):
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
    batches: Sequence[PendingBatch], keys: "array[int]"
) -> Iterator[tuple[int, "array[int] | array[float]"]]:
    """The columns that are not 0 throughout, each with its place in a row."""
    ts_us = array("q")
    floats = [array("d") for _ in _FLOATS]
    for batch in batches:
        if batch.run_rows.count(1) == len(batch.run_rows):
            # As of samples that came one by one.
            ts_us.extend([ts_ms * 1000 - _EPOCH_OFFSET_US for ts_ms in batch.run_ts_unix_ms])
        else:
            for ts_ms, rows in zip(batch.run_ts_unix_ms, batch.run_rows, strict=True):
                ts_us += array("q", [ts_ms * 1000 - _EPOCH_OFFSET_US]) * rows
        own = (
            batch.soc_mwhr,
            batch.current_mw,
            batch.setpoint_mw,
            batch.available_discharge_mw,
            batch.available_charge_mw,
        )
        for column, part in zip(floats, own, strict=True):
            column.extend(part)
    yield _TS, ts_us
    yield from zip(_FLOATS, floats, strict=True)
    column_keys = array("i")
    for batch in batches:
        # A range is a shard's, or a part of one.
        own_keys = batch.asset_keys
        if isinstance(own_keys, range):
            column_keys += keys[own_keys.start : own_keys.stop]
        else:
            column_keys.extend(map(keys.__getitem__, own_keys))
    yield _KEY, column_keys
    if any(any(batch.run_sources) for batch in batches):
        yield _SOURCE, _by_run(batches, SOURCE_CODES["synthesized"], by_row=lambda _: b"")
    if any(batch.quality or any(batch.run_sources) for batch in batches):
        yield _QUALITY, _by_run(batches, Quality.SYNTHESIZED, by_row=lambda batch: batch.quality)


def _by_run(
    batches: Sequence[PendingBatch], of_synthesized: int, *, by_row: Callable[[PendingBatch], bytes]
) -> "array[int]":
    """A column with one value in synthesized rows and 0 in the others, where `by_row` has no better."""
    column = array("h")
    for batch in batches:
        codes = by_row(batch)
        if codes:
            column.extend(codes)
            continue
        for source, rows in zip(batch.run_sources, batch.run_rows, strict=True):
            column += array("h", [of_synthesized if source else 0]) * rows
    return column
