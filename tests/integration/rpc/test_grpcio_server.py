"""Our client of a grpcio server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.integration.rpc.conftest import GrpcioServer
from tests.unit.rpc.probe import (
    COUNT,
    DEFAULTS,
    ECHO,
    HANG,
    JOIN,
    NOWHERE,
    REFUSE,
    UNARY,
    UNICODE,
    call_unary,
    message,
    probe_method,
)
from trioder.rpc import Channel, RpcError, StatusCode, connect, open_channel

WAS_CANCELLED = probe_method("WasCancelled")


@asynccontextmanager
async def channel_to(server: GrpcioServer) -> AsyncIterator[Channel]:
    with trio.fail_after(20):
        stream = await connect("127.0.0.1", server.port)
        async with open_channel(stream, authority="localhost", options=DEFAULTS) as channel:
            yield channel


async def test_every_kind_of_call_is_answered(shared_grpcio_server: GrpcioServer) -> None:
    async with channel_to(shared_grpcio_server) as channel:
        unary = await call_unary(channel, UNARY, message(b"one"))
        async with channel.open_call(COUNT) as call:
            await call.send(message(b"3"))
            await call.done_sending()
            counted = [answer.value async for answer in call]
        async with channel.open_call(JOIN) as call:
            for part in (b"a", b"b"):
                await call.send(message(part))
            await call.done_sending()
            joined = [answer.value async for answer in call]
        async with channel.open_call(ECHO) as call:
            echoed = []
            for part in (b"x", b"y"):
                await call.send(message(part))
                echoed.append((await call.receive()).value)
            await call.done_sending()
            with pytest.raises(trio.EndOfChannel):
                await call.receive()

    assert (unary.value, counted, joined, echoed) == (b"one", [b"0", b"1", b"2"], [b"ab"], [b"x", b"y"])


async def test_messages_before_an_early_end_are_still_received(shared_grpcio_server: GrpcioServer) -> None:
    # The server ends the call and resets the stream before the client has half-closed it.
    async with channel_to(shared_grpcio_server) as channel, channel.open_call(ECHO) as call:
        await call.send(message(b"one"))
        await call.send(message(b"enough"))
        await trio.sleep(0.2)  # the trailers and the reset are there before anything is received

        assert [answer.value async for answer in call] == [b"one", b"enough"]
        with pytest.raises(RpcError) as caught:
            await call.send(message(b"late"))
    assert caught.value.status is StatusCode.CANCELLED


async def test_a_refusal_carries_its_status_and_text(shared_grpcio_server: GrpcioServer) -> None:
    async with channel_to(shared_grpcio_server) as channel:
        with pytest.raises(RpcError) as caught:
            await call_unary(channel, REFUSE, message(UNICODE.encode()))

    assert (caught.value.status, caught.value.message) == (StatusCode.FAILED_PRECONDITION, UNICODE)


async def test_an_unknown_method_is_unimplemented(shared_grpcio_server: GrpcioServer) -> None:
    async with channel_to(shared_grpcio_server) as channel:
        with pytest.raises(RpcError) as caught:
            await call_unary(channel, NOWHERE, message(b""))

    assert caught.value.status is StatusCode.UNIMPLEMENTED


async def test_leaving_a_call_cancels_it(grpcio_server: GrpcioServer) -> None:
    async with channel_to(grpcio_server) as channel:
        async with channel.open_call(HANG) as call:
            await call.receive()

        assert (await call_unary(channel, WAS_CANCELLED, message(b""))).value == b"yes"


async def test_the_deadline_ends_a_call(grpcio_server: GrpcioServer) -> None:
    async with channel_to(grpcio_server) as channel:
        with pytest.raises(RpcError) as caught:  # noqa: PT012  # the call is what raises, at its end
            async with channel.open_call(HANG, timeout_s=0.3) as call:
                async for _ in call:
                    pass
        over = await call_unary(channel, WAS_CANCELLED, message(b""))

    assert caught.value.status is StatusCode.DEADLINE_EXCEEDED
    assert over.value == b"yes"


async def test_messages_of_4_mib_go_both_ways(shared_grpcio_server: GrpcioServer) -> None:
    payload = bytes(range(256)) * 16 * 1023
    async with channel_to(shared_grpcio_server) as channel:
        answer = await call_unary(channel, UNARY, message(payload))

    assert answer.value == payload


async def test_a_thousand_calls_are_open_on_one_connection(shared_grpcio_server: GrpcioServer) -> None:
    answers: set[bytes] = set()

    async def ask(channel: Channel, number: int) -> None:
        answers.add((await call_unary(channel, UNARY, message(b"%d" % number))).value)

    async with channel_to(shared_grpcio_server) as channel, trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(ask, channel, number)

    assert len(answers) == 1000


async def test_a_server_that_goes_away_lets_the_call_end_and_takes_no_more(
    grpcio_server: GrpcioServer,
) -> None:
    async with channel_to(grpcio_server) as channel, channel.open_call(ECHO) as call:
        await call.send(message(b"one"))
        await call.receive()
        grpcio_server.stop_gracefully()
        status = None
        while status is not StatusCode.UNAVAILABLE:  # at first grpcio's server cancels new calls
            try:
                await call_unary(channel, UNARY, message(b""))
            except RpcError as refused:
                status = refused.status
            await trio.sleep(0.01)
        await call.send(message(b"two"))
        answer = await call.receive()
        await call.done_sending()
        with pytest.raises(trio.EndOfChannel):
            await call.receive()

    assert answer.value == b"two"


async def test_a_killed_server_ends_calls_as_unavailable(grpcio_server: GrpcioServer) -> None:
    async def receive(call: Any) -> None:
        with pytest.raises(RpcError) as caught:
            await call.receive()
        assert caught.value.status is StatusCode.UNAVAILABLE

    async with channel_to(grpcio_server) as channel, channel.open_call(HANG) as call:
        await call.receive()
        grpcio_server.process.kill()
        await receive(call)
