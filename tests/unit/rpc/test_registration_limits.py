"""Peers that have not registered: how long they may take, how many of an address, whose turn it is."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from h2.errors import ErrorCodes
from trio.testing import MockClock

from tests.unit.rpc.limited import (
    Passes,
    calling,
    goaways,
    open_limited,
    until_answered,
    written,
)
from trioder.rpc import PeerLimits, StatusCode
from trioder.rpc.peer_limits import PeerBudget


async def test_a_peer_has_so_long_to_register(autojump_clock: MockClock) -> None:
    async with open_limited(register_within_s=10) as server:
        agent = await server.registered()
        stranger = await server.client()
        call = await stranger.request(calling("Hang"), None)
        for _ in range(9):
            await stranger.receive()
            await trio.sleep(1)
        await stranger.receive()
        assert not goaways(stranger)
        for _ in range(2):
            await trio.sleep(1)
            await stranger.receive()
            await agent.receive()

        assert stranger.fields_on(call)["grpc-status"] == str(StatusCode.DEADLINE_EXCEEDED.value)
        assert goaways(stranger) == [ErrorCodes.NO_ERROR]
        assert not goaways(agent)
        assert server.limits.refusals.counts["register_timeout"] == 1


async def test_a_peer_that_leaves_has_as_long_to_register_again(autojump_clock: MockClock) -> None:
    async with open_limited() as server:
        agent = await server.client()
        call = await server.register(agent)
        assert (server.limits.registered_count, server.limits.unregistered_count) == (1, 0)
        agent.h2.reset_stream(call, ErrorCodes.CANCEL)
        await agent.receive()
        assert (server.limits.registered_count, server.limits.unregistered_count) == (0, 1)
        await trio.sleep(8)
        await server.register(agent)
        await trio.sleep(8)
        await agent.receive()

        assert not goaways(agent)


async def test_peers_of_one_address_wait_for_each_other_only(
    autojump_clock: MockClock,
) -> None:
    async with open_limited(max_unregistered_per_address=2) as server:
        first, _ = [await server.client("192.0.2.1") for _ in range(2)]
        waiting = await server.client("192.0.2.1")
        stream_id = await waiting.request(calling("Unary"))
        await waiting.receive()
        assert not waiting.events
        assert await until_answered(await server.client("192.0.2.2")) < 1

        await server.register(first)
        await waiting.receive()
        assert waiting.fields_on(stream_id)["grpc-status"] == "0"


async def test_a_crowd_of_one_address_is_all_registered_in_order(autojump_clock: MockClock) -> None:
    async with open_limited(max_unregistered_per_address=4) as server:
        crowd = [await server.client() for _ in range(40)]
        async with trio.open_nursery() as nursery:
            for client in crowd:
                nursery.start_soon(server.register, client)

        assert server.limits.registered_count == 40
        assert sum(server.limits.refusals.counts.values()) == 0


async def test_silent_peers_are_closed_for_those_that_wait(autojump_clock: MockClock) -> None:
    async with open_limited(max_unregistered_per_address=2) as server:
        silent = [await server.client() for _ in range(2)]
        waiting = await server.client()
        assert 5 < await until_answered(waiting) < 7
        for client in silent:
            await client.receive()

        assert sum(len(goaways(client)) for client in silent) == 1
        assert server.limits.refusals.counts["silent"] == 1


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
async def test_a_site_of_ipv6_is_one_address(
    one: str, other: str, together: bool, autojump_clock: MockClock
) -> None:
    async with open_limited(max_unregistered_per_address=1) as server:
        await server.client(one)
        second = await server.client(other)
        await second.receive()

        assert bool(second.events) is not together


async def test_agents_that_come_at_once_are_registered_one_a_pass(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = Passes()
    registered: list[int] = []
    register = PeerBudget.register

    def recorded(budget: PeerBudget) -> None:
        registered.append(passes.count)
        register(budget)

    async with open_limited() as server:
        clients = [await server.client() for _ in range(20)]
        for client in clients:
            stream_id = client.h2.get_next_available_stream_id()
            client.h2.send_headers(stream_id, calling("Register"))
            client.h2.send_data(stream_id, written(10))
        monkeypatch.setattr(PeerBudget, "register", recorded)
        trio.lowlevel.add_instrument(passes)
        async with trio.open_nursery() as nursery:
            for client in clients:
                # All of them in the same pass.
                nursery.start_soon(client.flush)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(passes)

    assert len(registered) == len(set(registered)) == 20


async def test_flooding_peers_delay_neither_first_messages_nor_handshakes(autojump_clock: MockClock) -> None:
    limits = PeerLimits()
    passes = Passes()
    waited: dict[str, int] = {}

    async def wait(name: str, turn: Callable[[], Awaitable[None]]) -> None:
        await turn()
        waited[name] = passes.count

    trio.lowlevel.add_instrument(passes)
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(wait, f"flood {number}", limits.turns.next_slice)
        nursery.start_soon(wait, "first", limits.turns.next_first_slice)
        nursery.start_soon(wait, "handshake", limits.turns.next_handshake_step)
    trio.lowlevel.remove_instrument(passes)

    assert max(waited["first"], waited["handshake"]) <= 3
    assert max(waited.values()) >= 100
