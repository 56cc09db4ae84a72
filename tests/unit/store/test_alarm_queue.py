"""Alarms and events that wait: the newest state of an alarm wins; what is dropped first without room."""

from dataclasses import replace

from trioder.domain.access import AuditRecord
from trioder.domain.alarms import Alarm, AlarmSource, EventRecord
from trioder.store.postgres.pending_records import PendingAlarm, PendingAudit, PendingEvent
from trioder.store.postgres.record_queue import RecordQueue


def alarm(number: int = 0, **fields: object) -> Alarm:
    values = {
        "alarm_id": f"{number}",
        "kind": "stale",
        "severity": "minor",
        "source": AlarmSource("asset", "a"),
        "tenant": "t",
        "reason": "r",
        "raised_ms": 1,
    }
    return Alarm(**values | fields)  # type: ignore[arg-type]  # a test's shorthand


def event(message: str) -> EventRecord:
    return EventRecord(
        at_ms=1,
        origin="agent",
        agent_id="a",
        asset_id="",
        tenant="t",
        site_ids=(),
        event_type="X",
        severity="",
        message=message,
    )


def refusal() -> AuditRecord:
    return AuditRecord(
        at_ms=1, principal="", kind="", tenant="", peer="", action="authenticate", outcome="refused"
    )


def kept(records: RecordQueue) -> tuple[int, int, int]:
    """How many open and cleared alarms, and events."""
    waiting = records.first(10_000)
    alarms = [one.alarm for one in waiting if isinstance(one, PendingAlarm)]
    is_open = sum(one.is_open for one in alarms)
    return is_open, len(alarms) - is_open, sum(isinstance(one, PendingEvent) for one in waiting)


def test_the_newest_state_of_an_alarm_is_written_once() -> None:
    records = RecordQueue(max_bytes=1_000_000)
    for count in range(5):
        records.put(PendingAlarm(alarm=alarm(count=count)))
    [record] = records.first(10)
    assert isinstance(record, PendingAlarm)
    assert record.alarm.count == 4


def test_an_alarm_that_is_cleared_while_it_is_written_is_written_again() -> None:
    records = RecordQueue(max_bytes=1_000_000)
    records.put(PendingAlarm(alarm=alarm()))
    written = records.first(10)
    records.put(PendingAlarm(alarm=replace(alarm(), cleared_ms=2)))
    records.remove_written(written)
    assert kept(records) == (0, 1, 0)


def test_events_are_all_given_out_in_order() -> None:
    records = RecordQueue(max_bytes=1_000_000)
    for number in range(20):
        records.put(PendingEvent(event=event(str(number))))
    found = [one.event.message for one in records.first(100) if isinstance(one, PendingEvent)]
    assert found == [str(number) for number in range(20)]


def test_a_flood_of_events_drops_the_oldest_events_and_nothing_else() -> None:
    records = RecordQueue(max_bytes=100_000)
    records.put(PendingAudit(record=refusal()))
    records.put(PendingAlarm(alarm=alarm(0)))
    records.put(PendingAlarm(alarm=alarm(1, cleared_ms=2)))
    dropped = [records.put(PendingEvent(event=event(str(number)))) for number in range(1_000)]
    is_open, cleared, events = kept(records)
    assert (is_open, cleared) == (1, 1)
    assert sum(one.events for one in dropped) == 1_000 - events
    assert sum(one.records + one.audit_records for one in dropped) == 0
    newest = [one.event.message for one in records.first(10_000) if isinstance(one, PendingEvent)][-1]
    assert newest == "999"


def test_cleared_alarms_go_before_open_ones_which_stay() -> None:
    records = RecordQueue(max_bytes=100_000)
    for number in range(50):
        records.put(PendingAlarm(alarm=alarm(number)))
    dropped = [records.put(PendingAlarm(alarm=alarm(number, cleared_ms=2))) for number in range(50, 1_000)]
    is_open, cleared, _ = kept(records)
    assert is_open == 50
    assert sum(one.records for one in dropped) == 950 - cleared > 0


def test_the_ids_of_a_large_alarm_count_as_memory() -> None:
    small, large = PendingAlarm(alarm=alarm()), PendingAlarm(alarm=alarm(asset_ids=("x" * 36,) * 1_000))
    assert large.size > small.size + 36_000
    records = RecordQueue(max_bytes=1_000_000)
    records.put(PendingAudit(record=refusal()))
    assert [type(one) for one in records.first(5)] == [PendingAudit]
