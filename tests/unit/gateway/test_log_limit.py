"""A flood of one kind of message causes so many lines in ten seconds, and the next says what is missing."""

import structlog.testing
import trio
import trio.testing

from tests.unit.headend.driver import open_rig
from tests.unit.headend.parts import asset_id
from trioder.gateway.log_limit import MAX_LINES, WINDOW_MS, LogLimit
from trioder.wire import agent_link_pb2 as pb


def test_lines_beyond_the_limit_are_counted_and_named_with_the_next() -> None:
    limit = LogLimit()
    assert [limit.suppressed_before("a", 5) for _ in range(MAX_LINES)] == [0] * MAX_LINES
    assert [limit.suppressed_before("a", 5 + WINDOW_MS - 1) for _ in range(3)] == [None] * 3
    assert limit.suppressed_before("b", 6) == 0
    assert [limit.suppressed_before("a", 5 + WINDOW_MS) for _ in range(2)] == [3, 0]


def test_a_clock_that_is_set_back_silences_nothing() -> None:
    limit = LogLimit()
    for _ in range(MAX_LINES + 1):
        limit.suppressed_before("a", 1_000_000)
    assert limit.suppressed_before("a", 1_000) == 1


async def test_floods_of_events_and_of_answers_to_unknown_dispatches_are_logged_in_part(
    autojump_clock: object,
) -> None:
    event = pb.AgentToHeadend(
        event=pb.Event(event_type="ALARM", asset_id=asset_id(0), timestamp="2026-01-01T00:00:00Z")
    )
    answer = pb.AgentToHeadend(
        dispatch_ack=pb.DispatchAck(
            dispatch_id="never", asset_id=asset_id(0), status="applied", timestamp="2026-01-01T00:00:00Z"
        )
    )
    async with open_rig() as rig:
        agent = await rig.registered(0)
        with structlog.testing.capture_logs() as logs:
            for _ in range(MAX_LINES + 50):
                await agent.send(event)
                await agent.send(answer)
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(WINDOW_MS / 1000)
            await agent.send(event)
            await trio.testing.wait_all_tasks_blocked()
        events = [line for line in logs if line["event"] == "agent event"]
        assert len(events) == MAX_LINES + 1
        assert events[-1]["suppressed_before"] == 50
        assert sum(line["event"] == "answer to a dispatch passed over" for line in logs) == MAX_LINES
        counters = rig.headend.counters
        assert counters.log_lines_suppressed == 100
        assert counters.events_received == MAX_LINES + 51
        assert counters.dispatches_acknowledged == MAX_LINES + 50
