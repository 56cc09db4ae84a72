import math

import pytest
import structlog.testing
import trio
import trio.testing
from trio.testing import MockClock

from tests.unit.rpc.probe import (
    COUNT,
    CRASH,
    ECHO,
    GROUP,
    HANG,
    JOIN,
    NOWHERE,
    REFUSE,
    UNARY,
    UNICODE,
    Probe,
    call_unary,
    message,
    open_probe,
    probe_method,
)
from trioder.rpc import (
    Channel,
    Method,
    RpcError,
    ServerCall,
    Services,
    StatusCode,
    open_channel,
    serve_connection,
)


async def failure(channel: Channel, method: Method) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await call_unary(channel, method, message(b""))
    return caught.value


async def test_every_kind_of_call_is_answered(autojump_clock: MockClock) -> None:
    async with open_probe(Probe()) as channel:
        unary = await call_unary(channel, UNARY, message(b"one"))
        async with channel.open_call(COUNT) as call:
            await call.send(message(b"100"))
            counted = [int(answer.value) async for answer in call]
        async with channel.open_call(JOIN) as call:
            for part in (b"a", b"b"):
                await call.send(message(part))
            await call.done_sending()
            joined = [answer.value async for answer in call]
        async with channel.open_call(ECHO) as call:
            await call.send(message(b"x"))
            echoed = (await call.receive()).value

    assert (unary.value, counted, joined, echoed) == (b"one", list(range(100)), [b"ab"], b"x")


@pytest.mark.parametrize("size", [0, 1, 16_379, 65_536, 300_000, 4 * 1024 * 1024 - 16])
async def test_a_message_of_any_allowed_size_is_echoed(autojump_clock: MockClock, size: int) -> None:
    async with open_probe(Probe()) as channel:
        assert len((await call_unary(channel, UNARY, message(bytes(size)))).value) == size


async def test_a_message_over_the_limit_ends_its_call_alone(autojump_clock: MockClock) -> None:
    async with open_probe(Probe()) as channel:
        with pytest.raises(RpcError) as caught:
            await call_unary(channel, UNARY, message(bytes(5 * 1024 * 1024)))
        assert (await call_unary(channel, UNARY, message(b"on"))).value == b"on"

    assert caught.value.status is StatusCode.RESOURCE_EXHAUSTED


async def test_a_refusal_carries_its_status_and_text(autojump_clock: MockClock) -> None:
    async with open_probe(Probe()) as channel:
        error = await failure(channel, REFUSE)

    assert (error.status, error.message) == (StatusCode.FAILED_PRECONDITION, UNICODE)


async def test_a_refusal_from_within_a_handlers_nursery_is_sent_all_the_same(
    autojump_clock: MockClock,
) -> None:
    async with open_probe(Probe()) as channel:
        assert (await failure(channel, GROUP)).status is StatusCode.FAILED_PRECONDITION


async def test_a_crash_is_logged_and_its_text_is_not_sent(autojump_clock: MockClock) -> None:
    with structlog.testing.capture_logs() as logs:
        async with open_probe(Probe()) as channel:
            error = await failure(channel, CRASH)

    assert (error.status, error.message) == (StatusCode.INTERNAL, "internal error")
    assert [(line["event"], line["log_level"], line["method"]) for line in logs if line.get("exc_info")] == [
        ("call failed", "error", "/probe.Probe/Crash")
    ]


async def test_an_unknown_method_is_unimplemented(autojump_clock: MockClock) -> None:
    async with open_probe(Probe()) as channel:
        assert (await failure(channel, NOWHERE)).status is StatusCode.UNIMPLEMENTED


async def test_a_call_without_the_message_it_needs_is_the_callers_fault(autojump_clock: MockClock) -> None:
    async with open_probe(Probe()) as channel, channel.open_call(UNARY) as call:
        await call.done_sending()
        with pytest.raises(RpcError) as caught:
            await call.receive()

    assert caught.value.status is StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("text", ["\ud800 alone", "x" * 100_000, "电" * 50_000])
async def test_no_text_of_a_refusal_breaks_the_call(autojump_clock: MockClock, text: str) -> None:
    async def refuse(call: ServerCall) -> None:
        raise RpcError(StatusCode.ABORTED, text)

    method = probe_method("Long")
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, theirs, Services({method: refuse}))
        async with open_channel(ours, authority="probe") as channel:
            error = await failure(channel, method)

    assert error.status is StatusCode.ABORTED
    assert error.message[:300] == text[:300].encode(errors="replace").decode()


async def test_metadata_reaches_the_handler(autojump_clock: MockClock) -> None:
    probe = Probe()
    async with open_probe(probe) as channel:
        await call_unary(channel, UNARY, message(b""), metadata=[("x-site", "north"), ("x-site", "south")])

    assert probe.last_call is not None
    assert [field for field in probe.last_call.metadata if field[0] == "x-site"] == [
        ("x-site", "north"),
        ("x-site", "south"),
    ]
    assert probe.last_call.peer.address == "in memory"


@pytest.mark.parametrize("field", [("X-Site", "a"), (":path", "/"), ("x", "a\nb"), ("grpc-timeout", "1S")])
async def test_metadata_that_cannot_be_sent_is_refused(
    autojump_clock: MockClock, field: tuple[str, str]
) -> None:
    async with open_probe(Probe()) as channel:
        with pytest.raises(ValueError, match="metadata"):
            await call_unary(channel, UNARY, message(b""), metadata=[field])
        assert (await call_unary(channel, UNARY, message(b"on"))).value == b"on"


async def test_leaving_a_call_cancels_its_handler(autojump_clock: MockClock) -> None:
    probe = Probe()
    async with open_probe(probe) as channel:
        async with channel.open_call(HANG):
            await probe.hung.wait()
        await probe.cancelled.wait()

    assert trio.current_time() < 2.5


async def test_closing_the_channel_cancels_its_handlers(autojump_clock: MockClock) -> None:
    probe = Probe()
    async with open_probe(probe) as channel, channel.open_call(HANG):
        await probe.hung.wait()

    assert probe.cancelled.is_set()


async def test_the_deadline_ends_the_call_at_its_time_on_both_sides(autojump_clock: MockClock) -> None:
    probe = Probe()
    began = trio.current_time()
    async with open_probe(probe) as channel:
        with pytest.raises(RpcError) as caught:
            async with channel.open_call(HANG, timeout_s=3) as call:
                await call.receive()
        await probe.cancelled.wait()
        ended = trio.current_time()

    assert caught.value.status is StatusCode.DEADLINE_EXCEEDED
    assert ended - began == pytest.approx(3, abs=0.01)


async def test_a_call_may_have_all_the_time_there_is(autojump_clock: MockClock) -> None:
    async with open_probe(Probe()) as channel:
        assert (await call_unary(channel, UNARY, message(b"x"), timeout_s=math.inf)).value == b"x"


async def test_an_exception_inside_a_channel_is_raised_as_it_is(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(LookupError):  # one level: the nursery in `open_probe`
        async with open_probe(Probe()) as channel, channel.open_call(HANG):
            raise LookupError("mine")


async def test_a_channel_leaks_no_exception_group(autojump_clock: MockClock) -> None:
    ours, _theirs = trio.testing.memory_stream_pair()
    with pytest.raises(LookupError):
        async with open_channel(ours, authority="probe"):
            raise LookupError("mine")


async def test_a_channel_whose_server_is_gone_is_unavailable(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with open_channel(ours, authority="probe") as channel:
        await theirs.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (await failure(channel, UNARY)).status is StatusCode.UNAVAILABLE


async def test_a_lost_connection_ends_a_waiting_call_as_unavailable(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with open_channel(ours, authority="probe") as channel, trio.open_nursery() as nursery:
        nursery.start_soon(failure, channel, UNARY)
        await trio.testing.wait_all_tasks_blocked()
        await theirs.aclose()


async def test_a_server_that_is_cancelled_never_sends_ok(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    probe = Probe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, theirs, probe.services)
        async with open_channel(ours, authority="probe") as channel, channel.open_call(HANG) as call:
            await probe.hung.wait()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True), pytest.raises(RpcError) as caught:
                await call.receive()

    assert caught.value.status is StatusCode.UNAVAILABLE


async def test_a_message_cut_off_by_a_cancellation_ends_the_call(autojump_clock: MockClock) -> None:
    # The handler reads nothing, so the message waits for the flow control half-way.
    probe = Probe()
    async with open_probe(probe) as channel, channel.open_call(HANG) as call:
        await call.send(message(bytes(3_000_000)))
        with trio.move_on_after(1):
            await call.send(message(bytes(3_000_000)))
        with pytest.raises(RpcError) as caught:
            await call.send(message(b"never understood"))
        await probe.cancelled.wait()

    assert caught.value.status is StatusCode.CANCELLED
