"""COPY's bytes: whatever the batches, they are those that packing row by row would give."""

from array import array
from collections.abc import Sequence
from itertools import chain
from struct import Struct

import pytest
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
    asset_keys: Sequence[int] = [int(key) for key in columns[0]]
    floats: list[Sequence[float]] = list(columns[1:])
    if draw(st.booleans()):
        # As an agent's batch of a whole shard: neighbours in order, and packed columns.
        first = draw(st.integers(0, len(KEYS) - len(asset_keys)))
        asset_keys = range(first, first + len(asset_keys))
        floats = [array("d", column) for column in floats]
    return Samples(
        ts_unix_ms=draw(st.integers(1, 253_402_300_799_999)),
        source=draw(st.sampled_from(["agent", "synthesized"])),
        asset_keys=asset_keys,
        soc_mwhr=floats[0],
        current_mw=floats[1],
        setpoint_mw=floats[2],
        available_discharge_mw=floats[3],
        available_charge_mw=floats[4],
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


def test_an_asset_that_the_database_does_not_have_yet_is_no_other_one() -> None:
    part = Samples(
        ts_unix_ms=1,
        source="agent",
        asset_keys=range(4, 6),
        soc_mwhr=[1.0, 2.0],
        current_mw=[0.0, 0.0],
        setpoint_mw=[0.0, 0.0],
        available_discharge_mw=[0.0, 0.0],
        available_charge_mw=[0.0, 0.0],
    )
    with pytest.raises(IndexError, match="asset key 5 of 5 assets"):
        pack_rows([PendingBatch.of("box", 1, part)], KEYS)
