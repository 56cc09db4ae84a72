"""A grpcio client of our server."""

import signal
import sys
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

import grpc
import pytest
import trio

from tests.integration.rpc.conftest import PEER, Serve
from tests.integration.rpc.grpcio_peer import BIG, Stubs
from tests.unit.rpc.probe import UNICODE, message
from trioder.rpc import Services
from trioder.rpc import health_pb2 as pb
from trioder.rpc.health import HealthStatus, health_services

T = TypeVar("T")


async def with_stubs(port: int, use: Callable[[Stubs], T]) -> T:
    """Run what blocks, with a channel, in a thread."""

    def run() -> T:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=BIG) as channel:
            return use(Stubs(channel))

    return await trio.to_thread.run_sync(run)


def failure(call: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


async def test_every_kind_of_call_is_answered(serve: Serve) -> None:
    def use(stubs: Stubs) -> tuple[Any, ...]:
        return (
            stubs.unary(message(b"one")).value,
            [answer.value for answer in stubs.count(message(b"3"))],
            stubs.join(message(part) for part in (b"a", b"b", b"c")).value,
            [answer.value for answer in stubs.echo(message(part) for part in (b"x", b"y"))],
        )

    async with serve() as server:
        answers = await with_stubs(server.port, use)

    assert answers == (b"one", [b"0", b"1", b"2"], b"abc", [b"x", b"y"])


async def test_bidirectional_messages_are_answered_one_by_one(serve: Serve) -> None:
    def use(stubs: Stubs) -> list[bytes]:
        requests: SimpleQueue[bytes | None] = SimpleQueue()
        answers = stubs.echo(map(message, iter(requests.get, None)))
        received = []
        for number in range(5):
            # The next is sent only after the response to the one before.
            requests.put(b"%d" % number)
            received.append(next(answers).value)
        requests.put(None)
        return received

    async with serve() as server:
        assert await with_stubs(server.port, use) == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_refusal_carries_its_status_and_text(serve: Serve) -> None:
    async with serve() as server:
        received = await with_stubs(server.port, lambda stubs: failure(lambda: stubs.refuse(message(b""))))

    assert received == ("FAILED_PRECONDITION", UNICODE)


async def test_a_crash_is_internal_and_its_text_is_not_sent(serve: Serve) -> None:
    async with serve() as server:
        received = await with_stubs(server.port, lambda stubs: failure(lambda: stubs.crash(message(b""))))

    assert received == ("INTERNAL", "internal error")


async def test_an_unknown_method_is_unimplemented(serve: Serve) -> None:
    async with serve() as server:
        status, _ = await with_stubs(server.port, lambda stubs: failure(lambda: stubs.nowhere(message(b""))))

    assert status == "UNIMPLEMENTED"


async def test_a_cancelled_call_cancels_its_handler(serve: Serve) -> None:
    def use(stubs: Stubs) -> None:
        call = stubs.hang(iter([message(b"")]))
        trio.from_thread.run(server.probe.hung.wait)
        call.cancel()
        trio.from_thread.run(server.probe.cancelled.wait)

    async with serve() as server:
        await with_stubs(server.port, use)
        assert server.probe.hanging == 0


async def test_a_killed_client_cancels_its_handlers(serve: Serve) -> None:
    async with serve() as server:
        process = await trio.lowlevel.open_process([sys.executable, str(PEER), "hang", str(server.port)])
        await server.probe.hung.wait()
        killed_at = trio.current_time()
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await server.probe.cancelled.wait()
        assert trio.current_time() - killed_at < 2


async def test_the_clients_deadline_ends_the_call_on_both_sides(serve: Serve) -> None:
    def use(stubs: Stubs) -> tuple[str, str]:
        return failure(lambda: list(stubs.hang(iter([message(b"")]), timeout=0.3)))

    async with serve() as server:
        status, _ = await with_stubs(server.port, use)
        await server.probe.cancelled.wait()

    assert status == "DEADLINE_EXCEEDED"


async def test_messages_of_4_mib_go_both_ways(serve: Serve) -> None:
    payload = bytes(range(256)) * 16 * 1023  # leaves room for the envelope below 4 MiB

    async with serve() as server:
        answer = await with_stubs(server.port, lambda stubs: stubs.unary(message(payload)).value)

    assert answer == payload


async def test_a_larger_message_ends_its_call_alone(serve: Serve) -> None:
    def use(stubs: Stubs) -> tuple[str, bytes]:
        status, _ = failure(lambda: stubs.unary(message(bytes(5 << 20))))
        return status, stubs.unary(message(b"still here")).value

    async with serve() as server:
        assert await with_stubs(server.port, use) == ("RESOURCE_EXHAUSTED", b"still here")


async def test_compression_is_refused_clearly(serve: Serve) -> None:
    def use(stubs: Stubs) -> tuple[str, str]:
        return failure(lambda: stubs.unary(message(bytes(2000)), compression=grpc.Compression.Gzip))

    async with serve() as server:
        received = await with_stubs(server.port, use)

    assert received == ("UNIMPLEMENTED", "compressed messages are not supported")


async def test_a_thousand_calls_are_open_on_one_connection(serve: Serve) -> None:
    def use(stubs: Stubs) -> int:
        calls = [stubs.hang(iter([message(b"")])) for _ in range(200)]
        pending = [stubs.unary.future(message(b"%d" % number)) for number in range(1000)]
        answers = {call.result().value for call in pending}
        for call in calls:
            call.cancel()
        return len(answers)

    async with serve() as server:
        assert await with_stubs(server.port, use) == 1000


async def test_draining_lets_the_calls_in_flight_end(serve: Serve) -> None:
    def use(stubs: Stubs) -> tuple[bytes, bytes, str]:
        requests: SimpleQueue[bytes | None] = SimpleQueue()
        answers = stubs.echo(map(message, iter(requests.get, None)))
        requests.put(b"before")
        before = next(answers).value
        trio.from_thread.run_sync(server.drain.set)
        requests.put(b"after")
        after = next(answers).value
        requests.put(None)
        assert list(answers) == []
        return before, after, answers.code().name

    async with serve() as server:
        assert await with_stubs(server.port, use) == (b"before", b"after", "OK")
        await server.ended.wait()


async def test_health_is_checked_and_watched(serve: Serve) -> None:
    board = HealthStatus()
    board.set_serving("probe.Probe", False)

    def run() -> tuple[str, list[int], list[int]]:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            codec = {
                "request_serializer": pb.HealthCheckRequest.SerializeToString,
                "response_deserializer": pb.HealthCheckResponse.FromString,
            }
            check = channel.unary_unary("/grpc.health.v1.Health/Check", **codec)
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch", **codec)
            unknown, _ = failure(lambda: check(pb.HealthCheckRequest(service="x")))
            checked = [check(pb.HealthCheckRequest(service=name)).status for name in ("", "probe.Probe")]
            changes = watch(pb.HealthCheckRequest(service="probe.Probe"))
            watched = [next(changes).status]
            trio.from_thread.run_sync(board.set_serving, "probe.Probe", True)
            watched.append(next(changes).status)
            changes.cancel()
            return unknown, checked, watched

    async with serve(services=Services(health_services(board))) as server:
        unknown, checked, watched = await trio.to_thread.run_sync(run)

    states = pb.HealthCheckResponse
    assert unknown == "NOT_FOUND"
    assert checked == [states.SERVING, states.NOT_SERVING]
    assert watched == [states.NOT_SERVING, states.SERVING]
