"""However a headend ends, and whatever of its records is lost: each step is begun once."""

from itertools import pairwise

import pytest

from tests.unit.control.schedule_rig import START_MS, Rig
from tests.unit.control.test_schedules import started
from trioder.domain.schedules import step_dispatch_id


async def restart(rig: Rig, *, after_s: float = 0.0, written: int = 0, away: bool = False) -> None:
    await rig.kill(written=written)
    rig.pass_time(after_s)
    await rig.start(away=away)


@pytest.mark.parametrize("written", [0, 1, 2, 3, 100])
async def test_a_kill_just_after_a_step_was_sent_begins_it_no_second_time(written: int) -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), misfire_s=0)
    await rig.run(10)
    assert rig.batteries[0].mw == 5.0
    await restart(rig, after_s=5, written=written)
    rig.connect()
    await rig.run(60)
    # Once, as one dispatch, whose record is whole.
    dispatch_id = step_dispatch_id(schedule.schedule_id, START_MS + 10_000, 0)
    assert rig.batteries[0].applied == [dispatch_id]
    assert rig.seconds() == [(10.0, 5.0), (70.0, 0.0)]
    assert rig.only(schedule).dispatch_ids == (dispatch_id,)
    assert rig.disk.dispatches[dispatch_id].state == "completed"


async def test_a_kill_between_the_record_and_the_dispatch_begins_it_then() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), misfire_s=0)
    await rig.run(9)
    rig.disconnect(0)
    await rig.run(1)
    rig.store.write(1)
    assert rig.disk.dispatches == {}
    # The record says that the step is begun; neither the database nor an agent has its dispatch.
    await restart(rig, after_s=5)
    rig.connect()
    await rig.run(60)
    assert rig.seconds() == [(15.0, 5.0), (70.0, 0.0)]
    assert rig.only(schedule).state == "completed"


async def test_a_step_that_begins_while_the_headend_is_away_is_begun_for_what_is_left() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), (60, 4.0), misfire_s=0)
    await rig.run(30)
    await restart(rig, after_s=43, written=100)
    rig.connect()
    await rig.run(60)
    # It returned 3 s after the step's start: within the time for which the first setpoint lasts longer.
    assert rig.seconds() == [(10.0, 5.0), (73.0, 4.0), (130.0, 0.0)]
    assert [one.number for one in rig.only(schedule).steps] == [0, 1]


async def test_an_agent_ends_a_step_by_its_lease_and_the_next_one_begins_late() -> None:
    rig = await started()
    await rig.create((60, 5.0), (60, 4.0), misfire_s=0)
    await rig.run(30)
    await restart(rig, after_s=70, written=100)
    rig.connect()
    await rig.run(60)
    assert rig.seconds() == [(10.0, 5.0), (80.0, 0.0), (100.0, 4.0), (130.0, 0.0)]


async def test_a_step_that_was_cancelled_is_not_begun_again() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), (60, 4.0))
    await rig.run(20)
    [dispatch_id] = rig.only(schedule).dispatch_ids
    dispatch = rig.dispatcher.history.get(dispatch_id)
    assert dispatch is not None
    await rig.dispatcher.cancel_in_slices(dispatch, requested_by="anna")
    rig.obey()
    await restart(rig, after_s=5, written=100)
    rig.connect()
    await rig.run(60)
    assert rig.seconds() == [(10.0, 5.0), (20.0, 0.0), (70.0, 4.0)]


async def test_the_parts_of_a_group_are_the_record_s_after_a_kill() -> None:
    rig = await started(assets=3)
    await rig.run(4)
    schedule = await rig.create((60, 9.0), key=None, misfire_s=0)
    await rig.run(11)
    # Nothing of the step is written; the batteries have it.
    await restart(rig, after_s=5)
    rig.connect(0, 1)
    await rig.run(12)
    [dispatch_id] = rig.only(schedule).dispatch_ids
    assert [rig.batteries[key].mw for key in (0, 1)] == [4.5, 4.5]
    # It has a part of the lost split.
    assert rig.batteries[2].mw == 3.0
    rig.connect(2)
    await rig.run(1)
    assert sum(battery.mw for battery in rig.batteries) == 9.0
    await rig.run(60)
    rig.store.write()
    assert rig.disk.dispatches[dispatch_id].state == "completed"
    assert [battery.mw for battery in rig.batteries] == [0.0] * 3


async def test_a_group_that_is_on_record_goes_on_as_it_is() -> None:
    rig = await started(assets=3)
    await rig.run(4)
    await rig.create((60, 9.0), key=None)
    await rig.run(20)
    await restart(rig, after_s=5, written=100)
    rig.connect()
    await rig.run(60)
    for battery in range(3):
        assert rig.seconds(battery) == [(14.0, 3.0), (74.0, 0.0)]
        assert len(rig.batteries[battery].applied) == 1


async def test_nothing_begins_before_the_schedules_are_read() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0))
    await restart(rig, written=100, away=True)
    rig.connect()
    await rig.run(30)
    assert rig.seconds() == []
    rig.store.away = False
    await rig.schedules.runner.load()
    await rig.run(60)
    assert rig.seconds() == [(30.0, 5.0), (70.0, 0.0)]
    assert rig.only(schedule).state == "completed"


async def test_a_running_step_goes_on_while_the_schedules_cannot_be_read() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), (60, 4.0))
    await rig.run(20)
    await restart(rig, written=100, away=True)
    rig.connect()
    await rig.run(30)
    rig.store.away = False
    await rig.schedules.runner.load()
    await rig.run(1)
    # An operator's dispatch does not supersede it: it waits.
    setpoint = rig.dispatcher.in_force(0)
    assert setpoint is not None
    assert (setpoint.dispatch.adopted, setpoint.dispatch.priority) == (True, "schedule")
    await rig.run(89)
    assert rig.seconds() == [(10.0, 5.0), (70.0, 4.0), (130.0, 0.0)]
    assert len(rig.only(schedule).dispatch_ids) == 2


async def test_while_the_database_is_away_occurrences_begin_all_the_same() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0))
    rig.store.away = True
    await rig.run(30)
    assert rig.seconds() == [(10.0, 5.0)]
    rig.store.away = False
    await rig.run(60)
    assert rig.only(schedule).state == "completed"


async def test_what_was_missed_while_the_headend_was_away_is_on_record() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), recurrence="FREQ=HOURLY", misfire_s=30)
    await rig.run(100)
    await restart(rig, after_s=3 * 3600, written=100)
    assert [one.state for one in rig.occurrences(schedule)] == ["completed", *["missed"] * 3]
    rig.connect()
    await rig.run(3600, every_s=10)
    assert [one.state for one in rig.occurrences(schedule)][4:] == ["completed"]


async def test_a_cancel_whose_end_of_the_occurrence_is_lost_is_finished_by_the_next_headend() -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0))
    await rig.run(20)
    rig.store.write()
    await rig.schedules.cancel(schedule.schedule_id, requested_by="ben")
    await restart(rig, after_s=5, written=1)
    rig.connect()
    await rig.run(5)
    assert rig.only(schedule).state == "cancelled"
    assert rig.batteries[0].mw == 0.0


@pytest.mark.parametrize("by_s", [-3600.0, 3600.0, -5.0, 5.0])
async def test_a_clock_that_is_set_begins_nothing_a_second_time(by_s: float) -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), recurrence="FREQ=MINUTELY;INTERVAL=5;COUNT=40")
    await rig.run(400)
    step(rig, by_s)
    await rig.run(7200, every_s=20)
    found = rig.occurrences(schedule)
    begun = [one.dispatch_ids for one in found if one.dispatch_ids]
    assert len(set(begun)) == len(begun)
    assert [one.start_ms for one in found] == sorted({one.start_ms for one in found})
    gaps = {after.start_ms - before.start_ms for before, after in pairwise(found)}
    assert gaps == {300_000}


@pytest.mark.parametrize("restarts", [False, True])
async def test_what_a_clock_that_was_ahead_has_missed_is_still_to_come(restarts: bool) -> None:
    rig = await started()
    schedule = await rig.create((60, 5.0), recurrence="FREQ=HOURLY", misfire_s=30)
    await rig.run(100)
    step(rig, 6 * 3600.0)
    await rig.run(10)
    states = [one.state for one in rig.occurrences(schedule)]
    assert states == ["completed", *["missed"] * 6]
    step(rig, -6 * 3600.0)
    if restarts:
        await restart(rig, after_s=0, written=100)
        rig.connect()
    await rig.run(2 * 3600, every_s=20)
    states = [one.state for one in rig.occurrences(schedule)]
    assert states == ["completed", "completed", "completed", *["missed"] * 4]


def step(rig: Rig, by_s: float) -> None:
    """The headend's clock is set by so much; the batteries' clocks are right by the new time."""
    rig.passed_s += by_s
    rig.parts.wall.adjust(by_s)
    rig.parts.latest.clock_stepped(round(by_s * 1000))
    rig.dispatcher.clock_stepped(round(by_s * 1000))
    rig.schedules.runner.clock_stepped(round(by_s * 1000))
