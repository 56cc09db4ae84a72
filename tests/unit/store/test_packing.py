"""COPY's bytes: whatever the batches, they are those that packing row by row would give."""

from array import array
from struct import Struct

from hypothesis import given
from hypothesis import strategies as st

from trioder.store.postgres.database import PendingBatch
from trioder.store.postgres.packing import packed
from trioder.store.records import Samples

KEYS = array("i", [7, 2**31 - 1, 1, 500, 3])
EPOCH_OFFSET_US = 946_684_800_000_000
ROW = Struct("!h iq id id id id id ii ih")

numbers = st.floats(allow_nan=False, allow_infinity=False)
rows = st.lists(
    st.tuples(st.integers(0, 4), numbers, numbers, numbers, numbers, numbers), unique_by=lambda row: row[0]
)


@st.composite
def batches(draw: st.DrawFn) -> PendingBatch:
    columns: list[list[float]] = [list(column) for column in zip(*draw(rows), strict=True)] or [[]] * 6
    samples = Samples(
        ts_unix_ms=draw(st.integers(1, 253_402_300_799_999)),
        source=draw(st.sampled_from(["agent", "synthesized"])),
        asset_keys=[int(key) for key in columns[0]],
        soc_mwhr=columns[1],
        current_mw=columns[2],
        setpoint_mw=columns[3],
        available_discharge_mw=columns[4],
        available_charge_mw=columns[5],
    )
    return PendingBatch.of("box", 1, samples)


def row_by_row(batch: PendingBatch) -> bytes:
    ts_us = batch.ts_unix_ms * 1000 - EPOCH_OFFSET_US
    source = 0 if batch.source == "agent" else 1
    return b"".join(
        ROW.pack(
            8, 8, ts_us, 8, soc, 8, current, 8, setpoint, 8, discharge, 8, charge, 4, KEYS[key], 2, source
        )
        for key, soc, current, setpoint, discharge, charge in zip(
            batch.asset_keys,
            batch.soc_mwhr,
            batch.current_mw,
            batch.setpoint_mw,
            batch.available_discharge_mw,
            batch.available_charge_mw,
            strict=True,
        )
    )


@given(st.lists(batches(), max_size=5))
def test_packing_by_columns_gives_the_bytes_of_packing_by_rows(group: list[PendingBatch]) -> None:
    assert packed(group, KEYS) == b"".join(map(row_by_row, group))
