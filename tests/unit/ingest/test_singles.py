"""Samples in messages of their own: checked as the rows of batches are, and stored once."""

import math

import pytest
import trio

from tests.unit.headend.parts import asset_id, make_session
from tests.unit.ingest.values_rig import BAD, DAY, NOW, SUSPECT, WRONG_TIME, Rig, logged, slow


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
async def test_an_implausible_single_sample_is_stored_as_suspect(
    autojump_clock: object, change: dict[str, float]
) -> None:
    rig = Rig()
    await rig.open(outbox_id="")
    with logged() as entries:
        rig.single(**change)
    assert rig.store.unsequenced[0].quality == bytes([SUSPECT])
    assert rig.displayed()[0] == "suspect"
    [entry] = entries
    assert next(iter(change)) in entry["reason"] or "device" in entry["reason"]
    rig.wall.passed_s += 4.0
    rig.single()
    assert rig.store.unsequenced[1].quality == b""
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
    qualities = [sample.quality for sample in rig.store.unsequenced]
    assert qualities == [bytes([WRONG_TIME]), bytes([BAD]), bytes([SUSPECT]), b""]
    assert rig.displayed() == ("good", 9.0, 0.0)


async def test_a_repeated_single_sample_is_stored_once(autojump_clock: object) -> None:
    rig = Rig()
    await rig.open(outbox_id="")
    for ts_ms in (NOW, NOW + 1000, NOW + 1000):
        rig.single(ts_ms=ts_ms)
    rig.parts.ingest.session_closed(rig.session)
    rig.session = make_session("agent", 0, epoch=2)
    await rig.open()
    for ts_ms in (NOW, NOW + 1000, NOW + 2000):
        rig.single(ts_ms=ts_ms)
    assert [samples.ts_unix_ms - NOW for samples in rig.store.unsequenced] == [0, 1000, 2000]
    assert rig.parts.counters.samples_repeated == 3


async def test_what_was_stored_before_the_headends_start_is_not_stored_again(autojump_clock: object) -> None:
    rig = Rig(assets=1)
    rig.store.reported_ms = {asset_id(0): [NOW - 5, NOW]}
    await rig.open(outbox_id="")
    rig.single(ts_ms=NOW)
    rig.single(ts_ms=NOW + 5)
    assert [samples.ts_unix_ms for samples in rig.store.unsequenced] == [NOW + 5]


async def test_an_unavailable_store_delays_no_session(autojump_clock: object) -> None:
    rig = Rig()
    rig.store.is_unavailable = True
    with trio.fail_after(1):
        await rig.open(outbox_id="")
    rig.single()
    assert len(rig.store.unsequenced) == 1


async def test_what_the_store_returns_in_time_counts(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioder.ingest.service._ASSETS_A_QUERY", 1)
    rig = Rig(assets=2)
    rig.store.reported_ms = {asset_id(key): [NOW] for key in range(2)}
    rig.store.slow_ids = {asset_id(1)}
    with trio.fail_after(3):
        await rig.open(outbox_id="")
    rig.single(ts_ms=NOW, key=0)
    rig.single(ts_ms=NOW, key=1)
    assert [samples.asset_keys for samples in rig.store.unsequenced] == [(1,)]
