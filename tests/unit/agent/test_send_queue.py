"""What waits for a session is bounded, in order, and never pushed out by what is in force."""

import pytest

from tests.unit.agent.parts import asset_id
from trioder.agent import send_queue
from trioder.agent.persistence.outbox import Outbox
from trioder.agent.persistence.state_store import InMemoryBatchLog
from trioder.agent.send_queue import SendQueue
from trioder.wire.records import Acknowledgement, AgentEvent


def make_queue() -> SendQueue:
    return SendQueue(Outbox(InMemoryBatchLog(), max_bytes=1000))


def answer(dispatch_id: str, status: str = "completed") -> Acknowledgement:
    return Acknowledgement(dispatch_id=dispatch_id, asset_id=asset_id(0), status=status, ts_unix_ms=1)


def event(event_id: str) -> AgentEvent:
    return AgentEvent(
        event_id=event_id,
        asset_id=asset_id(0),
        site_id="",
        ts_unix_ms=1,
        event_type="t",
        severity="warning",
        message="",
    )


def taken(queue: SendQueue) -> list[str]:
    """What is sent, as the dispatch's or the event's id."""
    ids = []
    while (message := queue.take_next()) is not None:
        ids.append(message.event.id or f"{message.dispatch_ack.dispatch_id} {message.dispatch_ack.status}")
    return ids


def test_answers_and_events_beyond_their_bounds_are_dropped_the_oldest_first_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(send_queue, "MAX_ACKNOWLEDGEMENTS", 3)
    monkeypatch.setattr(send_queue, "MAX_EVENTS", 2)
    queue = make_queue()
    for number in range(5):
        queue.put(answer(f"d{number}"))
        queue.put(event(f"e{number}"))
    assert (queue.acknowledgements_dropped, queue.events_dropped) == (2, 3)
    assert taken(queue) == ["d2 completed", "d3 completed", "d4 completed", "e3", "e4"]


def test_reports_of_setpoints_in_force_follow_waiting_messages_and_drop_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(send_queue, "MAX_ACKNOWLEDGEMENTS", 2)
    queue = make_queue()
    queue.put(answer("a"))
    queue.put(answer("b"))
    queue.put_active(iter([answer(str(number), "active") for number in range(4)]))
    assert taken(queue) == ["a completed", "b completed", "0 active", "1 active", "2 active", "3 active"]
    assert queue.acknowledgements_dropped == 0


def test_another_session_receives_the_setpoints_in_force_again() -> None:
    queue = make_queue()
    queue.put_active(iter([answer("a", "active"), answer("b", "active")]))
    queue.take_next()
    queue.put_active(iter([answer("a", "active")]))
    assert taken(queue) == ["a active"]


def test_a_dispatch_without_an_id_cannot_be_answered() -> None:
    queue = make_queue()
    queue.put(answer(""))
    assert taken(queue) == []
