"""Samples that cannot be right: stored with their quality, one alarm, and no other row changes."""

import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import structlog
import trio

from tests.unit.headend.parts import START_UNIX_S, Parts, StillWall, asset_id, make_parts, make_session
from tests.unit.headend.stores import SlowStore
from trioder.domain.quality import Quality
from trioder.domain.telemetry import Samples
from trioder.gateway.sessions import Session
from trioder.ingest.latest import LatestView
from trioder.store.interface import StoreUnavailableError
from trioder.wire.records import Batch, SingleSample

NOW = int(START_UNIX_S * 1000)
DAY = 86_400_000
GOOD, SUSPECT, BAD, WRONG_TIME = Quality.GOOD, Quality.SUSPECT, Quality.BAD, Quality.WRONG_TIME


class RecordingStore(SlowStore):
    """Remembers the samples of batches as well, and has a past."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: dict[int, Samples] = {}
        self.reported_ms: Mapping[str, Sequence[int]] = {}
        self.is_away = False

    def submit(self, outbox_id: str, batch_seq: int, samples: Samples) -> bool:
        self.batches[batch_seq] = samples
        return super().submit(outbox_id, batch_seq, samples)

    async def reported_times(self, *_: Any, **__: Any) -> Mapping[str, Sequence[int]]:
        if self.is_away:
            raise StoreUnavailableError("away")
        return self.reported_ms

    def qualities(self, batch_seq: int) -> list[int]:
        samples = self.batches[batch_seq]
        return list(samples.quality or bytes(len(samples.asset_keys)))


class Rig:
    """A session of three batteries of 40 MWh and 10 MW, and the time in a test's hands."""

    def __init__(self, *, assets: int = 3) -> None:
        self.store = RecordingStore()
        self.wall = StillWall()
        self.parts: Parts = make_parts(assets=assets, store=self.store, wall=self.wall)
        self.session = make_session("agent", *range(assets), outbox_id="box")
        self.seq = 0

    async def open(self, **changes: Any) -> Session:
        if "clock_skew_s" in changes:
            changes.setdefault("clock_error_s", 0.0)
        for name, value in changes.items():
            setattr(self.session, name, value)
        await self.parts.ingest.session_opened(self.session)
        await self.parts.ingest.load_recent_times(self.session)
        return self.session

    def batch(self, *powers: float, after_s: float = 4.0, ts_ms: int | None = None, **changes: Any) -> None:
        """The next batch, of one row an asset, made `after_s` after the last."""
        self.wall.passed_s += after_s
        self.seq = changes.pop("batch_seq", self.seq + 1)
        self.parts.ingest.receive_batch(self.session, self.made(powers, ts_ms, **changes))

    def made(self, powers: Sequence[float], ts_ms: int | None, **changes: Any) -> Batch:
        rows = len(powers)
        return replace(
            Batch(
                batch_seq=self.seq,
                ts_unix_ms=self.wall.now_ms() if ts_ms is None else ts_ms,
                asset_index=list(range(rows)),
                soc_mwhr=[20.0] * rows,
                current_mw=list(powers),
                setpoint_mw=[1.0] * rows,
                available_discharge_mw=[10.0] * rows,
                available_charge_mw=[10.0] * rows,
            ),
            **changes,
        )

    def single(self, mw: float = 1.0, *, ts_ms: int | None = None, key: int = 0, **changes: Any) -> None:
        sample = SingleSample(
            asset_id=asset_id(key),
            ts_unix_ms=self.wall.now_ms() if ts_ms is None else ts_ms,
            soc_mwhr=20.0,
            current_mw=mw,
            setpoint_mw=1.0,
            available_discharge_mw=10.0,
            available_charge_mw=10.0,
            soc_pct=50.0,
            capacity_mwhr=40.0,
            max_mw=10.0,
            min_mw=-10.0,
        )._replace(**changes)
        self.parts.ingest.receive_single(self.session, key, sample)

    def view(self, key: int = 0) -> LatestView:
        view = self.parts.latest.view(key, self.wall.now_ms())
        assert view is not None
        return view

    def displayed(self, key: int = 0) -> tuple[str, float, float]:
        view = self.view(key)
        return view.quality, view.telemetry.current_mw, view.age_s


@contextmanager
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


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


async def test_batches_of_changing_rows_are_each_judged_by_their_own_assets(autojump_clock: object) -> None:
    rig = Rig()
    await rig.open()
    for index in ([2], [0, 2], [1, 0], [], [0, 1, 2]):
        rig.batch(*[99.0] * len(index), asset_index=index)
        assert list(rig.store.batches[rig.seq].asset_keys) == index
        assert rig.store.qualities(rig.seq) == [SUSPECT] * len(index)


def slow(rig: Rig) -> None:
    """Nameplates that ramp by 0.1 MW/s, so that 2 MW a pulse of 4 s may be."""
    fleet = rig.parts.fleet
    fleet.assets[:] = [replace(asset, ramp_rate_mw_per_min=6.0) for asset in fleet.assets]
    rig.parts.ingest.nameplates_changed()


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
async def test_a_time_that_cannot_be_is_kept_and_never_the_latest(autojump_clock: object, ts_ms: int) -> None:
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


async def test_a_clock_a_day_behind_that_nobody_measured_is_good_once_samples_come_steadily(
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


@pytest.mark.parametrize(
    "change",
    [
        {"soc_mwhr": math.nan},
        {"soc_pct": math.nan},
        {"soc_pct": 102.1},
        {"soc_pct": -2.1},
        {"current_mw": 11.1},
        {"setpoint_mw": -math.inf},
        {"available_discharge_mw": math.nan},
        {"capacity_mwhr": math.inf},
        {"max_mw": math.nan},
        {"min_mw": -math.inf},
        {"quality": SUSPECT},
    ],
)
async def test_a_single_sample_that_cannot_be_is_kept_as_suspect(
    autojump_clock: object, change: dict[str, float]
) -> None:
    rig = Rig()
    await rig.open(outbox_id="")
    with logged() as entries:
        rig.single(**change)
    assert rig.store.kept[0].quality == bytes([SUSPECT])
    assert rig.displayed()[0] == "suspect"
    [entry] = entries
    assert next(iter(change)) in entry["reason"] or "device" in entry["reason"]
    rig.wall.passed_s += 4.0
    rig.single()
    assert rig.store.kept[1].quality == b""
    assert rig.displayed()[0] == "good"


async def test_single_samples_have_times_and_steps_as_well(autojump_clock: object) -> None:
    rig = Rig()
    slow(rig)
    await rig.open(outbox_id="")
    rig.single(9.0, ts_ms=NOW + DAY)
    rig.single(1.0, quality=BAD)
    rig.wall.passed_s += 4.0
    rig.single(9.0)
    rig.wall.passed_s += 4.0
    rig.single(9.0)
    qualities = [sample.quality for sample in rig.store.kept]
    assert qualities == [bytes([WRONG_TIME]), bytes([BAD]), bytes([SUSPECT]), b""]
    assert rig.displayed() == ("good", 9.0, 0.0)


async def test_a_single_sample_that_comes_again_is_kept_once(autojump_clock: object) -> None:
    rig = Rig()
    await rig.open(outbox_id="")
    for ts_ms in (NOW, NOW + 1000, NOW + 1000):
        rig.single(ts_ms=ts_ms)
    rig.parts.ingest.session_closed(rig.session)
    rig.session = make_session("agent", 0, epoch=2)
    await rig.open()
    for ts_ms in (NOW, NOW + 1000, NOW + 2000):
        rig.single(ts_ms=ts_ms)
    assert [samples.ts_unix_ms - NOW for samples in rig.store.kept] == [0, 1000, 2000]
    assert rig.parts.counters.samples_repeated == 3


async def test_what_was_kept_before_the_headends_start_is_not_kept_again(autojump_clock: object) -> None:
    rig = Rig(assets=1)
    rig.store.reported_ms = {asset_id(0): [NOW - 5, NOW]}
    await rig.open(outbox_id="")
    rig.single(ts_ms=NOW)
    rig.single(ts_ms=NOW + 5)
    assert [samples.ts_unix_ms for samples in rig.store.kept] == [NOW + 5]


async def test_a_store_that_is_away_delays_no_session(autojump_clock: object) -> None:
    rig = Rig()
    rig.store.is_away = True
    with trio.fail_after(1):
        await rig.open(outbox_id="")
    rig.single()
    assert len(rig.store.kept) == 1


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
    assert rig.store.kept[0].quality == b""
    # And from its own after that.
    rig.parts.ticker._tick_slice(range(2), 0.0)
    assert rig.view(0).telemetry.soc_mwhr == 30.0
