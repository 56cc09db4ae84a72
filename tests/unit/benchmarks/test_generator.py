"""The generator: paced and unpaced batches, single samples, and when all agents are registered."""

import json
import random

import pytest
import trio
from trio.testing import MockClock

from scripts.benchmarks import generator
from scripts.benchmarks.generator import BatchQueue, SampleQueue, Sending
from scripts.make_fleet import make_fleet
from trioder.agent.headend_client import LinkReport
from trioder.agent.pulse import PulseGrid

ASSETS = make_fleet(3, random.Random(1)).assets
UP = LinkReport(state="connected", assets=1)
DOWN = LinkReport(state="disconnected", assets=0, reason="gone")


def registered(*, at_will: bool = False) -> BatchQueue:
    sending = Sending(1)
    sending.at_will = at_will
    queue = BatchQueue(ASSETS, sending)
    queue.outbox.registered(0)
    return queue


def taken(queue: BatchQueue) -> list[tuple[int, int]]:
    """Everything that may be sent now in its turn, as (batch_seq, ts_unix_ms)."""
    batches = []
    while (message := queue.take_next()) is not None:
        if not message.telemetry_batch.live_only:
            batches.append((message.telemetry_batch.batch_seq, message.telemetry_batch.ts_unix_ms))
    return batches


def test_at_will_the_window_is_filled_and_an_acknowledgement_makes_room() -> None:
    queue = registered(at_will=True)
    assert [batch_seq for batch_seq, _ in taken(queue)] == list(range(1, 33))
    queue.outbox.acknowledged(2)
    assert [batch_seq for batch_seq, _ in taken(queue)] == [33, 34]


def test_batches_have_all_assets_and_different_times() -> None:
    queue = registered(at_will=True)
    message = queue.take_next()
    assert message is not None
    assert list(message.telemetry_batch.asset_index) == [0, 1, 2]
    first_ms = message.telemetry_batch.ts_unix_ms
    times = [first_ms, *(ts_ms for _, ts_ms in taken(queue))]
    assert len(set(times)) == 32


def test_a_replay_sends_the_same_batches_again_in_order() -> None:
    queue = registered(at_will=True)
    before = taken(queue)
    queue.outbox.acknowledged(1)
    queue.outbox.replay_from(2)
    queue._sending.at_will = False
    assert taken(queue) == before[1:]
    assert queue._sending.replays == 1


def test_each_batch_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 10.0
    monkeypatch.setattr(generator.time, "perf_counter", lambda: now_s)
    queue = registered(at_will=True)
    taken(queue)
    queue.outbox.replay_from(1)
    now_s = 11.5
    taken(queue)
    for batch_seq in (2, 2, 1):
        queue.outbox.acknowledged(batch_seq)
    sending = queue._sending
    assert list(sending.latencies_s) == [1.5, 1.5]
    assert (sending.first_sent_s, sending.last_committed_s) == (10.0, 11.5)
    assert (sending.made, sending.committed) == (32 * 3, 2 * 3)


def test_nothing_is_made_before_it_may_be_and_after_the_end() -> None:
    queue = registered()
    assert taken(queue) == []
    queue.append()
    assert [batch_seq for batch_seq, _ in taken(queue)] == [1]


async def test_with_a_pace_there_is_a_batch_per_pulse_until_the_end(autojump_clock: MockClock) -> None:
    queue = registered()
    grid = PulseGrid(first_s=trio.current_time() + 2.0, tick_s=4.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(generator._pulse, queue, grid, queue._sending)
        await trio.sleep(11.0)
        queue._sending.ended = True
    assert [batch_seq for batch_seq, _ in taken(queue)] == [1, 2, 3]


def test_single_samples_are_bounded_by_what_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_MAX_UNCOMMITTED", 4)
    sending = Sending(1)
    queue = SampleQueue(ASSETS, sending)
    assert queue.take_next() is None
    sending.at_will = True
    ids = []
    while (message := queue.take_next()) is not None:
        ids.append(message.telemetry.asset_id)
    assert ids == [asset.id for asset in (*ASSETS, ASSETS[0])]
    sending.committed = 1
    assert queue.take_next() is not None
    assert queue.take_next() is None
    totals = sending.totals([], 0.1)
    assert (totals["messages"], totals["samples"], totals["acknowledged_p50_ms"]) == (5, 5, None)


def test_it_is_reported_when_all_are_registered_and_again_after_a_loss(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sending = Sending(2)
    for number, report in ((1, UP), (1, DOWN), (2, UP)):
        sending.note(number, report)
    assert capsys.readouterr().out == ""
    for number, report in ((1, UP), (2, DOWN), (2, DOWN), (2, UP)):
        sending.note(number, report)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["attempts_failed"] for line in lines] == [1, 3]
