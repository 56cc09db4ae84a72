"""COPY's bytes: whatever the batches, they are those that packing row by row would give."""

from array import array
from itertools import chain
from struct import Struct

from hypothesis import given
from hypothesis import strategies as st

from trioder.domain.telemetry import Samples
from trioder.store.postgres.batch_queue import PendingBatch
from trioder.store.postgres.batch_writes import pack_rows

KEYS = array("i", [7, 2**31 - 1, 1, 500, 3])
EPOCH_OFFSET_US = 946_684_800_000_000
ROW = Struct("!h iq id id id id id ii ih ih")

numbers = st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(
    st.tuples(st.integers(0, 4), numbers, numbers, numbers, numbers, numbers), unique_by=lambda row: row[0]
)


@st.composite
def samples(draw: st.DrawFn) -> Samples:
    columns: list[list[float]] = [list(column) for column in zip(*draw(rows), strict=True)] or [[]] * 6
    coded = draw(st.booleans())
    return Samples(
        ts_unix_ms=draw(st.integers(1, 253_402_300_799_999)),
        source=draw(st.sampled_from(["agent", "synthesized"])),
        asset_keys=[int(key) for key in columns[0]],
        soc_mwhr=columns[1],
        current_mw=columns[2],
        setpoint_mw=columns[3],
        available_discharge_mw=columns[4],
        available_charge_mw=columns[5],
        quality=bytes(draw(st.integers(0, 4)) for _ in columns[0]) if coded else b"",
    )


def row_by_row(part: Samples) -> bytes:
    ts_us = part.ts_unix_ms * 1000 - EPOCH_OFFSET_US
    source = 0 if part.source == "agent" else 1
    codes = part.quality or bytes([3 * source]) * len(part.asset_keys)
    columns = (
        part.soc_mwhr,
        part.current_mw,
        part.setpoint_mw,
        part.available_discharge_mw,
        part.available_charge_mw,
    )
    return b"".join(
        ROW.pack(
            9, 8, ts_us, *chain(*((8, column[row]) for column in columns)), 4, KEYS[key], 2, source, 2, code
        )
        for row, (key, code) in enumerate(zip(part.asset_keys, codes, strict=True))
    )


@given(st.lists(st.lists(samples(), max_size=3), max_size=5))
def test_packing_by_columns_gives_the_bytes_of_packing_by_rows(group: list[list[Samples]]) -> None:
    batches = [PendingBatch.of("box", seq, *parts) for seq, parts in enumerate(group, start=1)]
    assert pack_rows(batches, KEYS) == b"".join(row_by_row(part) for parts in group for part in parts)
