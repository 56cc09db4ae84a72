"""Samples that cannot be right: stored with their quality, one alarm, and no other row changes."""

import math

import pytest

from tests.unit.headend.parts import asset_id
from tests.unit.ingest.values_rig import BAD, DAY, GOOD, NOW, SUSPECT, WRONG_TIME, Rig, logged, slow


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308, 11.1, -11.1])
@pytest.mark.parametrize("column", ["current_mw", "setpoint_mw", "available_charge_mw"])
async def test_an_impossible_row_spoils_itself_alone(
    autojump_clock: object, column: str, value: float
) -> None:
    rig = Rig()
    await rig.open()
    rig.batch(1.0, 2.0, 3.0, **{column: [1.0, value, 1.0]})
    rig.store.commit()
    assert rig.store.qualities(1) == [GOOD, SUSPECT, GOOD]
    stored = getattr(rig.store.batches[1], column)[1]
    assert stored == value or math.isnan(stored)
    assert [rig.displayed(key)[0] for key in range(3)] == ["good", "suspect", "good"]
    assert rig.session.downlink._take_nowait().committed_seq == 1
    assert (rig.parts.counters.samples_suspect, rig.parts.counters.samples_received) == (1, 3)


async def test_what_the_device_flags_is_bad_whatever_else_it_is(autojump_clock: object) -> None:
    rig = Rig()
    await rig.open()
    rig.batch(1.0, 2.0, math.nan, quality=bytes([GOOD, BAD, BAD]))
    rig.batch(1.0, 2.0, 3.0, quality=bytes([SUSPECT, GOOD, GOOD]))
    assert rig.store.qualities(1) == [GOOD, BAD, BAD]
    assert rig.store.qualities(2) == [SUSPECT, GOOD, GOOD]
    assert (rig.parts.counters.samples_bad, rig.parts.counters.samples_suspect) == (2, 1)
    assert rig.displayed(2)[0] == "good"


async def test_rows_of_assets_that_are_not_in_the_fleet_take_their_quality_with_them(
    autojump_clock: object,
) -> None:
    rig = Rig()
    await rig.open(asset_keys=(), batch_keys=[0, None, 2], backlog_only=True)
    rig.batch(1.0, math.nan, 99.0, quality=bytes([BAD, BAD, GOOD]))
    assert list(rig.store.batches[1].asset_keys) == [0, 2]
    assert rig.store.qualities(1) == [BAD, SUSPECT]
    assert rig.parts.counters.samples_unknown == 1
    assert len(rig.parts.latest) == 0


async def test_batches_of_changing_rows_are_each_checked_by_their_own_assets(autojump_clock: object) -> None:
    rig = Rig()
    await rig.open()
    for index in ([2], [0, 2], [1, 0], [], [0, 1, 2]):
        rig.batch(*[99.0] * len(index), asset_index=index)
        assert list(rig.store.batches[rig.seq].asset_keys) == index
        assert rig.store.qualities(rig.seq) == [SUSPECT] * len(index)


async def test_a_step_faster_than_the_ramp_is_suspect_and_what_follows_is_not(autojump_clock: object) -> None:
    rig = Rig()
    slow(rig)
    await rig.open()
    # The first of a session is no step.
    rig.batch(9.0, 0.0, 0.0)
    rig.batch(9.0, 2.0, -2.1)
    rig.batch(9.0, 2.0, -2.1)
    # After a gap it may be anywhere.
    rig.batch(-9.0, 9.0, 9.0, after_s=60.0)
    assert [rig.store.qualities(seq) for seq in (1, 2, 3, 4)] == [
        [GOOD] * 3,
        [GOOD, GOOD, SUSPECT],
        [GOOD] * 3,
        [GOOD] * 3,
    ]


async def test_no_step_is_made_of_what_is_no_neighbour(autojump_clock: object) -> None:
    rig = Rig()
    slow(rig)
    await rig.open()
    rig.batch(9.0, 9.0, math.nan)
    # Neither from what cannot be, nor from another batch's rows, ...
    rig.batch(9.0, 9.0, 9.0)
    rig.batch(-9.0, -9.0, asset_index=[1, 0])
    assert rig.store.qualities(2) == [GOOD] * 3
    assert rig.store.qualities(3) == [GOOD] * 2
    # ... nor from a copy that was sent early to the backlog before it, ...
    rig.batch(9.0, 9.0, 9.0, batch_seq=90, live_only=True)
    rig.batch(-9.0, -9.0, -9.0, batch_seq=4, after_s=0.0, ts_ms=NOW - 60_000)
    rig.batch(-9.0, -9.0, -9.0, batch_seq=5, after_s=0.0, ts_ms=NOW - 56_000)
    # ... but from one to the other in the backlog, by their own times.
    rig.batch(-9.0, -8.0, 9.0, batch_seq=6, after_s=0.0, ts_ms=NOW - 52_000)
    assert [rig.store.qualities(seq) for seq in (4, 5, 6)] == [[GOOD] * 3, [GOOD] * 3, [GOOD, GOOD, SUSPECT]]
    # A clock that was set back makes no step of a change.
    rig.batch(-9.0, -8.0, 8.0, batch_seq=7, after_s=4.0, ts_ms=NOW - 3_600_000)
    assert rig.store.qualities(7) == [GOOD] * 3


async def test_one_alarm_an_asset_while_it_lasts(autojump_clock: object) -> None:
    rig = Rig()
    await rig.open()
    with logged() as entries:
        for mw in (math.nan, 99.0, 1.0, 1.0, math.nan):
            rig.batch(mw, 1.0, 1.0)
        assert [entry["event"] for entry in entries] == [
            "values cannot be trusted, left out of sums and splits"
        ]
        assert entries[0]["asset_id"] == asset_id(0)
        assert entries[0]["quality"] == "suspect"
        assert entries[0]["reason"] == "current_mw is nan; by the nameplate it must be within -11..11"
        for _ in range(2):
            rig.batch(1.0, 1.0, 1.0)
        assert len(entries) == 1
        rig.batch(1.0, 1.0, 1.0)
        assert [entry["event"] for entry in entries[1:]] == ["values can be trusted again"]
        assert (entries[1]["samples"], entries[1]["after_s"]) == (3, 28.0)
        rig.batch(1.0, 1.0, 1.0, quality=bytes([BAD, GOOD, GOOD]))
        assert (entries[2]["quality"], entries[2]["reason"]) == ("bad", "flagged by the device itself")


async def test_many_assets_at_once_are_one_line(autojump_clock: object) -> None:
    rig = Rig(assets=500)
    await rig.open()
    with logged() as entries:
        rig.batch(*[math.nan] * 500)
        rig.batch(*[math.nan] * 500)
    [entry] = entries
    assert (entry["assets"], len(entry["asset_ids"])) == (500, 10)


async def test_a_backlog_raises_no_alarm(autojump_clock: object) -> None:
    rig = Rig()
    await rig.open()
    rig.batch(1.0, 1.0, 1.0, batch_seq=9, live_only=True)
    with logged() as entries:
        rig.batch(math.nan, 1.0, 1.0, batch_seq=1, ts_ms=NOW - 60_000)
    assert rig.store.qualities(1) == [SUSPECT, GOOD, GOOD]
    assert entries == []
    assert rig.displayed()[0] == "good"


@pytest.mark.parametrize("ts_ms", [NOW + DAY, NOW + 90_000, 0, 1, 946_684_799_999, 253_402_300_799_999])
async def test_a_wrong_time_is_stored_and_never_the_latest(autojump_clock: object, ts_ms: int) -> None:
    rig = Rig()
    await rig.open()
    with logged() as entries:
        rig.batch(9.0, 9.0, 9.0, ts_ms=ts_ms)
        rig.store.commit()
        assert len(rig.parts.latest) == 0
        assert rig.store.batches[1].ts_unix_ms == ts_ms
        assert rig.store.qualities(1) == [WRONG_TIME] * 3
        assert rig.parts.counters.samples_wrong_time == 3
        assert rig.parts.ingest.furthest_behind_s() == 0
        # A later sample is not outranked.
        rig.batch(5.0, 5.0, 5.0)
        assert rig.displayed() == ("good", 5.0, 0.0)
        rig.batch(9.0, 9.0, 9.0, ts_ms=ts_ms)
        assert rig.displayed() == ("good", 5.0, 4.0)
        for _ in range(3):
            rig.batch(5.0, 5.0, 5.0)
    assert [entry["log_level"] for entry in entries] == ["warning", "info"]
    assert "clock is wrong" in entries[0]["event"]
    assert entries[1]["messages"] == 2


async def test_a_clock_that_is_ahead_within_reason_and_then_right_hides_nothing(
    autojump_clock: object,
) -> None:
    rig = Rig()
    await rig.open()
    rig.batch(1.0, 1.0, 1.0, ts_ms=NOW + 50_000)
    rig.batch(5.0, 5.0, 5.0)
    assert rig.displayed() == ("good", 5.0, 0.0)


@pytest.mark.parametrize("ahead_ms", [DAY, -DAY, 365 * DAY, -3_600_000, 2000])
async def test_a_clock_whose_skew_is_known_is_fresh_and_its_backlog_old(
    autojump_clock: object, ahead_ms: int
) -> None:
    rig = Rig()
    await rig.open(clock_skew_s=ahead_ms / 1000)
    rig.wall.passed_s = 600.0
    now_ms = rig.wall.now_ms()
    rig.batch(5.0, 5.0, 5.0, batch_seq=50, live_only=True, ts_ms=now_ms + ahead_ms, after_s=0.0)
    assert rig.displayed() == ("good", 5.0, 0.0)
    assert rig.view().telemetry.ts_unix_ms == now_ms + ahead_ms
    rig.batch(9.0, 9.0, 9.0, batch_seq=1, ts_ms=now_ms + ahead_ms - 300_000, after_s=0.0)
    assert rig.displayed() == ("good", 5.0, 0.0)
    assert rig.parts.ingest.furthest_behind_s() == 300.0
    assert rig.store.batches[1].ts_unix_ms == now_ms + ahead_ms - 300_000


async def test_an_unmeasured_clock_a_day_behind_is_good_once_samples_arrive_steadily(
    autojump_clock: object,
) -> None:
    rig = Rig()
    await rig.open()
    for _ in range(4):
        rig.batch(5.0, 5.0, 5.0, ts_ms=NOW + int(1000 * rig.wall.passed_s) + 4000 - DAY)
    assert rig.displayed() == ("good", 5.0, 0.0)


async def test_a_step_of_the_headends_own_clock_ages_nothing(autojump_clock: object) -> None:
    rig = Rig()
    await rig.open()
    rig.batch(5.0, 5.0, 5.0)
    for by_s in (3600.0, -7200.0):
        rig.wall.passed_s += by_s
        rig.parts.latest.clock_stepped(round(1000 * by_s))
        rig.parts.ingest.clock_stepped(round(1000 * by_s))
        rig.wall.passed_s += 1.0
    assert rig.displayed() == ("good", 5.0, 2.0)
    rig.wall.passed_s += 20.0
    assert rig.displayed() == ("stale", 5.0, 22.0)
    assert rig.parts.ingest.furthest_behind_s() == 22.0


async def test_a_model_goes_on_from_the_last_state_that_can_be_trusted(autojump_clock: object) -> None:
    rig = Rig(assets=2)
    await rig.open()
    rig.batch(3.0, 3.0, soc_mwhr=[30.0, math.nan])
    rig.batch(math.nan, math.nan, soc_mwhr=[math.nan, math.nan])
    rig.parts.ingest.session_closed(rig.session)
    rig.parts.ticker._tick_slice(range(2), 0.0)
    first, second = rig.view(0), rig.view(1)
    assert (first.quality, first.telemetry.soc_mwhr) == ("synthesized", 30.0)
    assert (second.quality, second.telemetry.soc_pct) == ("synthesized", 50.0)
    assert rig.store.unsequenced[0].quality == b""
    # And from its own after that.
    rig.parts.ticker._tick_slice(range(2), 0.0)
    assert rig.view(0).telemetry.soc_mwhr == 30.0
