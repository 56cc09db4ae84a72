import pytest
import trio
import trio.testing

from tests.unit.rpc.probe import HANG, UNARY, Probe, call_unary, message, open_probe
from tests.unit.rpc.raw_peer import REQUEST, open_raw_client
from trioder.rpc import RpcError, StatusCode, open_channel


async def test_a_silent_server_is_found_within_15_s(autojump_clock: trio.testing.MockClock) -> None:
    ours, _theirs = trio.testing.memory_stream_pair()
    began = trio.current_time()
    async with open_channel(ours, authority="probe") as channel:
        with pytest.raises(RpcError, match="silent for 15 s") as caught:
            await call_unary(channel, UNARY, message(b""))

    assert caught.value.status is StatusCode.UNAVAILABLE
    assert trio.current_time() - began <= 16.1


async def test_a_silent_client_is_found_within_15_s(autojump_clock: trio.testing.MockClock) -> None:
    probe = Probe()
    async with open_raw_client(probe) as client:
        await client.request([*REQUEST[:2], (":path", "/probe.Probe/Hang"), *REQUEST[3:]])
        sent_s = trio.current_time()
        await probe.cancelled.wait()

    assert trio.current_time() - sent_s <= 15.5


async def test_a_quiet_connection_stays_open(autojump_clock: trio.testing.MockClock) -> None:
    async with open_probe(Probe()) as channel:
        async with channel.open_call(HANG):
            await trio.sleep(3600)
        assert (await call_unary(channel, UNARY, message(b"on"))).value == b"on"


async def test_a_process_that_was_stopped_for_a_while_gives_its_peer_time() -> None:
    clock = trio.testing.MockClock()

    async def check() -> None:
        async with open_probe(Probe()) as channel:
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(60)
            await trio.testing.wait_all_tasks_blocked()
            assert (await call_unary(channel, UNARY, message(b"on"))).value == b"on"
            clock.autojump_threshold = 0

    # In a thread: a run with a clock of its own inside this one.
    await trio.to_thread.run_sync(lambda: trio.run(check, clock=clock))
