"""A link that is cut, silent or slow, over in-memory streams in virtual time."""

import ssl
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from trioder.access.tls_stream import TlsStream
from trioder.agent.faulty_link import FaultyLink


@dataclass
class Network:
    """Where the link goes: the far ends of its connections."""

    far: list[trio.StapledStream] = field(default_factory=list)

    async def dial(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        near, far = memory_stream_pair()
        self.far.append(far)
        return near


async def connected() -> tuple[FaultyLink, trio.abc.Stream, trio.StapledStream]:
    network = Network()
    link = FaultyLink(network.dial)
    return link, await link.dial(), network.far[0]


async def test_without_a_fault_data_pass_at_once(autojump_clock: MockClock) -> None:
    _, near, far = await connected()
    await near.send_all(b"up")
    assert await far.receive_some() == b"up"
    await far.send_all(b"down")
    assert await near.receive_some() == b"down"
    assert trio.current_time() == 0.0


async def test_a_cut_breaks_whoever_waits_and_whoever_comes_later(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    link, near, _ = await connected()
    broken = trio.Event()

    async def read() -> None:
        with pytest.raises(trio.BrokenResourceError, match="the scenario cut the link"):
            await near.receive_some()
        broken.set()

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    link.cut(1)
    await broken.wait()
    for act in (near.send_all(b"x"), near.receive_some(), near.wait_send_all_might_not_block()):
        with pytest.raises(trio.BrokenResourceError):
            await act


async def test_the_other_end_sees_the_end_of_a_cut_connection(autojump_clock: MockClock) -> None:
    link, near, far = await connected()
    link.cut(1)
    await near.aclose()
    assert await far.receive_some() == b""


async def test_a_cut_link_refuses_connections_until_it_is_restored(autojump_clock: MockClock) -> None:
    link, _, _ = await connected()
    link.cut(1)
    link.cut(2)
    await link.restore(1)
    with pytest.raises(OSError, match="the scenario cut the link"):
        await link.dial()
    await link.restore(2)
    near = await link.dial()
    await near.send_all(b"x")


async def test_a_connection_that_was_broken_once_can_be_made_again_at_once(autojump_clock: MockClock) -> None:
    link, near, _ = await connected()
    link.break_connections()
    with pytest.raises(trio.BrokenResourceError):
        await near.send_all(b"x")
    await (await link.dial()).send_all(b"x")


async def test_nothing_passes_a_silent_link_and_nobody_is_notified(autojump_clock: MockClock) -> None:
    link, near, far = await connected()
    link.silence(1)
    await far.send_all(b"down")
    for wait in (near.receive_some, lambda: near.send_all(b"up"), link.dial):
        with trio.move_on_after(1000.0) as scope:
            await wait()
        assert scope.cancelled_caught


async def test_what_was_under_way_in_a_silence_arrives_after_it(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    link, near, far = await connected()
    link.silence(1)
    nursery.start_soon(near.send_all, b"up")
    await far.send_all(b"down")
    await trio.sleep(60.0)
    await link.restore(1)
    assert await near.receive_some() == b"down"
    assert await far.receive_some() == b"up"


async def test_the_other_end_of_a_connection_closed_in_a_silence_stays_half_open_until_its_end(
    autojump_clock: MockClock,
) -> None:
    link, near, far = await connected()
    link.silence(1)
    await near.aclose()
    with trio.move_on_after(1000.0) as scope:
        await far.receive_some()
    assert scope.cancelled_caught
    await link.restore(1)
    assert await far.receive_some() == b""


async def test_a_slow_link_delays_by_its_latency_and_its_bandwidth_each_way(
    autojump_clock: MockClock,
) -> None:
    link, near, far = await connected()
    link.slow_down(1, delay_s=0.5, bytes_per_s=100.0)
    await near.send_all(bytes(200))
    assert trio.current_time() == pytest.approx(2.5)
    await far.send_all(bytes(50))
    await near.receive_some()
    assert trio.current_time() == pytest.approx(3.5)
    await link.restore(1)
    await near.send_all(bytes(200))
    assert trio.current_time() == pytest.approx(3.5)


async def test_the_link_is_below_tls(autojump_clock: MockClock) -> None:
    context = ssl.create_default_context()

    async def dial() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return TlsStream(memory_stream_pair()[0], context, server_hostname="headend")

    link = FaultyLink(dial)
    stream = await link.dial()
    # The channel does its handshake by its type.
    assert isinstance(stream, TlsStream)
    link.cut(1)
    with pytest.raises(trio.BrokenResourceError, match="the scenario cut the link"):
        await stream.do_handshake()


async def test_a_closed_connection_says_so(autojump_clock: MockClock) -> None:
    _, near, _ = await connected()
    await near.aclose()
    await near.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await near.send_all(b"x")
