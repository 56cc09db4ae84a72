"""The pace of the load: each stream in its place of the pulse, and none faster than the headend takes."""

import random
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from scripts.benchmarks.load import AgentCall, Gates, Stream
from scripts.make_fleet import make_fleet
from trioder.wire import agent_link_pb2 as pb


class Call:
    """Notes when each batch is sent, and acknowledges it after a while."""

    def __init__(self, stream: Stream, *, after_s: float) -> None:
        self.sent: list[tuple[float, int]] = []
        self._stream = stream
        self._after_s = after_s

    async def send(self, message: pb.AgentToHeadend) -> None:
        self.sent.append((trio.current_time(), message.telemetry_batch.batch_seq))
        await trio.sleep(self._after_s)
        self._stream.window.acknowledged(message.telemetry_batch.batch_seq)


async def sent_by(*, every_s: float, phase: float, until_s: float, after_s: float) -> list[tuple[float, int]]:
    stream = Stream(1, make_fleet(3, random.Random(1)).assets, phase=phase)
    call = Call(stream, after_s=after_s)
    gates = Gates(every_s)
    began_s = gates.begin_s = trio.current_time()
    gates.until_s = began_s + until_s
    await stream._send(cast("AgentCall", call), gates)
    return [(pytest.approx(at_s - began_s), batch_seq) for at_s, batch_seq in call.sent]


async def test_a_stream_sends_once_a_pulse_from_its_phase_on(autojump_clock: MockClock) -> None:
    sent = await sent_by(every_s=4.0, phase=0.5, until_s=11.0, after_s=0.1)
    assert sent == [(2.0, 1), (6.0, 2), (10.0, 3)]


async def test_a_stream_that_was_held_up_makes_up_for_it(autojump_clock: MockClock) -> None:
    sent = await sent_by(every_s=1.0, phase=0.0, until_s=4.0, after_s=1.5)
    assert sent == [(0.0, 1), (1.5, 2), (3.0, 3)]


async def test_without_a_pace_a_batch_follows_the_one_before(autojump_clock: MockClock) -> None:
    sent = await sent_by(every_s=0.0, phase=0.5, until_s=1.0, after_s=0.4)
    assert sent == [(0.0, 1), (0.4, 2), (0.8, 3)]
