from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.unit.rpc.probe import ECHO, UNARY, Probe, call_unary, message, open_probe
from trioder.rpc import RpcError, ServerCall, Services, StatusCode, open_channel, serve_connection


async def test_a_call_in_flight_ends_well_and_no_new_one_begins(autojump_clock: MockClock) -> None:
    drain = trio.Event()
    async with open_probe(Probe(), drain=drain) as channel, channel.open_call(ECHO) as call:
        await call.send(message(b"before"))
        await call.receive()
        drain.set()
        await trio.sleep(1)
        with pytest.raises(RpcError) as caught:
            await call_unary(channel, UNARY, message(b""))
        await call.send(message(b"after"))
        answer = (await call.receive()).value
        await call.done_sending()
        with pytest.raises(trio.EndOfChannel):
            await call.receive()

    assert caught.value.status is StatusCode.UNAVAILABLE
    assert answer == b"after"


async def test_the_last_answer_is_sent_in_full_before_the_connection_ends(autojump_clock: MockClock) -> None:
    # Over a wire that takes a piece only when the other end reads it.
    drain = trio.Event()
    ours, theirs = trio.testing.lockstep_stream_pair()

    async def answer_and_drain(call: ServerCall[Any, Any]) -> None:
        await call.receive()
        drain.set()
        await call.send(message(bytes(2_000_000)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(serve_connection, theirs, Services({UNARY: answer_and_drain}), drain=drain)
        )
        async with open_channel(ours, authority="probe") as channel:
            answer = await call_unary(channel, UNARY, message(b""))

    assert answer.value == bytes(2_000_000)


async def test_an_idle_connection_ends_soon(autojump_clock: MockClock) -> None:
    drain = trio.Event()
    _ours, theirs = trio.testing.memory_stream_pair()
    drain.set()
    await serve_connection(theirs, Probe().services, drain=drain)

    assert trio.current_time() <= 2.5
