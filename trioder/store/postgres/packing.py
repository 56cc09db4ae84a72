"""COPY's binary form of `samples`: the bytes of many batches' rows, a column at a time.

Row by row, with `struct`, it takes several times as long. What is sent when is told in `writes`.
"""

import sys
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from struct import Struct

from trioder.store.postgres.database import PendingBatch

COPY = (
    "COPY samples (ts, soc_mwhr, current_mw, setpoint_mw, available_discharge_mw, available_charge_mw, "
    "asset_key, source) FROM STDIN (FORMAT BINARY)"
)
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

# The count of fields, and then each as its length and value.
_ROW = Struct("!h iq id id id id id ii ih")
_EMPTY_ROW = _ROW.pack(8, 8, 0, 8, 0.0, 8, 0.0, 8, 0.0, 8, 0.0, 8, 0.0, 4, 0, 2, 0)
# Where the values lie in it.
_TS, _FLOATS, _KEY, _SOURCE = 6, (18, 30, 42, 54, 66), 78, 86
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
    # One row too many: a column's view of the last row reaches beyond that row's end.
    image = memoryview(bytearray(_EMPTY_ROW * (rows + 1)))
    for offset, column in _columns(batches, keys):
        if sys.byteorder == "little":
            column.byteswap()
        # A row's length is a multiple of every value's, so that each column is a view with strides.
        values = image[offset : offset + rows * _ROW.size].cast(column.typecode)  # type: ignore[arg-type]  # not for text
        values[:: _ROW.size // column.itemsize] = memoryview(column)
    return bytes(image[: rows * _ROW.size])


def _columns(
    batches: Sequence[PendingBatch], keys: "array[int]"
) -> Iterator[tuple[int, "array[int] | array[float]"]]:
    ts_us, source = array("q"), array("h")
    floats = [array("d") for _ in _FLOATS]
    for batch in batches:
        if batch.run_rows.count(1) == len(batch.run_rows):
            # As of samples that came one by one.
            ts_us.extend([ts_ms * 1000 - _EPOCH_OFFSET_US for ts_ms in batch.run_ts_unix_ms])
            source += batch.run_sources
        else:
            for ts_ms, code, rows in zip(
                batch.run_ts_unix_ms, batch.run_sources, batch.run_rows, strict=True
            ):
                ts_us += array("q", [ts_ms * 1000 - _EPOCH_OFFSET_US]) * rows
                source += array("h", [code]) * rows
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
    asset_keys = chain.from_iterable(batch.asset_keys for batch in batches)
    yield _KEY, array("i", [keys[key] for key in asset_keys])
    yield _SOURCE, source
