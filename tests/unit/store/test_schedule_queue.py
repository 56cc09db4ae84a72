"""Occurrences that wait: never after a dispatch that was recorded later, never dropped, and waited for."""

from dataclasses import replace

import trio
from trio.testing import MockClock

from tests.unit.store.model_database import dispatch_record
from tests.unit.store.test_alarm_queue import event
from tests.unit.store.test_store import open_over, steady_database
from trioder.domain.dispatch import AllocationRecord
from trioder.domain.schedules import Occurrence, OccurrenceStep
from trioder.store.postgres.pending_records import PendingDispatch, PendingEvent, PendingOccurrence
from trioder.store.postgres.record_queue import RecordQueue

RUNNING = Occurrence(
    schedule_id="3f1d2c4b-0000-4000-8000-0000000000aa", start_ms=1, end_ms=2, state="running"
)
BEGUN = replace(RUNNING, steps=(OccurrenceStep(number=0, dispatch_id="d"),))


def no_share(key: int) -> AllocationRecord:
    raise KeyError(key)


def occurrences(records: RecordQueue) -> list[Occurrence]:
    return [one.occurrence for one in records.first(10_000) if isinstance(one, PendingOccurrence)]


def test_a_step_goes_before_its_dispatch_while_the_occurrence_is_being_written() -> None:
    records = RecordQueue(max_bytes=1_000_000)
    records.put(PendingOccurrence(occurrence=RUNNING))
    in_flight = records.first(10)
    records.put(PendingOccurrence(occurrence=BEGUN))
    dispatch = replace(dispatch_record("d"), members=(), left_out=())
    records.put(PendingDispatch(dispatch=dispatch, changed=frozenset(), share_of=no_share))
    records.remove_written(in_flight)
    first, second = records.first(10)
    assert isinstance(first, PendingOccurrence)
    assert first.occurrence == BEGUN
    assert second.key == "d"


def test_without_room_occurrences_stay() -> None:
    records = RecordQueue(max_bytes=20_000)
    kept = [replace(BEGUN, start_ms=number, state="completed") for number in range(10)]
    for occurrence in kept:
        records.put(PendingOccurrence(occurrence=occurrence))
        for _ in range(5):
            records.put(PendingEvent(event=event("m")))
    assert occurrences(records) == kept


async def test_it_is_waited_for_until_it_is_written(autojump_clock: MockClock) -> None:
    database = steady_database()
    database.records_delay_s = 3.0
    async with open_over(database) as store:
        await trio.sleep(1)
        store.record_occurrence(RUNNING)
        began_s = trio.current_time()
        assert await store.wait_recorded(RUNNING)
        assert 3.0 <= trio.current_time() - began_s < 4.0
        assert database.audited.occurrences == {(RUNNING.schedule_id, 1): RUNNING}


async def test_nobody_waits_for_a_database_that_is_away(autojump_clock: MockClock) -> None:
    database = steady_database()
    async with open_over(database) as store:
        await trio.sleep(1)
        database.refuses_records = "no space left"
        store.record_occurrence(RUNNING)
        with trio.fail_after(1):
            assert not await store.wait_recorded(RUNNING)
