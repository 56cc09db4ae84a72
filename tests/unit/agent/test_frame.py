"""A frame is the batch of the rows that arrived in time."""

from tests.unit.agent.parts import make_asset
from trioder.agent.frame import Frame
from trioder.domain.quality import Quality
from trioder.domain.telemetry import BessState
from trioder.sim.bess import initial_state


def make_frame(assets: int) -> Frame:
    return Frame(number=1, at_s=0.0, ts_unix_ms=1_800_000_000_000, assets=assets)


def state(mw: float) -> BessState:
    return initial_state(make_asset())._replace(current_mw=mw)


def test_a_frame_is_complete_with_its_last_row() -> None:
    frame = make_frame(2)
    frame.put(1, state(1.0))
    assert not frame.complete.is_set()
    frame.put(0, state(0.0))
    assert frame.complete.is_set()


def test_rows_are_ordered_by_position_whatever_their_order_of_arrival() -> None:
    frame = make_frame(3)
    for position in (2, 0, 1):
        frame.put(position, state(float(position)))
    batch = frame.close(7)
    assert batch is not None
    assert (batch.batch_seq, batch.ts_unix_ms) == (7, 1_800_000_000_000)
    assert list(batch.asset_index) == [0, 1, 2]
    assert list(batch.current_mw) == [0.0, 1.0, 2.0]
    assert list(batch.soc_mwhr) == [50.0, 50.0, 50.0]


def test_a_row_missing_at_the_close_is_left_out_and_dropped_later() -> None:
    frame = make_frame(3)
    frame.put(0, state(0.0))
    frame.put(2, state(2.0))
    assert frame.rows_missing() == 1
    batch = frame.close(1)
    frame.put(1, state(1.0))
    assert batch is not None
    assert list(batch.asset_index) == [0, 2]
    assert list(batch.current_mw) == [0.0, 2.0]


def test_an_asset_that_is_left_out_is_not_waited_for() -> None:
    frame = make_frame(2)
    frame.put(0, state(0.0))
    frame.leave_out()
    assert frame.complete.is_set()


def test_a_frame_without_rows_is_no_batch() -> None:
    frame = make_frame(2)
    frame.leave_out()
    frame.leave_out()
    assert frame.close(1) is None


def test_what_a_device_flags_is_flagged_in_its_row() -> None:
    frame = make_frame(4)
    frame.put(3, state(3.0), Quality.BAD)
    frame.put(0, state(0.0))
    frame.leave_out()
    frame.put(2, state(2.0), Quality.GOOD)
    batch = frame.close(1)
    assert batch is not None
    assert list(batch.asset_index) == [0, 2, 3]
    assert batch.quality == bytes([Quality.GOOD, Quality.GOOD, Quality.BAD])


def test_rows_that_are_all_good_need_no_qualities() -> None:
    frame = make_frame(1)
    frame.put(0, state(0.0))
    batch = frame.close(1)
    assert batch is not None
    assert batch.quality == b""


def test_a_row_is_altered_with_its_quality_and_one_that_is_missing_is_not() -> None:
    frame = make_frame(3)
    frame.put(0, state(1.0), Quality.BAD)
    frame.put(1, state(2.0))
    frame.leave_out()
    frame.alter(0, lambda row, _: (row._replace(current_mw=9.0), Quality.GOOD))
    frame.alter(1, lambda row, _: (row, Quality.BAD))
    frame.alter(2, lambda row, _: (row, Quality.BAD))
    batch = frame.close(1)
    assert batch is not None
    assert list(batch.asset_index) == [0, 1]
    assert list(batch.current_mw) == [9.0, 2.0]
    assert batch.quality == bytes([Quality.GOOD, Quality.BAD])
