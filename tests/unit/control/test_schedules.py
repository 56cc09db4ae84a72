"""Schedules begin by the clock, step by step, once, and end in time."""

from dataclasses import replace

import pytest

from tests.unit.control.driver import dispatch_one
from tests.unit.control.schedule_rig import START_MS, Rig
from trioder.domain.schedules import ScheduleRefusedError, step_dispatch_id


async def started(*, assets: int = 2) -> Rig:
    rig = Rig(assets=assets)
    await rig.start()
    rig.connect()
    return rig


async def test_an_occurrence_begins_and_ends_at_its_time() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), in_s=10)
    await rig.run(9)
    assert rig.seconds() == []
    await rig.run(90)
    assert rig.seconds() == [(10.0, 5.0), (70.0, 0.0)]
    occurrence = rig.only(schedule)
    assert (occurrence.state, occurrence.start_ms, occurrence.begun_ms) == (
        "completed",
        START_MS + 10_000,
        START_MS + 10_000,
    )
    assert occurrence.dispatch_ids == (step_dispatch_id(schedule.schedule_id, occurrence.start_ms, 0),)
    assert rig.disk.dispatches[occurrence.dispatch_ids[0]].state == "completed"


async def test_steps_follow_each_other_without_a_pause() -> None:
    rig = await started()
    schedule = await rig.create((30, 5.0), (30, -4.0), (30, 3.0))
    await rig.run(110, every_s=0.5)
    assert rig.seconds() == [(10.0, 5.0), (40.0, -4.0), (70.0, 3.0), (100.0, 0.0)]
    states = [rig.disk.dispatches[one].state for one in rig.only(schedule).dispatch_ids]
    assert states == ["completed"] * 3


@pytest.mark.parametrize("late_s", [0.5, 3.0, 9.0])
async def test_a_step_that_arrives_late_still_follows_without_a_pause(late_s: float) -> None:
    rig = await started()
    await rig.create((30, 5.0), (30, 3.0))
    await rig.run(39)
    rig.pass_time(1.0 + late_s)
    await rig.run(10)
    assert rig.seconds() == [(10.0, 5.0), (40.0 + late_s, 3.0)]


async def test_a_group_gets_its_next_step_without_a_pause() -> None:
    rig = await started(assets=3)
    await rig.run(4)
    await rig.create((30, 9.0), (30, -6.0), key=None)
    await rig.run(80)
    for battery in range(3):
        assert rig.seconds(battery) == [(14.0, 3.0), (44.0, -2.0), (74.0, 0.0)]


async def test_a_battery_that_the_next_step_does_not_use_is_released_with_it() -> None:
    rig = await started(assets=3)
    await rig.run(4)
    schedule = await rig.create((30, 9.0), (30, 6.0), key=None)
    await rig.run(38)
    rig.disconnect(2)
    rig.pass_time(2)
    await rig.run_due()
    # It is away: it keeps its former part until that ends.
    assert rig.batteries[2].mw == 3.0
    rig.connect(2)
    assert rig.batteries[2].mw == 0.0
    former, _ = rig.only(schedule).dispatch_ids
    assert not rig.disk.dispatches[former].is_open


async def test_occurrences_that_touch_follow_each_other_without_a_pause() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), recurrence="FREQ=MINUTELY;COUNT=3")
    await rig.run(200)
    assert rig.seconds() == [(10.0, 5.0), (190.0, 0.0)]
    assert [one.state for one in rig.occurrences(schedule)] == ["completed"] * 3


async def test_the_last_setpoint_does_not_outlast_an_occurrence_whose_successor_is_skipped() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), recurrence="FREQ=MINUTELY;COUNT=2")
    await rig.run(20)
    rig.schedules.skip(schedule.schedule_id, START_MS + 70_000, requested_by="anna")
    await rig.run(100)
    assert rig.seconds() == [(10.0, 5.0), (70.0, 0.0)]
    assert [one.state for one in rig.occurrences(schedule)] == ["completed", "skipped"]


async def test_an_operator_has_the_asset_and_the_schedule_gets_it_back() -> None:
    rig = await started()
    await rig.create((60, 5.0), (60, 4.0))
    await rig.run(30)
    dispatch_one(rig.parts, -2.0, duration_s=60)
    rig.obey()
    await rig.run(150)
    assert rig.seconds() == [(10.0, 5.0), (30.0, -2.0), (90.0, 0.0), (90.0, 4.0), (130.0, 0.0)]


async def test_an_agent_that_is_away_at_a_step_s_start_gets_what_is_left_of_it() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), (60, 4.0))
    await rig.run(30)
    rig.disconnect(0)
    await rig.run(70)
    # It ended the first step by its lease.
    assert rig.seconds() == [(10.0, 5.0), (80.0, 0.0)]
    rig.connect(0)
    await rig.run(60)
    assert rig.seconds()[2:] == [(100.0, 4.0), (130.0, 0.0)]
    assert len(rig.only(schedule).dispatch_ids) == 2


async def test_of_two_schedules_the_occurrence_that_started_later_has_the_asset() -> None:
    rig = await started()
    await rig.create((60, 5.0), (60, 4.0), in_s=10)
    await rig.create((70, -1.0), in_s=30)
    await rig.run(150)
    # The second step of the first one does not take the asset back.
    assert rig.seconds() == [(10.0, 5.0), (30.0, -1.0), (100.0, 0.0)]


async def test_overlaps_are_reported() -> None:
    rig = await started()
    first = await rig.create((60, 5.0), in_s=10, recurrence="FREQ=HOURLY")
    await rig.create((60, 5.0), in_s=10, key=1)
    request = rig.schedules.find(first.schedule_id)
    _, overlaps = await rig.schedules.create(request)
    [one] = overlaps
    assert (one.schedule_id, one.start_ms, one.end_ms, one.assets) == (
        first.schedule_id,
        START_MS + 10_000,
        START_MS + 70_000,
        1,
    )


async def test_a_schedule_whose_occurrences_overlap_is_reported_as_such() -> None:
    rig = await started()
    request = await rig.create((90, 5.0), recurrence="FREQ=MINUTELY;COUNT=2")
    schedule, overlaps = await rig.schedules.create(request)
    assert {one.schedule_id for one in overlaps} == {request.schedule_id, schedule.schedule_id}


async def test_cancelling_ends_what_runs_and_nothing_begins_any_more() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), recurrence="FREQ=HOURLY")
    await rig.run(30)
    await rig.schedules.cancel(schedule.schedule_id, requested_by="ben")
    rig.obey()
    await rig.run(4000, every_s=60)
    assert rig.seconds() == [(10.0, 5.0), (30.0, 0.0)]
    occurrence = rig.only(schedule)
    assert (occurrence.state, occurrence.reason) == ("cancelled", "cancelled by ben")


async def test_a_skipped_occurrence_does_not_begin() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), recurrence="FREQ=HOURLY;COUNT=2")
    skipped = rig.schedules.skip(schedule.schedule_id, START_MS + 10_000, requested_by="anna")
    assert skipped.state == "skipped"
    await rig.run(3700, every_s=10)
    assert [one.state for one in rig.occurrences(schedule)] == ["skipped", "completed"]


async def test_a_small_delay_is_always_in_time() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), misfire_s=0)
    rig.pass_time(15)
    await rig.run(60)
    assert rig.only(schedule).state == "completed"


@pytest.mark.parametrize(
    ("start_ms", "code"), [(START_MS + 10_000, "bad_request"), (START_MS + 11_000, "not_found")]
)
async def test_what_has_begun_and_what_is_no_occurrence_cannot_be_skipped(start_ms: int, code: str) -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0))
    await rig.run(15)
    with pytest.raises(ScheduleRefusedError) as refused:
        rig.schedules.skip(schedule.schedule_id, start_ms, requested_by="anna")
    assert refused.value.code == code


async def test_a_step_that_is_refused_is_recorded_and_the_others_are_begun() -> None:
    rig = await started()
    schedule = await rig.create((30, 5.0), (30, 8.0), (30, 4.0))
    rig.parts.fleet.assets[0] = replace(rig.parts.fleet.assets[0], max_mw=6.0, min_mw=-6.0)
    await rig.run(105)
    assert rig.seconds() == [(10.0, 5.0), (40.0, 0.0), (70.0, 4.0), (100.0, 0.0)]
    occurrence = rig.only(schedule)
    assert (occurrence.state, len(occurrence.dispatch_ids)) == ("completed", 2)
    assert "takes -6.0 to 6.0 MW" in occurrence.steps[1].refusal


async def test_a_group_without_an_asset_waits_for_one() -> None:
    rig = Rig(assets=2)
    await rig.start()
    schedule = await rig.create((60, 6.0), key=None)
    await rig.run(30)
    assert rig.only(schedule).steps == ()
    rig.connect()
    await rig.run(20)
    assert [rig.batteries[key].mw for key in range(2)] == [3.0, 3.0]
    await rig.run(30)
    assert rig.only(schedule).state == "completed"


async def test_an_occurrence_for_which_there_is_no_asset_fails() -> None:
    rig = Rig(assets=2)
    await rig.start()
    schedule = await rig.create((60, 6.0), key=None)
    await rig.run(80)
    occurrence = rig.only(schedule)
    assert (occurrence.state, occurrence.reason) == ("failed", "none of its assets was available")


async def test_what_is_late_within_the_limit_begins_for_what_is_left() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), (60, 4.0), misfire_s=70)
    rig.pass_time(80)
    await rig.run(60)
    assert rig.seconds() == [(80.0, 4.0), (130.0, 0.0)]
    assert [step.number for step in rig.only(schedule).steps] == [1]


async def test_what_is_later_is_missed() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), misfire_s=10)
    rig.pass_time(30)
    await rig.run(60)
    occurrence = rig.only(schedule)
    assert rig.seconds() == []
    assert (occurrence.state, occurrence.reason) == (
        "missed",
        "it could begin 20.0 s late; misfire_s is 10",
    )
