"""A signal replayed onto a stand-in of a fleet, in virtual time."""

import csv
import io
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from trio.testing import MockClock

from scripts.regulation.headend import Headend, HeadendError
from scripts.regulation.replay import Recording, lease_s, replay
from scripts.regulation.report import Report, make_report, report_json, report_text, write_series
from scripts.regulation.signals import load_signal
from tests.unit.regulation.stub_fleet import StubFleet


@asynccontextmanager
async def headend_of(fleet: StubFleet) -> AsyncIterator[Headend]:
    transport = httpx2.ASGITransport(app=fleet)
    async with httpx2.AsyncClient(transport=transport, base_url="http://stub") as client:
        yield Headend(client)


async def replayed(fleet: StubFleet, asked_mw: list[float], *, interval_s: float = 2.0) -> Recording:
    recording = Recording(asked_mw=tuple(asked_mw), resting_mw=0.0)
    async with headend_of(fleet) as headend:
        await replay(headend, recording, interval_s=interval_s)
    return recording


def reported(recording: Recording, *, speed: float = 1.0) -> Report:
    return make_report(recording, signal="test", step_s=2.0, speed=speed, capability_mw=100.0)


async def test_each_step_is_dispatched_to_the_whole_fleet_on_the_grid(autojump_clock: MockClock) -> None:
    fleet = StubFleet()
    await replayed(fleet, [10.0, -20.0])
    (first_s, first), (second_s, second) = fleet.dispatches
    assert second_s - first_s == pytest.approx(2.0)
    assert first == {"fleet": True, "mw": 10.0, "duration_s": 10, "strategy": "headroom", "resplit": False}
    assert second["mw"] == -20.0


async def test_what_is_delivered_is_read_at_the_end_of_each_step(autojump_clock: MockClock) -> None:
    recording = await replayed(StubFleet(), [10.0] * 5)
    # One batch of samples is up to four seconds old, so the third reading is the first without older ones.
    assert recording.delivered_mw[0] == pytest.approx(10.0 * 1.8 / 4.0, abs=1.0)
    assert recording.delivered_mw[2:] == pytest.approx((10.0, 10.0, 10.0))


async def test_a_slow_headend_makes_steps_skipped_and_counted(autojump_clock: MockClock) -> None:
    recording = await replayed(StubFleet(answers_in_s=4.2), [1.0] * 9)
    assert sorted(recording.sent) == [0, 2, 4, 6, 8]
    assert recording.skipped == 4


async def test_a_slow_dispatch_does_not_keep_from_reading(autojump_clock: MockClock) -> None:
    recording = await replayed(StubFleet(answers_in_s=4.2), [1.0] * 9)
    assert sorted(recording.read_mw) == list(range(9))


async def test_a_request_is_given_up_after_five_seconds(autojump_clock: MockClock) -> None:
    asked: list[httpx2.Request] = []

    def time_out(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        raise httpx2.ReadTimeout("no answer")

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(time_out), base_url="http://stub") as client:
        with pytest.raises(HeadendError, match="POST /dispatch: no answer"):
            await Headend(client).dispatch_fleet(1.0, duration_s=10)
    assert asked[0].extensions["timeout"]["read"] == 5.0


async def test_a_refusal_is_recorded_and_the_next_step_goes_on(autojump_clock: MockClock) -> None:
    recording = await replayed(StubFleet(refuse="not today"), [1.0] * 3)
    assert recording.failed == dict.fromkeys(range(3), "POST /dispatch: 400: not today")
    assert (recording.skipped, recording.steps) == (0, 3)


async def test_a_reading_that_fails_is_the_one_before(autojump_clock: MockClock) -> None:
    recording = Recording(asked_mw=(1.0, 2.0, 3.0), resting_mw=7.0, steps=3, read_mw={1: 5.0})
    assert recording.delivered_mw == (7.0, 5.0, 5.0)


@pytest.mark.parametrize(("interval_s", "duration_s"), [(0.1, 10), (2.0, 10), (4.0, 12), (3.5, 11)])
def test_a_dispatch_outlives_three_steps_and_ten_seconds(interval_s: float, duration_s: int) -> None:
    assert lease_s(interval_s) == duration_s


async def test_an_answer_without_the_sums_is_reported() -> None:
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(200, json={"assets": 1}))
    async with httpx2.AsyncClient(transport=transport, base_url="http://stub") as client:
        with pytest.raises(HeadendError, match=r"GET /fleet: not the answer that was expected: KeyError"):
            await Headend(client).fleet()


async def test_an_answer_that_is_not_json_is_reported() -> None:
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(502, text="Bad Gateway"))
    async with httpx2.AsyncClient(transport=transport, base_url="http://stub") as client:
        with pytest.raises(HeadendError, match="GET /fleet: 502, and not JSON"):
            await Headend(client).fleet()


async def test_a_fleet_that_follows_at_once_scores_well_on_the_qualification_wave(
    autojump_clock: MockClock,
) -> None:
    signal = load_signal("regd", day=None)
    recording = await replayed(StubFleet(), [100.0 * value for value in signal.values])
    score = reported(recording).score
    assert score is not None
    # What is missing to 1 is the age of the samples.
    assert 0.98 < score.precision < 0.99
    assert score.total > 0.99


async def test_a_fleet_that_lags_scores_less(autojump_clock: MockClock) -> None:
    signal = load_signal("regd", day=None)
    asked_mw = [100.0 * value for value in signal.first(15.0).values]
    prompt = reported(await replayed(StubFleet(), asked_mw)).score
    lagging = reported(await replayed(StubFleet(lag_s=5.0), asked_mw)).score
    assert prompt is not None
    assert lagging is not None
    assert lagging.total < prompt.total - 0.02


async def test_a_shortfall_is_counted(autojump_clock: MockClock) -> None:
    recording = await replayed(StubFleet(limit_mw=50.0), [40.0, 60.0, -70.0])
    assert reported(recording).short == 2


def test_error_and_energy_are_of_the_steps_that_ended() -> None:
    recording = Recording(asked_mw=(36.0, -36.0, 99.0), resting_mw=0.0, steps=2, read_mw={0: 18.0, 1: -54.0})
    report = reported(recording)
    assert report.rmse_mw == report.rmse_pct == pytest.approx(18.0)
    energies = (report.asked_discharge_mwh, report.asked_charge_mwh)
    assert energies == pytest.approx((0.02, 0.02))
    assert (report.delivered_discharge_mwh, report.delivered_charge_mwh) == pytest.approx((0.01, 0.03))


def test_energy_is_of_real_time() -> None:
    recording = Recording(asked_mw=(36.0,), resting_mw=0.0, steps=1)
    assert reported(recording, speed=4.0).asked_discharge_mwh == pytest.approx(0.005)


def test_a_short_replay_reports_why_it_has_no_score() -> None:
    report = reported(Recording(asked_mw=(1.0,) * 30, resting_mw=0.0, steps=30))
    assert report.score is None
    assert "score        none: a score needs 10 minutes; there are 1.0" in report_text(report)


def test_without_a_step_there_is_nothing_to_report() -> None:
    with pytest.raises(ValueError, match="not one step has ended"):
        reported(Recording(asked_mw=(1.0,), resting_mw=0.0))


async def test_the_figures_are_written_as_json(autojump_clock: MockClock) -> None:
    asked_mw = [10.0 * math.sin(step / 10.0) for step in range(320)]
    report = reported(await replayed(StubFleet(), asked_mw))
    written = json.loads(report_json(report))
    assert report.score is not None
    assert written["score"]["total"] == report.score.total
    assert (written["sent"], written["skipped"], written["no_score"]) == (320, 0, None)


async def test_the_series_is_written_with_what_became_of_each_step(autojump_clock: MockClock) -> None:
    recording = await replayed(StubFleet(answers_in_s=4.2, limit_mw=1.5), [1.0, 2.0, 3.0])
    text = io.StringIO()
    write_series(recording, step_s=2.0, to=text)
    rows = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert [row["dispatch"] for row in rows] == ["sent", "skipped", "sent"]
    assert [row["shortfall_mw"] for row in rows] == ["0.000000", "", "1.500000"]
    assert [row["t_s"] for row in rows] == ["0", "2", "4"]
