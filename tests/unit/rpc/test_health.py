import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.unit.rpc.probe import call_unary
from trioder.rpc import RpcError, Services, StatusCode, health_pb2, open_channel, serve_connection
from trioder.rpc.health import HEALTH_CHECK, HEALTH_WATCH, HealthStatus, health_services

STATES = health_pb2.HealthCheckResponse


async def test_a_check_returns_the_status_of_a_service(autojump_clock: MockClock) -> None:
    board = HealthStatus()
    board.set_serving("down", False)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, theirs, Services(health_services(board)))
        async with open_channel(ours, authority="x") as channel:
            states = [
                (await call_unary(channel, HEALTH_CHECK, health_pb2.HealthCheckRequest(service=name))).status
                for name in ("", "down")
            ]
            with pytest.raises(RpcError) as caught:
                await call_unary(channel, HEALTH_CHECK, health_pb2.HealthCheckRequest(service="nobody"))

    assert states == [STATES.SERVING, STATES.NOT_SERVING]
    assert caught.value.status is StatusCode.NOT_FOUND


async def test_a_watch_sends_each_change_once(autojump_clock: MockClock) -> None:
    board = HealthStatus()
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, theirs, Services(health_services(board)))
        async with open_channel(ours, authority="x") as channel, channel.open_call(HEALTH_WATCH) as call:
            await call.send(health_pb2.HealthCheckRequest(service="new"))
            statuses = [(await call.receive()).status]
            for serving in (True, True, False):
                board.set_serving("new", serving)
                await trio.testing.wait_all_tasks_blocked()
            statuses += [(await call.receive()).status for _ in range(2)]

    assert statuses == [STATES.SERVICE_UNKNOWN, STATES.SERVING, STATES.NOT_SERVING]
