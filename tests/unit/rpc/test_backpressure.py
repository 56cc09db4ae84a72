from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from google.protobuf.wrappers_pb2 import BytesValue
from trio.testing import MockClock

from tests.unit.rpc.probe import DEFAULTS, ECHO, FLOOD, HANG, UNARY, Probe, call_unary, message, open_probe
from tests.unit.rpc.raw_peer import REQUEST, open_raw_client
from trioder.rpc import Channel, ClientCall, RpcError, StatusCode
from trioder.rpc.framing import framed


async def sent_until_stuck(call: ClientCall[Any, Any], size: int) -> int:
    """How many messages of a size go out before `send` waits for good."""
    count = 0
    with trio.move_on_after(1):
        while True:
            await call.send(message(bytes(size)))
            count += 1
    return count


@pytest.mark.parametrize("size", [0, 100, 10_000])
async def test_a_sender_waits_for_a_receiver(autojump_clock: MockClock, size: int) -> None:
    async with open_probe(Probe()) as channel, channel.open_call(HANG) as call:
        count = await sent_until_stuck(call, size)

    queue_and_window = DEFAULTS.inbound_queue_bytes + DEFAULTS.stream_window_bytes
    assert 0 < count * (size + 5) <= queue_and_window + 2 * (size + 10)


async def test_a_sender_resumes_with_the_receiver(autojump_clock: MockClock) -> None:
    total = 2000

    async def send_all(call: ClientCall[Any, Any]) -> None:
        for number in range(total):
            await call.send(message(b"%d" % number * 500))
        await call.done_sending()

    async with (
        open_probe(Probe()) as channel,
        channel.open_call(ECHO) as call,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(send_all, call)
        await trio.sleep(1)
        answers = [answer.value async for answer in call]

    assert answers == [b"%d" % number * 500 for number in range(total)]


async def test_a_client_that_does_not_receive_stops_its_handler_and_no_other_call(
    autojump_clock: MockClock,
) -> None:
    probe = Probe()
    async with open_probe(probe) as channel, channel.open_call(FLOOD) as call:
        await call.send(message(b""))
        await trio.sleep(1)
        flooded = probe.flooded
        assert (await call_unary(channel, UNARY, message(b"on"))).value == b"on"
        await trio.sleep(1)

        assert probe.flooded == flooded
        queue_and_window = DEFAULTS.inbound_queue_bytes + DEFAULTS.stream_window_bytes
        assert flooded * 1000 <= queue_and_window + 2000


async def test_abandoned_calls_release_their_share_of_the_window(autojump_clock: MockClock) -> None:
    narrow = replace(DEFAULTS, connection_window_bytes=256 * 1024)
    async with open_probe(Probe(), client_options=narrow) as channel:
        for _ in range(20):
            async with channel.open_call(FLOOD) as call:
                await call.send(message(b""))
                await trio.sleep(0.1)
        assert (await call_unary(channel, UNARY, message(bytes(100_000)))).value == bytes(100_000)


async def test_many_unfinished_messages_are_bounded_together(autojump_clock: MockClock) -> None:
    options = replace(DEFAULTS, connection_window_bytes=1024 * 1024)
    almost = framed(BytesValue(value=bytes(500_000)).SerializeToString())[:-1]
    async with open_raw_client(options=options) as client:
        refused = 0
        for _ in range(3):
            stream_id = client.h2.get_next_available_stream_id()
            client.h2.send_headers(stream_id, REQUEST)
            rest = almost
            while rest and stream_id in client.h2.streams and client.h2.streams[stream_id].open:
                count = min(client.h2.local_flow_control_window(stream_id), 16_384, len(rest))
                if count:
                    client.h2.send_data(stream_id, rest[:count])
                    rest = rest[count:]
                await client.receive()
            status = client.fields_on(stream_id).get("grpc-status")
            refused += status == str(StatusCode.RESOURCE_EXHAUSTED.value)

    assert refused == 1


async def test_a_busy_call_does_not_starve_another(autojump_clock: MockClock) -> None:
    async def chat(channel: Channel) -> None:
        async with channel.open_call(ECHO) as call, trio.open_nursery() as nursery:
            nursery.start_soon(sent_until_stuck, call, 10)
            async for _ in call:
                pass

    async with open_probe(Probe()) as channel, trio.open_nursery() as nursery:
        nursery.start_soon(chat, channel)
        for _ in range(20):
            await call_unary(channel, UNARY, message(b""))
        nursery.cancel_scope.cancel()


async def test_a_peer_that_sends_requests_and_never_reads_is_closed(autojump_clock: MockClock) -> None:
    async with open_raw_client(lockstep=True) as client:
        await client.flush()
        with trio.fail_after(120):
            while not client.server_ended.is_set():
                for _ in range(900):
                    client.h2.ping(b"are you?")
                await client.flush()
                await trio.sleep(1)


async def test_a_call_above_the_servers_limit_is_refused(autojump_clock: MockClock) -> None:
    async with open_probe(Probe(), server_options=replace(DEFAULTS, max_concurrent_calls=2)) as channel:
        async with channel.open_call(ECHO) as call, channel.open_call(HANG):
            await call.send(message(b""))
            await call.receive()
            with pytest.raises(RpcError) as caught:
                await call_unary(channel, UNARY, message(b""))
        await trio.sleep(0.1)
        assert (await call_unary(channel, UNARY, message(b"on"))).value == b"on"

    assert caught.value.status is StatusCode.RESOURCE_EXHAUSTED
