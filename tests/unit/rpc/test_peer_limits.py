"""Peers that exceed the shared limits of memory, of calls and of unread responses."""

from dataclasses import replace

import trio
import trio.testing
from h2.errors import ErrorCodes
from trio.testing import MockClock

from tests.unit.rpc.limited import (
    FIRST_MESSAGE_BYTES,
    calling,
    goaways,
    open_limited,
    until_answered,
    written,
)
from tests.unit.rpc.probe import DEFAULTS
from tests.unit.rpc.raw_peer import RawClient
from trioder.rpc import PeerLimits, StatusCode
from trioder.rpc.framing import framed
from trioder.rpc.peer_limits import CALL_BYTES, CONNECTION_BYTES, TLS_BYTES

EXHAUSTED = str(StatusCode.RESOURCE_EXHAUSTED.value)


async def hold(client: RawClient, count: int, name: str = "Hang") -> int:
    """Send `count` bytes of a message that is not finished, as far as the server takes them."""
    stream_id: int = client.h2.get_next_available_stream_id()
    client.h2.send_headers(stream_id, calling(name))
    rest = written(count + 100)[:count]
    while rest and not client.server_ended.is_set():
        room = min(client.h2.local_flow_control_window(stream_id), 16_384, len(rest))
        client.h2.send_data(stream_id, rest[:room])
        rest = rest[room:]
        await client.receive()
        if client.fields_on(stream_id) or stream_id in client.resets() or goaways(client):
            break
    return stream_id


async def test_an_unregistered_peer_holds_so_much_and_not_more(autojump_clock: MockClock) -> None:
    async with open_limited(unregistered_bytes=50_000) as server:
        client = await server.client()
        first = await hold(client, 30_000)
        second = await hold(client, 30_000)

        assert client.fields_on(second)["grpc-status"] == EXHAUSTED
        assert not client.fields_on(first)
        assert server.limits.refusals.counts["call_bounds"] == 1


async def test_unreceived_messages_count_as_well(autojump_clock: MockClock) -> None:
    async with open_limited(unregistered_bytes=50_000) as server:
        client = await server.client()
        stream_id: int = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream_id, calling("Hang"))
        for _ in range(10):
            client.h2.send_data(stream_id, framed(b"") * 200)  # 1,000 bytes each time
        await client.receive()

        assert client.fields_on(stream_id)["grpc-status"] == EXHAUSTED


async def test_calls_count_as_well(autojump_clock: MockClock) -> None:
    async with open_limited(unregistered_bytes=5 * CALL_BYTES) as server:
        client = await server.client()
        for _ in range(8):
            await client.request(calling("Hang"), None)
        await client.receive()

        assert list(client.resets().values()) == [ErrorCodes.REFUSED_STREAM] * 3
        assert server.probe.hanging == 5


async def test_only_the_method_that_registers_takes_a_large_first_message(autojump_clock: MockClock) -> None:
    async with open_limited() as server:
        client = await server.client()
        registering = await hold(client, 200_000, "Register")
        again = await hold(client, 200_000, "Register")
        other = await hold(client, 200_000, "Hang")

        assert not client.fields_on(registering)
        assert client.fields_on(again)["grpc-status"] == EXHAUSTED
        assert client.fields_on(other)["grpc-status"] == EXHAUSTED

        client = await server.client()
        too_large = await hold(client, FIRST_MESSAGE_BYTES + 70_000, "Register")
        assert client.fields_on(too_large)["grpc-status"] == EXHAUSTED


async def test_what_a_peer_holds_is_counted_until_it_is_received_or_its_connection_ends(
    autojump_clock: MockClock,
) -> None:
    async with open_limited() as server:
        empty = server.limits.used_bytes
        registered = await server.registered()
        client = await server.client()
        idle = server.limits.used_bytes
        await hold(client, 40_000)
        assert server.limits.used_bytes >= idle + 40_000

        await client.request(calling("Unary"), written(5000))
        await client.receive()
        assert server.limits.used_bytes < idle + 46_000

        await client.stream.aclose()
        await registered.stream.aclose()
        await trio.sleep(5)
        assert server.limits.used_bytes == empty == 0
        assert server.limits.connections == 0


async def test_all_together_hold_no_more_than_the_budget(autojump_clock: MockClock) -> None:
    budget = 2_000_000
    async with open_limited(memory_bytes=budget, register_within_s=1e6) as server:
        most = 0
        clients = [await server.client(f"192.0.2.{number}") for number in range(20)]
        for client in clients:
            await hold(client, 200_000, "Register")
            most = max(most, server.limits.used_bytes)

        assert budget / 2 < most <= budget + 70_000  # what was read last is counted before it is dropped
        ended = [client for client in clients if goaways(client) or client.server_ended.is_set()]
        assert 0 < server.limits.refusals.counts["memory"] <= 20
        assert all(goaways(client) in ([], [ErrorCodes.ENHANCE_YOUR_CALM]) for client in ended)


async def test_unregistered_peers_are_closed_before_registered_ones(autojump_clock: MockClock) -> None:
    async with open_limited(memory_bytes=700_000, register_within_s=1e6) as server:
        agent = await server.registered()
        await hold(agent, 50_000)
        strangers = [await server.client() for _ in range(5)]
        for stranger in strangers:
            await hold(stranger, 150_000, "Register")
        await trio.sleep(3)
        await agent.receive()

        assert server.limits.refusals.counts["memory"] >= 2
        assert not goaways(agent)
        assert server.limits.registered_count == 1


async def test_the_largest_is_closed_first_with_a_status(autojump_clock: MockClock) -> None:
    async with open_limited(memory_bytes=700_000, register_within_s=1e6) as server:
        small = await server.client()
        await hold(small, 20_000, "Register")
        large = await server.client()
        stream_id = await hold(large, 250_000, "Register")
        for _ in range(2):
            await hold(await server.client(), 150_000, "Register")
        await large.receive()
        await small.receive()

        assert large.fields_on(stream_id)["grpc-status"] == EXHAUSTED
        assert goaways(large) == [ErrorCodes.ENHANCE_YOUR_CALM]
        assert not goaways(small)


async def test_calls_as_fast_as_can_be_end_the_connection(autojump_clock: MockClock) -> None:
    options = replace(DEFAULTS, calls_at_once=50, calls_per_s=10.0)
    async with open_limited(connection=options) as server:
        conforming = await server.client()
        for _ in range(40):
            await until_answered(conforming)
        hasty = await server.client()
        for number in range(1, 121, 2):
            hasty.h2.send_headers(number, calling("Nowhere"), end_stream=True)
        await hasty.receive()
        await conforming.receive()

        assert goaways(hasty) == [ErrorCodes.ENHANCE_YOUR_CALM]
        assert not goaways(conforming)
        assert server.limits.refusals.counts["call_rate"] == 1


async def test_a_peer_that_reads_nothing_is_closed(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with open_limited() as server, trio.open_nursery() as nursery:
        nursery.start_soon(server._serve, theirs, "192.0.2.1")
        client = RawClient(ours)
        await client.flush()
        await client.request(calling("Register"), written(10))
        with trio.fail_after(60):
            while server.limits.connections:
                await client.send(b"\0\0\4\x08\0\0\0\0\0\0\0\0\1")  # WINDOW_UPDATE: not silent
                await trio.sleep(1)

        assert server.limits.refusals.counts["unread_responses"] == 1


async def test_a_tls_session_is_charged_until_its_peer_has_registered(autojump_clock: MockClock) -> None:
    limits = PeerLimits()
    budget = limits.open_budget("192.0.2.1")
    async with limits.serving(budget):
        budget.begin_handshake()
        assert limits.used_bytes == CONNECTION_BYTES + TLS_BYTES
        budget.register()
        assert limits.used_bytes == 0
        budget.unregister()
        assert limits.used_bytes == CONNECTION_BYTES
    assert limits.used_bytes == 0
